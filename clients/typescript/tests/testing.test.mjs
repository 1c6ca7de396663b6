// What is offered to those who test their own applications: the server that is scripted, and the clock.
// That its WebSocket behaves as browsers do is shown in tests/client-testing.test.mjs of the project, next to them.
import assert from "node:assert/strict";
import test from "node:test";
import { connect, connectPlain } from "../dist/index.js";
import { ROWS } from "../dist/catalogue.js";
import { FakeClock, TestServer, settled } from "../dist/testing.js";

/** A client, its server, and the first connection, which has had no answer yet. */
async function begin(options = {}) {
  const server = new TestServer();
  const chat = connect("wss://test/ws", { ...server.platform, ...options });
  return { server, chat, session: await server.connection() };
}

const next = (client, event) => new Promise((resolve) => client.on(event, resolve));

test("a refusal is read by name, words and code, and is final where its row says so", async () => {
  const { server, chat, session } = await begin();
  assert.deepEqual([session.url, session.protocols, session.token], ["wss://test/ws", ["saywhy.v1"], undefined]);
  session.refuse("forbidden", { message: "Not you", details: { field: "x" } });
  await assert.rejects(chat.ready(), {
    ...{ name: "forbidden", message: "Not you", code: 4004, closeCode: 4004, retry: "never" },
    ...{ requestId: session.id, details: { field: "x" } },
  });
  assert.deepEqual((await chat.closed).close, { code: 4004, reason: "Not you", wasClean: true });
  assert.deepEqual(await session.left, { code: 4004, reason: "Not you" });
  assert.equal(server.connections.length, 1);
});

test("every row of the catalogue can be refused with, and is what the client says it is", async () => {
  assert.ok(ROWS.length > 20);
  for (const { name, code, app, message, retry } of ROWS) {
    const { chat, session } = await begin();
    session.refuse(name);
    const ended = await new Promise((resolve) => {
      for (const event of ["waiting", "closed"]) chat.on(event, ({ cause }) => resolve(cause));
    });
    assert.deepEqual([ended.name, ended.code, ended.message, ended.retry, ended.closeCode], [name, code, message, retry, app ?? 1008]);
    void chat.close();
  }
});

test("a row of one's own needs a code; a reason is cut as a server cuts it", async () => {
  const { chat, session } = await begin();
  assert.throws(() => session.refuse("room_full"), /the catalogue has no row room_full/);
  const message = `Full:\n${"é".repeat(100)}`;
  session.end("room_full", { code: 4100, message, retry: "never" });
  const { cause, close } = await chat.closed;
  assert.deepEqual([cause.name, cause.code, cause.message, close.code], ["room_full", 4100, message, 4100]);
  assert.equal(close.reason, `Full: ${"é".repeat(58)}`);
});

test("a handshake that is refused says nothing, whatever the server thinks", async () => {
  const { chat, session } = await begin();
  const waiting = next(chat, "waiting");
  session.refuseHandshake();
  const { cause } = await waiting;
  assert.deepEqual([cause.name, cause.source, cause.closeCode], ["connection_lost", "network", 1006]);
  void chat.close();
});

test("a script that makes no sense is told so", async () => {
  const { server, chat, session } = await begin();
  assert.throws(() => session.send("hi"), /has had no answer yet/);
  assert.throws(() => session.close(), /has had no answer yet/);
  session.ready();
  assert.throws(() => session.accept(), /has had its answer/);
  assert.throws(() => session.refuseHandshake(), /has had its answer/);
  assert.throws(() => session.refuse("forbidden"), /it is ready/);
  session.drop();
  assert.throws(() => session.message("lobby", "hi"), /is over/);
  assert.throws(() => session.close(), /is over/);
  await server.clock.pass(1_000);
  (await server.connection()).refuseHandshake();
  await settled();
  assert.throws(() => server.connections[1].ready(), /it is over/);
  void chat.close();
});

test("a restart is waited out for as long as the server asked, in no time", async () => {
  const { server, chat, session } = await begin();
  session.ready();
  const goodbye = next(chat, "goodbye");
  const waiting = next(chat, "waiting");
  session.restart({ message: "Deploying", retryAfterMs: 4_000, spreadMs: 2_000 });
  assert.equal((await goodbye).error.message, "Deploying");
  const { cause, delayMs } = await waiting;
  assert.deepEqual([cause.name, cause.closeCode, delayMs], ["service_restart", 1012, 5_000]);
  await server.clock.pass(4_999);
  assert.equal(server.connections.length, 1);
  await server.clock.pass(1);
  const again = await server.connection();
  again.ready({ user: "bob" });
  assert.equal((await chat.ready()).user, "bob");
  assert.equal(await session.left.then((close) => close.code), 1012);
});

