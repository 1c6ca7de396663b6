// Servers that speak something else: scripted ones in virtual time, one of another package, and back ends behind a gateway.
import assert from "node:assert/strict";
import { once } from "node:events";
import test from "node:test";
import { serve } from "../../../tests/support/client.mjs";
import WS, { WebSocketServer } from "../../../tests/node_modules/ws/wrapper.mjs";
import { connectPlain } from "../dist/index.js";
import { settled, start as startAny } from "./support/fake.mjs";

const start = (options) => startAny(options, connectPlain);
const fatal = { type: "error", data: { code: 4003, name: "unauthorized", message: "Sign in", fatal: true, retry: "never" }, meta: { request_id: "0190" } };

test("open is ready, and nothing of ours is offered", async () => {
  const { chat, socket, said } = start();
  assert.deepEqual(socket.protocols, []);
  socket.open();
  assert.deepEqual(await chat.ready(), { protocol: "" });
  assert.deepEqual(said.map(({ event }) => event), ["ready"]);
  assert.equal(socket.binaryType, "arraybuffer");
});

test("what is offered is what was asked for, and a token only when there is one", async () => {
  assert.deepEqual(start({ protocols: "mqtt" }).socket.protocols, ["mqtt"]);
  const world = start({ protocols: ["a", "b"], token: () => "t" });
  await settled();
  assert.deepEqual(world.socket.protocols, ["a", "b", "saywhy.bearer.t"]);
});

test("data comes as it came, in order, and what looks like ours is data", async () => {
  const { chat, socket } = start();
  const heard = [];
  chat.on("data", (data) => heard.push(data));
  socket.open();
  const all = ["hello", "", "{", JSON.stringify({ type: "ready", data: {} }), new Uint8Array([0, 255]).buffer, JSON.stringify(fatal)];
  for (const data of all) socket.say(data);
  assert.deepEqual(heard, all);
});

test("what is written without a connection goes out after what listeners of ready write", async () => {
  const world = start();
  world.chat.on("ready", () => assert.equal(world.chat.write("init"), "sent"));
  assert.deepEqual([world.chat.write("one"), world.chat.write("two")], ["queued", "queued"]);
  world.socket.open();
  assert.deepEqual(world.socket.sent, ["init", "one", "two"]);
  world.socket.end(1006);
  assert.equal(world.chat.write("three"), "queued");
  await world.clock.pass(1_000);
  world.socket.open();
  assert.deepEqual(world.socket.sent, ["init", "three"]);
});

test("what waits is bounded in number, in bytes, and in what the platform has not sent", async () => {
  const many = start();
  for (let n = 0; n < 256; n += 1) many.chat.write("x");
  assert.throws(() => many.chat.write("x"), { name: "queue_full", source: "client" });
  const large = start();
  large.chat.write(new Uint8Array(1_000_000));
  assert.throws(() => large.chat.write("é".repeat(25_000)), { name: "queue_full" });
  assert.equal(large.chat.write("é".repeat(24_000)), "queued");
  large.socket.open();
  assert.equal(large.socket.sent.length, 2);
  large.socket.bufferedAmount = 1_048_576;
  assert.throws(() => large.chat.write("x"), { name: "queue_full" });
  large.socket.bufferedAmount = 0;
  assert.equal(large.chat.write("x"), "sent");
  large.socket.end(1006);
  assert.equal(large.chat.write(new Uint8Array(1_000_000)), "queued");
  void large.chat.close();
  assert.throws(() => large.chat.write("x"), { name: "closed" });
});

test("its Closes are read with the catalogue", async () => {
  for (const [code, reason, name, message, retry] of [
    [1000, "", "closed", "The server closed the connection (1000)", "never"],
    [1008, "no", "policy_violation", "no", "never"],
    [4401, "", "closed", "The server closed the connection (4401)", "never"],
    [1001, "", "going_away", "The server is going away", "backoff"],
    [1012, "", "service_restart", "The service is restarting", "after"],
  ]) {
    const { chat, socket, told } = start();
    socket.open();
    socket.end(code, reason);
    const { cause } = retry === "never" ? await chat.closed : told("waiting")[0];
    assert.deepEqual([cause.name, cause.message, cause.retry, cause.source], [name, message, retry, "close"]);
  }
});

