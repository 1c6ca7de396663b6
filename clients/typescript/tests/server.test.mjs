// The client against the real server, through the `WebSocket` of a package that is not ours.
import assert from "node:assert/strict";
import test from "node:test";
import { call, serve } from "../../../tests/support/client.mjs";
import WS from "../../../tests/node_modules/ws/wrapper.mjs";
import { journey } from "../dist/examples/journey.js";
import { connect } from "../dist/index.js";

/** A client of this server, and what it tells: `heard(event)` resolves to what the next such event has. */
function join(t, server, who, options = {}) {
  let sockets = 0;
  const WebSocket = class extends WS {
    constructor(...args) {
      super(...args);
      sockets += 1;
    }
  };
  const token = who && (() => server.mint(who));
  const chat = connect(server.url, { WebSocket, token, ...options });
  t.after(() => chat.close());
  const heard = (event) => new Promise((resolve) => chat.on(event, resolve));
  const messages = chat[Symbol.asyncIterator]();
  const bodies = async (n) => {
    const all = [];
    while (all.length < n) all.push((await messages.next()).value.body);
    return all;
  };
  return { chat, heard, messages, bodies, sockets: () => sockets };
}

const restart = (server, { connectionId }, retry_after_ms = 200) =>
  call(new URL("dev/restart", server.page), "POST", { connection_id: connectionId, retry_after_ms, spread_ms: 100 });

test("without a token it is refused, and told how to be let in", async (t) => {
  const server = await serve(t);
  const { chat, sockets } = join(t, server);
  await assert.rejects(chat.ready(), (error) => {
    const { name, code, source, retry, fatal, closeCode, details } = error;
    assert.deepEqual(
      { name, code, source, retry, fatal, closeCode, details },
      {
        ...{ name: "unauthorized", code: 4003, source: "server", retry: "reauthenticate", fatal: true, closeCode: 4003 },
        details: { reason: "token_missing" },
      },
    );
    assert.match(error.requestId, /^[0-9a-f]{32}$/);
    // The operator finds it by the same id.
    assert.ok(server.log().includes(error.requestId));
    return true;
  });
  assert.equal((await chat.closed).cause.name, "unauthorized");
  assert.equal(sockets(), 1);
});

test("a token that is refused is renewed once", async (t) => {
  const server = await serve(t);
  const reasons = [];
  const tokens = { connect: () => server.mint("alice", { expires_in_s: -60 }), refused: () => server.mint("alice") };
  const token = ({ reason }) => tokens[reasons[reasons.push(reason) - 1]]();
  const { chat } = join(t, server, undefined, { token });
  assert.equal((await chat.ready()).user, "alice");
  assert.deepEqual(reasons, ["connect", "refused"]);
});

test("two talk, and a mistake ends nothing", async (t) => {
  const server = await serve(t);
  const [alice, bob] = [join(t, server, "alice"), join(t, server, "bob")];
  for (const { chat } of [alice, bob]) {
    const { ok, data } = await chat.request("join", { room: "lobby" });
    assert.equal(ok, true);
    assert.equal(data.recovered, false);
  }
  const { ok, error } = await alice.chat.request("join", { room: "nowhere" });
  assert.deepEqual([ok, error.name, error.fatal], [false, "not_found", false]);
  const { status, reply } = alice.chat.send("lobby", { text: "hi" });
  assert.equal(status, "sent");
  const { data } = await reply;
  const { value } = await bob.messages.next();
  assert.deepEqual([value.room, value.from, value.body, value.position], ["lobby", "alice", { text: "hi" }, data.position]);
  const history = await bob.chat.request("history", { room: "lobby" });
  assert.deepEqual(history.data.messages.map(({ body }) => body), [{ text: "hi" }]);
  assert.deepEqual((await bob.chat.request("members", { room: "lobby" })).data, { members: ["alice", "bob"] });
  assert.equal(alice.chat.state, "ready");
  const { cause, close } = await alice.chat.close(4000, "good night");
  assert.deepEqual([cause.source, close.code, close.wasClean], ["client", 4000, true]);
});

test("across a restart it says what it waits for, comes back, and misses nothing", async (t) => {
  const server = await serve(t);
  const [alice, bob] = [join(t, server, "alice"), join(t, server, "bob")];
  for (const { chat } of [alice, bob]) assert.ok((await chat.request("join", { room: "lobby" })).ok);
  for (let n = 0; n < 10; n += 1) bob.chat.send("lobby", n);
  assert.deepEqual(await alice.bodies(10), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);

  const [waiting, rejoined] = [alice.heard("waiting"), alice.heard("rejoined")];
  assert.equal((await restart(server, await alice.chat.ready())).status, 204);
  const { cause, delayMs, attempt } = await waiting;
  assert.deepEqual([cause.name, cause.source, cause.closeCode, attempt], ["service_restart", "server", 1012, 1]);
  assert.ok(delayMs >= 200 && delayMs <= 300, delayMs);
  for (let n = 10; n < 30; n += 1) bob.chat.send("lobby", n);
  const meanwhile = alice.chat.send("lobby", "me too");
  assert.equal(meanwhile.status, "queued");
  assert.deepEqual(await rejoined, { room: "lobby", recovered: true, members: ["alice", "bob"] });
  assert.ok((await meanwhile.reply).ok);
  assert.deepEqual(await alice.bodies(21), [...[...Array(20).keys()].map((n) => n + 10), "me too"]);
  assert.equal(alice.sockets(), 2);
});