test("a half-open connection is found out by the client, and pings are answered as long as it is not", async () => {
  const { server, chat, session } = await begin();
  session.ready();
  await server.clock.pass(600_000);
  assert.equal(chat.state, "ready");
  session.freeze();
  session.message("lobby", "never heard");
  await server.clock.pass(25_000 * 3);
  assert.notEqual(chat.state, "ready");
  assert.ok(server.connections.length > 1);
  void chat.close();
});

test("what was frozen can be thawed", async () => {
  const { chat, session } = await begin();
  session.ready();
  await chat.ready();
  session.freeze();
  const asking = chat.request("draw", { shape: "circle" });
  await settled();
  const request = session.request();
  session.thaw();
  (await request).ok({ drawn: true });
  assert.deepEqual(await asking, { ok: true, data: { drawn: true } });
});

test("a drop is 1006 to a client that was ready, and what was said before it arrives", async () => {
  const { chat, session } = await begin();
  session.ready();
  await chat.ready();
  session.say("note", { n: 1 });
  session.drop();
  const [{ data }, { cause }] = await Promise.all([next(chat, "other"), next(chat, "waiting")]);
  assert.deepEqual([data, cause.name, cause.closeCode], [{ n: 1 }, "connection_lost", 1006]);
  assert.equal(await session.left, undefined);
  await assert.rejects(session.request(), /it is over/);
  void chat.close();
});

test("requests are handed out by type, once, and answered with data, a default, or an error", async () => {
  const { chat, session } = await begin();
  session.ready();
  const replies = [chat.request("members", { room: "a" }), chat.request("draw", 7), chat.request("draw", 8)];
  const eight = [await session.request("draw"), await session.request("draw")][1];
  assert.deepEqual([eight.type, eight.data], ["draw", 8]);
  eight.error("rate_limited", { retryAfterMs: 300 });
  (await session.request()).ok();
  const [members, , draw] = await Promise.all([replies[0], null, replies[2]]);
  assert.deepEqual(members, { ok: true, data: { members: ["alice"] } });
  assert.deepEqual([draw.error.name, draw.error.retryAfterMs, draw.error.fatal], ["rate_limited", 300, false]);
  const waiting = session.request("join");
  void chat.close();
  await assert.rejects(waiting, /ended before that was heard/);
  assert.deepEqual(await session.left, { code: 1000, reason: "" });
});

test("a room is come back to, with what was said meanwhile", async () => {
  const { server, chat, session } = await begin();
  session.ready();
  const joining = chat.request("join", { room: "lobby" });
  (await session.request("join")).ok();
  assert.equal((await joining).ok, true);
  server.message("lobby", "one");
  const sending = chat.send("lobby", "two");
  (await session.request("send")).ok();
  assert.equal((await sending.reply).data.position.offset, 2);
  session.drop();
  await server.clock.pass(1_000);
  server.message("lobby", "three");
  const again = await server.connection();
  again.ready();
  const rejoined = next(chat, "rejoined");
  const join = await again.request("join");
  assert.equal(join.data.since.offset, 2);
  join.ok();
  assert.equal((await rejoined).recovered, true);
  server.message("lobby", "four");
  const heard = [];
  for await (const { body, from } of chat) if (heard.push([from, body]) === 4) break;
  assert.deepEqual(heard, [["bob", "one"], ["alice", "two"], ["bob", "three"], ["bob", "four"]]);
});

test("a token is seen by the server, refused, renewed, and renewed in place", async () => {
  const asked = [];
  const { server, chat, session } = await begin({ token: ({ reason }) => `t${asked.push(reason)}` });
  assert.equal(session.token, "t1");
  session.refuse("unauthorized");
  await server.clock.pass(0);
  const again = await server.connection();
  assert.equal(again.token, "t2");
  again.ready();
  again.authExpiring();
  const renewal = await again.request("authenticate");
  assert.deepEqual(renewal.data, { token: "t3" });
  renewal.ok();
  await settled();
  assert.deepEqual([chat.state, asked], ["ready", ["connect", "refused", "expiring"]]);
});

test("without a network nobody arrives", async () => {
  const server = new TestServer();
  server.network.goOffline();
  const chat = connect("wss://test/ws", server.platform);
  await server.clock.pass(100_000);
  assert.deepEqual([server.connections.length, chat.state], [0, "offline"]);
  server.network.goOnline();
  await server.clock.pass(30_000);
  assert.equal(server.connections.length, 1);
  void chat.close();
});

test("a page that is hidden is left alone until it is shown", async () => {
  const { server, chat, session } = await begin();
  session.ready();
  await chat.ready();
  server.page.hide();
  await server.clock.pass(120_000);
  session.drop();
  await server.clock.pass(600_000);
  assert.equal(server.connections.length, 1);
  server.page.show();
  await server.clock.pass(30_000);
  assert.equal(server.connections.length, 2);
  void chat.close();
});