test("a server that opens and closes is not stormed", async () => {
  const world = start({ random: () => 0.99 });
  for (let ms = 0; ms < 20_000; ms += 10) {
    if (!world.socket.isOver) {
      world.socket.open();
      world.socket.end(1011);
    }
    await world.clock.pass(10);
  }
  assert.equal(world.sockets.length, 5);
});

test("what is open stays open, however quiet it is", async () => {
  const { chat, socket, clock } = start();
  socket.open();
  await clock.pass(10_000_000);
  assert.deepEqual([chat.state, clock.isIdle], ["ready", true]);
});

test("a gateway's last word is the reason, when a Close follows it and nothing else does", async () => {
  const refused = start();
  refused.socket.open();
  refused.socket.say(fatal);
  refused.socket.end(4003, "Sign in");
  const { cause } = await refused.chat.closed;
  assert.deepEqual([cause.name, cause.source, cause.requestId, cause.closeCode], ["unauthorized", "server", "0190", 4003]);

  for (const [messages, code, name] of [
    [[fatal, "more"], 4008, "kicked"],
    [[fatal], 1006, "connection_lost"],
    [[{ type: "error", data: { message: "an application's own", fatal: true } }], 4008, "kicked"],
  ]) {
    const { chat, socket, sockets, clock, told } = start();
    socket.open();
    for (const message of messages) socket.say(message);
    socket.end(code);
    const { cause } = code === 1006 ? told("waiting")[0] : await chat.closed;
    assert.equal(cause.name, name);
    if (code !== 1006) continue;
    // Nor is it the next connection's.
    await clock.pass(1_000);
    const next = sockets.at(-1);
    next.open();
    next.end(4008);
    assert.equal((await chat.closed).cause.name, "kicked");
  }
});

test("a server that does not answer the handshake is given up after 30 s", async () => {
  const { clock, told, chat } = start();
  await clock.pass(30_000);
  const [{ cause }] = told("waiting");
  assert.equal(cause.message, "The connection was given up: the server did not answer the handshake in time");
  chat.close();
});

/** A server of the package `ws`, which knows nothing of us. */
async function listen(t, options = {}) {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1", ...options });
  await once(server, "listening");
  t.after(() => {
    for (const client of server.clients) client.terminate();
    server.close();
  });
  return { server, url: `ws://127.0.0.1:${server.address().port}` };
}

function dial(t, url, options = {}) {
  const chat = connectPlain(url, { WebSocket: WS, ...options });
  t.after(() => chat.close());
  const next = (event) => new Promise((resolve) => chat.on(event, resolve));
  return { chat, next };
}

test("a real server: what is written comes back, over one connection after the other", async (t) => {
  const { server, url } = await listen(t);
  server.on("connection", (socket) => {
    socket.on("message", (data, isBinary) => (String(data) === "restart" ? socket.close(1012) : socket.send(data, { binary: isBinary })));
  });
  const { chat, next } = dial(t, url, { random: () => 0 });
  assert.equal(chat.write("early"), "queued");
  assert.equal(await next("data"), "early");
  const bytes = next("data");
  assert.equal(chat.write(new Uint8Array([1, 2, 3])), "sent");
  assert.deepEqual(new Uint8Array(await bytes), new Uint8Array([1, 2, 3]));
  const waiting = next("waiting");
  chat.write("restart");
  assert.equal((await waiting).cause.name, "service_restart");
  chat.write("later");
  assert.equal(await next("data"), "later");
  const { cause, close } = await chat.close();
  assert.deepEqual([cause.source, close.code], ["client", 1000]);
});

test("a real subprotocol is agreed on", async (t) => {
  const { url } = await listen(t, { handleProtocols: (protocols) => [...protocols][1] });
  const { chat } = dial(t, url, { protocols: ["a", "b"] });
  assert.deepEqual(await chat.ready(), { protocol: "b" });
});

test("a back end behind a gateway: its refusal can be read", async (t) => {
  const { url } = await listen(t, { verifyClient: (_, done) => done(false, 403) });
  const gateway = await serve(t, { config: `[[route]]\npath = "/"\nupstream = "${url}"\nrefuse = "close"\n` });
  const { chat } = dial(t, gateway.url);
  const { cause } = await chat.closed;
  assert.deepEqual([cause.name, cause.source, cause.code, cause.closeCode, cause.details.source], ["forbidden", "server", 4004, 4004, "upstream"]);
});
