// The configuration, read again in a run: new connections get the new one, sessions go on, and what is wrong changes nothing.
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { parseAll, startBackend } from "./support/backend.mjs";
import { SECRET, call, eventually, serve, sign } from "./support/client.mjs";
import { rawConnect } from "./support/raw.mjs";
import { startServer } from "./support/server.mjs";

const TAKEN = "new connections get the configuration that was read now; sessions go on";
const KEPT = "the configuration was not taken: the one before is kept";

const KEY = "the key of the test's API";
const env = { SAYWHY_API_KEY: KEY };

const token = (secret, sub = "alice") =>
  sign({ sub, exp: Math.floor(Date.now() / 1_000) + 600, rooms: { "*": ["join", "send", "history", "members", "manage"] } }, secret);

/** Writes another configuration, and resolves to what the server says about it. */
async function reread(server, config, message = TAKEN) {
  const said = () => server.lines().filter((line) => line.message === message);
  const before = said().length;
  writeFileSync(server.file, config);
  process.kill(server.pid, "SIGHUP");
  await eventually(() => said().length > before);
  return said().at(-1);
}

/** Resolves when the back end has heard what the peer says. */
async function reaches(peer, backend, text) {
  await peer.sendFrame({ opcode: 1, payload: text });
  const heard = () => backend.peers.flatMap(({ heard }) => parseAll(heard)).some(({ payload }) => String(payload) === text);
  await eventually(heard);
}