test("a server of another kind", async () => {
  const server = new TestServer();
  const line = connectPlain("wss://test/ws", { ...server.platform, protocols: ["graphql-transport-ws"] });
  const session = await server.connection();
  session.accept();
  await line.ready();
  session.refuse("unauthorized");
  const { cause } = await line.closed;
  assert.deepEqual([cause.name, cause.source, cause.closeCode], ["unauthorized", "close", 4003]);
});

test("a WebSocket by itself, as code without a client uses it", async () => {
  const server = new TestServer();
  const socket = new server.WebSocket("wss://test/ws");
  socket.binaryType = "arraybuffer";
  const order = [];
  socket.onmessage = () => order.push("first");
  socket.addEventListener("message", ({ data }) => order.push(data));
  socket.onmessage = ({ data }) => order.push(`handler ${data}`);
  const session = await server.connection();
  session.accept();
  session.send("a");
  await settled();
  assert.deepEqual([order, socket.readyState], [["handler a", "a"], socket.OPEN]);
  socket.onmessage = null;
  session.send("b");
  const bytes = Uint8Array.of(1, 2);
  for (const data of [bytes, bytes.buffer, "text", new Blob(["blob"])]) socket.send(data);
  bytes[0] = 9;
  assert.equal(socket.bufferedAmount, 2 + 2 + 4 + 4);
  assert.deepEqual([await session.received(), await session.received(), await session.received()], [Uint8Array.of(1, 2), Uint8Array.of(1, 2), "text"]);
  assert.equal((await session.received()).size, 4);
  await settled();
  assert.deepEqual([order.slice(2), socket.bufferedAmount], [["b"], 0]);
});

test("a server that does not answer a Close has a minute, and 2 s to end the connection after its own", async () => {
  const unanswered = (socket, session) => {
    session.freeze();
    socket.close(4000);
  };
  const unended = (_, session) => {
    session.close(4001);
    session.freeze();
  };
  for (const [act, waitMs, code] of [[unanswered, 60_000, 1006], [unended, 2_000, 4001]]) {
    const server = new TestServer();
    const socket = new server.WebSocket("wss://test/ws");
    const closed = new Promise((resolve) => (socket.onclose = resolve));
    const session = await server.connection();
    session.accept();
    await settled();
    act(socket, session);
    await server.clock.pass(waitMs - 1);
    assert.equal(socket.readyState, socket.CLOSING);
    await server.clock.pass(1);
    assert.equal((await closed).code, code);
    assert.ok(server.clock.isIdle);
  }
});

test("time passes in order, with all that comes of it, and never by itself", async () => {
  const clock = new FakeClock();
  const order = [];
  const note = (what) => () => order.push(`${what} ${clock.now()}`);
  clock.after(20, note("late"));
  clock.after(10, async () => {
    note("early")();
    for (let turns = 0; turns < 1_000; turns += 1) await null;
    note("promised")();
    clock.after(5, note("of it"));
  });
  clock.after(10, note("second"));
  clock.after(15, note("cancelled"))();
  clock.after(10, note("cancelled"))();
  await clock.pass(9);
  assert.deepEqual([order, clock.now()], [[], 9]);
  await clock.pass(16);
  assert.deepEqual(order, ["early 10", "promised 10", "second 10", "of it 15", "late 20"]);
  assert.deepEqual([clock.now(), clock.isIdle], [25, true]);
});

test("a timer that sets itself again and again is no endless loop", async () => {
  const clock = new FakeClock();
  const again = () => clock.after(0, again);
  again();
  await assert.rejects(clock.pass(1), /set itself again/);
});

test("two clocks do not wait for each other", async () => {
  const clocks = [new FakeClock(), new FakeClock()];
  let passed = 0;
  for (const clock of clocks) clock.after(1, () => (passed += 1));
  await Promise.all(clocks.map((clock) => clock.pass(1)));
  assert.equal(passed, 2);
});

test("without a MessageChannel, as in the pages that some test runners make up, there are tasks all the same", async () => {
  const { MessageChannel } = globalThis;
  delete globalThis.MessageChannel;
  try {
    const tasks = await import("../dist/testing/tasks.js?without");
    const order = [];
    tasks.queueTask(() => void Promise.resolve().then(() => order.push("promise")));
    tasks.queueTask(() => order.push("task"));
    assert.deepEqual(order, []);
    await tasks.settled();
    assert.deepEqual(order, ["promise", "task"]);
  } finally {
    globalThis.MessageChannel = MessageChannel;
  }
});