test("history that is gone is told, and the room goes on", async (t) => {
  const server = await serve(t);
  const [alice, bob] = [join(t, server, "alice"), join(t, server, "bob")];
  assert.ok((await alice.chat.request("join", { room: "lobby" })).ok);
  const [waiting, lost, rejoined] = [alice.heard("waiting"), alice.heard("history_lost"), alice.heard("rejoined")];
  await restart(server, await alice.chat.ready());
  await waiting;
  await server.api("DELETE", "/rooms/lobby");
  await server.api("PUT", "/rooms/lobby", { state: "open" });
  const { room, reason, error } = await lost;
  assert.deepEqual([room, reason, error.name, error.source], ["lobby", "epoch_changed", "history_lost", "server"]);
  assert.equal((await rejoined).recovered, false);
  await bob.chat.request("join", { room: "lobby" });
  bob.chat.send("lobby", "anew");
  assert.deepEqual(await alice.bodies(1), ["anew"]);
});

test("who is kicked is told why, and does not come back", async (t) => {
  const server = await serve(t);
  const { chat, messages, sockets } = join(t, server, "alice");
  const { connectionId } = await chat.ready();
  await server.api("DELETE", `/connections/${connectionId}`, { message: "Spam is not welcome here" });
  const { cause, close } = await chat.closed;
  assert.deepEqual([cause.name, cause.message, cause.retry, cause.requestId], ["kicked", "Spam is not welcome here", "never", connectionId]);
  assert.deepEqual(close, { code: 4008, reason: "Spam is not welcome here", wasClean: true });
  assert.deepEqual(await messages.next(), { done: true, value: undefined });
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  assert.equal(sockets(), 1);
});

test("a session outlives its token", async (t) => {
  const server = await serve(t);
  const reasons = [];
  const token = ({ reason }) => server.mint("alice", { expires_in_s: reasons.push(reason) === 1 ? 2 : 3_600 });
  const { chat, sockets } = join(t, server, undefined, { token });
  await chat.ready();
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  assert.deepEqual(reasons, ["connect", "expiring"]);
  assert.deepEqual([chat.state, sockets()], ["ready", 1]);
});

test("a server that stands still is noticed, and found again", async (t) => {
  const server = await serve(t, { config: "[limits]\nheartbeat_ms = 500\n" });
  const { chat, heard } = join(t, server, "alice", { random: () => 0.1 });
  await chat.ready();
  const waiting = heard("waiting");
  process.kill(server.pid, "SIGSTOP");
  const { cause } = await waiting;
  process.kill(server.pid, "SIGCONT");
  assert.deepEqual([cause.name, cause.source], ["connection_lost", "network"]);
  assert.match(cause.message, /^The connection was given up: nothing was heard from the server for \d+ ms$/);
  assert.equal((await chat.ready()).user, "alice");
});

test("nothing that waits is lost or doubled when the connection is cut again and again", async (t) => {
  const server = await serve(t);
  const sockets = [];
  const WebSocket = class extends WS {
    constructor(...args) {
      super(...args);
      sockets.push(this);
    }
  };
  const alice = join(t, server, "alice", { WebSocket, random: () => 0.02 });
  const bob = join(t, server, "bob");
  for (const { chat } of [alice, bob]) assert.ok((await chat.request("join", { room: "lobby" })).ok);
  const replies = [];
  let lost = 0;
  for (const { chat } of [alice, bob]) chat.on("history_lost", () => (lost += 1));
  for (let cut = 0; cut < 10; cut += 1) {
    for (let n = 0; n < 10; n += 1) replies.push(alice.chat.send("lobby", cut * 10 + n).reply);
    await new Promise((resolve) => setTimeout(resolve, cut));
    sockets.at(-1).terminate();
    await alice.chat.ready();
  }
  const all = [...Array(100).keys()];
  for (const { ok, error } of await Promise.all(replies)) assert.ok(ok, String(error));
  assert.deepEqual(await bob.bodies(100), all);
  assert.deepEqual(await alice.bodies(100), all);
  assert.equal(lost, 0);
});

test("the journey that was promised runs as it stands", async (t) => {
  const server = await serve(t);
  const bob = join(t, server, "bob");
  await bob.chat.request("join", { room: "lobby" });
  const before = globalThis.WebSocket;
  globalThis.WebSocket = class extends WS {
    constructor(url, protocols) {
      super(url.replace("wss://example.com/ws", server.url), protocols);
    }
  };
  t.after(() => (globalThis.WebSocket = before));
  const [banners, toasts] = [[], []];
  const controller = new AbortController();
  const rendered = await new Promise((resolve, reject) => {
    const all = [];
    const ended = journey({
      auth: { token: () => server.mint("alice") },
      signal: controller.signal,
      banner: (text) => banners.push(text),
      toast: (text) => toasts.push(text),
      render: async ({ body }) => {
        all.push(body);
        if (body === "one") {
          const { body } = await server.api("GET", "/connections");
          await restart(server, { connectionId: body.connections.find(({ user }) => user === "alice").id }, 50);
          bob.chat.send("lobby", "two");
        } else if (body === "two") controller.abort();
      },
    });
    ended.then((ending) => resolve({ all, ending }), reject);
    bob.heard("joined").then(() => bob.chat.send("lobby", "one"));
  });
  assert.deepEqual(rendered.all, ["one", "two"]);
  assert.equal(rendered.ending.cause.name, "aborted");
  assert.match(banners[0], /^The service is restarting; trying again in \d+ ms$/);
  assert.deepEqual(toasts, []);
});