describe("reading the configuration again", { timeout: 120_000 }, () => {
  test("new connections go to the new upstream, the others stay where they are", async (t) => {
    const [first, second] = await Promise.all([startBackend(), startBackend()]);
    t.after(() => [first, second].forEach(({ stop }) => stop()));
    const to = ({ url }, more = "") => `[[route]]\npath = "/"\nupstream = "${url}"\n${more}`;
    const server = await serve(t, { env, config: to(first) });
    const at = (path) => new URL(path, server.url).href;
    const old = await rawConnect(at("/quiet"));
    await reaches(old, first, "one");
    assert.equal((await reread(server, to(second))).sessions, 1);
    const next = await rawConnect(at("/quiet"));
    await reaches(next, second, "two");
    await reaches(old, first, "three");
    assert.deepEqual([first.peers.length, second.peers.length], [1, 1]);
    // A limit of the route, and one of the whole server.
    await reread(server, to(second, "[limits]\nconnections = 2"));
    const { status, body } = await rawConnect(at("/quiet"));
    assert.deepEqual([status, JSON.parse(body).name], [503, "overloaded"]);
    old.reset();
    next.reset();
  });

  test("a configuration with a mistake changes nothing, and the log says where it is", async (t) => {
    const good = `[token]\nhs256_secret = "${SECRET}"\n[[route]]\npath = "/ws"\nrooms = {}\n`;
    const server = await serve(t, { env, config: good });
    const { problems } = await reread(server, good.replace("rooms", "roms"), KEPT);
    assert.match(problems, /saywhy\.toml:5:1: error: this `\[\[route\]\]` has no key `roms`[^]*did you mean `rooms`\?/);
    assert.ok(!server.log().includes(SECRET));
    const session = await server.open("alice", { token: token(SECRET) });
    assert.equal((await session.ok("join", { room: "lobby" })).room, "lobby");
  });

  test("routes come and go; rooms whose path stays are the same rooms", async (t) => {
    const config = (paths) =>
      `[token]\nhs256_secret = "${SECRET}"\n` + paths.map((path) => `[[route]]\npath = "${path}"\nrooms = {}\n`).join("");
    const server = await serve(t, { env, config: config(["/a", "/b"]) });
    const at = (path) => new URL(path, server.url).href;
    const open = (path, who) => server.open(who, { token: token(SECRET, who), at: at(path) });
    const [ann, ben] = [await open("/a", "ann"), await open("/b", "ben")];
    for (const session of [ann, ben]) await session.ok("join", { room: "lobby" });
    const { routes } = await reread(server, config(["/a", "/c"]));
    assert.equal(routes, "/a /c");
    const refused = server.connect({ at: at("/b"), token: token(SECRET, "carol") });
    assert.equal((await refused.take("error")).data.name, "not_found");
    assert.equal((await refused.closed).code, 4001);
    await (await open("/c", "carol")).ok("join", { room: "lobby" });
    // Who is there goes on being there, on the path that is gone too; and the rooms that stay have their members.
    const dora = await open("/a", "dora");
    assert.deepEqual((await dora.ok("join", { room: "lobby" })).members.toSorted(), ["ann", "dora"]);
    await dora.ok("send", { room: "lobby", body: "hello" });
    assert.equal((await ann.take("message")).data.body, "hello");
    await ben.ok("send", { room: "lobby", body: "still here" });
    const api = (path) => call(server.apiUrl + path, "GET", undefined, { authorization: `Bearer ${KEY}` });
    assert.equal((await api("/connections")).body.total, 4);
    assert.deepEqual((await api("/at/a/rooms/lobby/members")).body.members.toSorted(), ["ann", "dora"]);
    assert.equal((await api("/at/b/rooms")).status, 404);
  });

  test("another secret: old tokens are good no more, and sessions renew theirs with the new one", async (t) => {
    const other = SECRET.replace("a secret", "a second");
    const config = (secret) => `[token]\nhs256_secret = "${secret}"\n[[route]]\npath = "/ws"\nrooms = {}\n`;
    const server = await serve(t, { env, config: config(SECRET) });
    const session = await server.open("alice", { token: token(SECRET) });
    await reread(server, config(other));
    const refused = server.connect({ token: token(SECRET) });
    assert.equal((await refused.take("error")).data.name, "unauthorized");
    await server.open("bob", { token: token(other, "bob") });
    assert.equal((await session.error("authenticate", { token: token(SECRET) })).name, "unauthorized");
    const again = await server.open("alice", { token: token(other) });
    await again.ok("authenticate", { token: token(other) });
  });

  test("what holds until a restart is named, and the rest is taken", async (t) => {
    const config = (listen, waiting) =>
      `listen = "127.0.0.1:${listen}"\n[limits]\nwaiting = ${waiting}\nmessage_bytes = 2000\n` +
      `[token]\nhs256_secret = "${SECRET}"\n[[route]]\npath = "/ws"\nrooms = { presence = ${listen === 1} }\n`;
    const server = await serve(t, { env, config: config(1, 100) });
    await reread(server, config(2, 200));
    const { unchanged, hint } = server.lines().find(({ message }) => /cannot be changed in a run/.test(message));
    // `listen` comes from a flag here, which is above the file.
    assert.equal(unchanged, "limits.waiting, the rooms of /ws");
    assert.equal(hint, "restart it for these");
    assert.equal((await server.open("alice", { token: token(SECRET) })).ready.data.limits.message_bytes, 2_000);
    const development = await reread(server, `[[route]]\npath = "/ws"\nrooms = {}`, "development mode cannot be turned on or off in a run");
    assert.match(development.hint, /restart it/);
  });

  test("under a crowd that comes too often, again and again, nobody waits for anybody", async (t) => {
    const config = (burst) =>
      `[limits]\naddress_connects_per_s = 1\naddress_connect_burst = ${burst}\naddress_refusals_per_s = 1000000\n` +
      `[token]\nhs256_secret = "${SECRET}"\n[[route]]\npath = "/ws"\nrooms = {}\n`;
    const server = await serve(t, { env, config: config(1) });
    let isOver = false;
    let refused = 0;
    const crowd = Array.from({ length: 16 }, async () => {
      while (!isOver) {
        const peer = await rawConnect(server.url, { protocols: ["saywhy.v1"] });
        refused += 1;
        peer.reset();
      }
    });
    // Each changes a rate, while others ask for it and are refused by another.
    for (let n = 0; n < 60; n++) await reread(server, config(1 + (n % 2)));
    isOver = true;
    await Promise.all(crowd);
    assert.ok(refused > 100, `${refused}`);
  });

  test("the limits of rooms that stay are those of the file, and what is fixed at the start stays as it was", async (t) => {
    const config = (bytes, rooms, ms) =>
      `[limits]\nmessage_bytes = ${bytes}\nrooms_per_connection = ${rooms}\nhandshake_ms = ${ms}\n` +
      `[token]\nhs256_secret = "${SECRET}"\n[[route]]\npath = "/ws"\nrooms = { create = "join" }\ntoken_in_first_message = true\n`;
    const server = await serve(t, { env, config: config(2_000, 5, 10_000) });
    await reread(server, config(60_000, 1, 100));
    const session = await server.open("alice", { token: token(SECRET) });
    await session.ok("join", { room: "one" });
    await session.ok("send", { room: "one", body: "x".repeat(10_000) });
    assert.equal((await session.error("join", { room: "two" })).name, "invalid_action");
    assert.equal(server.lines().find(({ unchanged }) => unchanged).unchanged, "limits.handshake_ms");
    // A token may take its time, as before: longer than the file says now.
    const late = server.connect({});
    await once(late.socket, "open");
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal((await late.ask("authenticate", { token: token(SECRET, "late") })).type, "ready");
  });

  test("a path that a router would take for a pattern is a mistake, not a crash", async (t) => {
    const config = (path) => `[token]\nhs256_secret = "${SECRET}"\n[[route]]\npath = "${path}"\nrooms = {}\n`;
    const server = await serve(t, { env, config: config("/ws") });
    for (const path of ["/:any", "/*any", "/a/:b", "/{any}"]) {
      const { problems } = await reread(server, config(path), KEPT);
      assert.match(problems, /a path starts with `\/`/);
    }
    await server.open("alice", { token: token(SECRET) });
  });

  test("without a file there is nothing to read again, and the signal ends it as it does elsewhere", async () => {
    const server = await startServer();
    process.kill(server.pid, "SIGHUP");
    assert.deepEqual(await server.exited, { code: null, signal: "SIGHUP" });
  });
});
