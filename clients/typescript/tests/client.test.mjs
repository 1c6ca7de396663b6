// The client against scripted sockets, in virtual time.
import assert from "node:assert/strict";
import test from "node:test";
import { connect, connectPlain, SaywhyError } from "../dist/index.js";
import { at, HastySocket, settled, start, take } from "./support/fake.mjs";

const unauthorized = { code: 4003, name: "unauthorized", message: "Sign in", fatal: true, retry: "reauthenticate" };
const facts = ({ name, source, code, retry, fatal, closeCode, requestId }) => ({ name, source, code, retry, fatal, closeCode, requestId });

/** A client that is ready, and in these rooms at offset 0. */
async function inside(rooms = [], options) {
  const world = start(options);
  world.socket.ready();
  for (const room of rooms) {
    const reply = world.chat.request("join", { room });
    world.socket.ok("join", { room, position: at(0), recovered: false });
    assert.equal((await reply).ok, true);
  }
  return world;
}

test("ready() waits for ready, not for open", async () => {
  const { chat, socket, said } = start();
  assert.equal(socket.url, "wss://example.com/ws");
  assert.deepEqual(socket.protocols, ["saywhy.v1"]);
  let ready;
  void chat.ready().then((data) => (ready = data));
  socket.open();
  await settled();
  assert.equal(chat.state, "authenticating");
  assert.equal(ready, undefined);
  socket.ready();
  await settled();
  assert.equal(chat.state, "ready");
  assert.deepEqual(ready, {
    connectionId: "c1",
    user: "alice",
    heartbeatMs: 25_000,
    limits: { messageBytes: 65_536, messagesPerS: 50, messageBurst: 100 },
  });
  socket.ready();
  assert.deepEqual(said.map(({ event }) => event), ["authenticating", "ready"]);
  assert.equal(await chat.ready(), ready);
});

test("a refusal for good rejects ready() with what the server said, and closes", async () => {
  const { chat, socket, sockets, clock } = start();
  const ready = chat.ready();
  socket.open();
  socket.error({ code: 4004, name: "forbidden", message: "Not you", fatal: true, details: { field: "x" } }, "0190");
  socket.end(4004, "Not you");
  await assert.rejects(ready, (error) => {
    assert.ok(error instanceof SaywhyError && error instanceof Error);
    assert.deepEqual(facts(error), {
      ...{ name: "forbidden", source: "server", code: 4004, retry: "never", fatal: true },
      ...{ closeCode: 4004, requestId: "0190" },
    });
    assert.equal(String(error), "forbidden: Not you");
    assert.equal(error.help, "catalogue/forbidden.md");
    assert.deepEqual(error.details, { field: "x" });
    return true;
  });
  const { cause, close } = await chat.closed;
  assert.equal(cause.name, "forbidden");
  assert.deepEqual(close, { code: 4004, reason: "Not you", wasClean: true });
  assert.equal(chat.state, "closed");
  await assert.rejects(chat.ready(), { name: "forbidden" });
  assert.deepEqual(await chat.request("join", { room: "a" }), { ok: false, error: cause });
  assert.throws(() => chat.send("a", 1), { name: "forbidden" });
  await clock.pass(100_000);
  assert.equal(sockets.length, 1);
  assert.ok(clock.isIdle);
});

test("a refusal for now is waited out, and ready() with it", async () => {
  const world = start();
  const ready = world.chat.ready();
  world.socket.open();
  world.socket.error({ code: 1013, name: "overloaded", message: "Full", fatal: true, retry: "after", retry_after_ms: 2_000, spread_ms: 1_000 });
  world.socket.end(1013, "Full");
  const [{ cause, delayMs, attempt }] = world.told("waiting");
  assert.deepEqual([cause.message, cause.retryAfterMs, delayMs, attempt], ["Full", 2_000, 2_500, 1]);
  await world.clock.pass(2_499);
  assert.equal(world.sockets.length, 1);
  await world.clock.pass(1);
  assert.equal(world.sockets.length, 2);
  world.socket.ready();
  assert.equal((await ready).connectionId, "c1");
});

test("a Close without a message is read by its code, and its reason is kept", async () => {
  for (const [code, reason, name, source, message] of [
    [4008, "be nice", "kicked", "close", "be nice"],
    [4008, "", "kicked", "close", "You were removed"],
    [4444, "", "closed", "close", "The server closed the connection (4444)"],
    [1000, "", "closed", "close", "The server closed the connection (1000)"],
  ]) {
    const { chat, socket } = start();
    socket.ready();
    socket.end(code, reason);
    const { cause } = await chat.closed;
    assert.deepEqual([cause.name, cause.source, cause.message, cause.code], [name, source, message, code]);
  }
});

test("a TLS handshake that failed is no Close of the server's", async () => {
  const { socket, told } = start();
  socket.end(1015);
  assert.deepEqual([told("waiting")[0].cause.name, told("waiting")[0].cause.closeCode], ["connection_lost", 1015]);
});

test("a connection that never came to be says no more than is known", async () => {
  const { socket, told, chat } = start();
  socket.end(1006);
  const [{ cause }] = told("waiting");
  assert.deepEqual(facts(cause), {
    ...{ name: "connection_lost", source: "network", code: 1006, retry: "backoff", fatal: true },
    ...{ closeCode: 1006, requestId: undefined },
  });
  assert.match(cause.help, /refused/);
  chat.close();
});

test("a platform that has no code for the end of a connection is read as those that say 1006", async () => {
  for (const dial of [connect, connectPlain]) {
    for (const arrive of [() => {}, ({ socket }) => socket.ready()]) {
      const [odd, usual] = [0, 1006].map((code) => {
        const world = start({}, dial);
        arrive(world);
        world.socket.end(code);
        const [{ cause }] = world.told("waiting");
        return { ...facts(cause), message: cause.message };
      });
      assert.deepEqual(odd, usual);
      assert.deepEqual([odd.name, odd.source, odd.code, odd.closeCode], ["connection_lost", "network", 1006, 1006]);
    }
  }
});

test("a network that swallows everything is given up after 30 s", async () => {
  const { socket, told, clock } = start();
  await clock.pass(30_000);
  assert.deepEqual(socket.closed, [3008, "the server was not ready in time"]);
  assert.equal(told("waiting")[0].cause.closeCode, undefined);
  socket.open();
  socket.ready();
  socket.end(1006);
  assert.deepEqual([told("waiting").length, told("authenticating").length, told("ready").length], [1, 0, 0]);
});

test("what was given up is told as that, also where close() tells of the end before it returns", async () => {
  for (const dial of [connect, connectPlain]) {
    const { chat, clock, told } = start({ Socket: HastySocket }, dial);
    await clock.pass(30_000);
    const [{ cause }, ...others] = told("waiting");
    assert.match(cause.message, /^The connection was given up: /);
    assert.deepEqual([cause.closeCode, others], [undefined, []]);
    chat.close();
    assert.ok(clock.isIdle);
  }
});

test("a token travels as a subprotocol, is kept, and is asked for again when it is refused; once", async () => {
  const asked = [];
  const world = start({ token: ({ reason }) => `t${asked.push(reason)}` });
  await settled();
  assert.deepEqual(world.socket.protocols, ["saywhy.v1", "saywhy.bearer.t1"]);
  world.socket.ready();
  world.socket.end(1006);
  await world.clock.pass(1_000);
  assert.deepEqual(world.socket.protocols, ["saywhy.v1", "saywhy.bearer.t1"]);
  for (let refusals = 0; refusals < 2; refusals += 1) {
    world.socket.open();
    world.socket.error(unauthorized);
    world.socket.end(4003);
    await world.clock.pass(0);
  }
  assert.deepEqual(world.socket.protocols, ["saywhy.v1", "saywhy.bearer.t2"]);
  const { cause } = await world.chat.closed;
  assert.deepEqual([cause.name, cause.retry], ["unauthorized", "reauthenticate"]);
  assert.deepEqual(asked, ["connect", "refused"]);
  assert.equal(world.sockets.length, 3);
});

test("without anybody to ask for a token, unauthorized is final", async () => {
  const { chat, socket, sockets, clock } = start();
  socket.open();
  socket.error(unauthorized, "0190");
  socket.end(4003);
  await assert.rejects(chat.ready(), { name: "unauthorized", retry: "reauthenticate", requestId: "0190" });
  await clock.pass(100_000);
  assert.equal(sockets.length, 1);
});

test("a token callback that fails is asked again later", async () => {
  let calls = 0;
  const world = start({
    token: () => {
      if (++calls === 1) throw new Error("issuer is down");
      return "t";
    },
  });
  await settled();
  const [{ cause, delayMs }] = world.told("waiting");
  assert.deepEqual([cause.name, cause.cause.message, delayMs], ["token_unavailable", "issuer is down", 500]);
  await world.clock.pass(500);
  assert.deepEqual(world.socket.protocols, ["saywhy.v1", "saywhy.bearer.t"]);
});

test("a token callback that never answers is not waited for beyond 30 s", async () => {
  const { clock, told } = start({ token: () => new Promise(() => {}) });
  await clock.pass(30_000);
  assert.equal(told("waiting")[0].cause.name, "token_unavailable");
});

test("a token that cannot travel is an error that does not show it", async () => {
  const { chat, sockets } = start({ token: () => "top secret" });
  const { cause } = await chat.closed;
  assert.equal(cause.name, "cannot_connect");
  assert.doesNotMatch(JSON.stringify(cause) + cause.message + cause.stack, /top secret/);
  assert.equal(sockets.length, 0);
});

test("a token that is renewed while the connection is lost is of use to the next one", async () => {
  let renew;
  const world = start({ token: ({ reason }) => (reason === "connect" ? "t1" : new Promise((resolve) => (renew = resolve))) });
  await settled();
  world.socket.ready();
  world.socket.say({ type: "auth_expiring", data: { expires_in_ms: 30_000 } });
  world.socket.end(1006);
  await world.clock.pass(1_000);
  renew("t2");
  await settled();
  world.socket.ready();
  assert.equal(world.socket.sent.length, 0);
  world.socket.end(1006);
  await world.clock.pass(1_000);
  assert.deepEqual(world.socket.protocols, ["saywhy.v1", "saywhy.bearer.t2"]);
});

test("a token that expires is renewed in place", async () => {
  const asked = [];
  const world = start({ token: ({ reason }) => `t${asked.push(reason)}` });
  await settled();
  world.socket.ready();
  world.socket.say({ type: "auth_expiring", data: { expires_in_ms: 30_000 } });
  await settled();
  assert.deepEqual(asked, ["connect", "expiring"]);
  assert.deepEqual(world.socket.asked("authenticate")[0].data, { token: "t2" });
  world.socket.ok("authenticate", { expires_at: "2026-11-20T15:32:35Z" });
  world.socket.end(1006);
  await world.clock.pass(1_000);
  assert.deepEqual(world.socket.protocols, ["saywhy.v1", "saywhy.bearer.t2"]);
});

test("requests are answered by id, whatever their order, and an error is a value", async () => {
  const { chat, socket } = await inside();
  const first = chat.request("members", { room: "a" });
  const second = chat.request("leave", { room: "b" });
  const third = chat.request("draw", { shape: "circle" });
  const [one, two, three] = socket.sent;
  assert.deepEqual(two.data, { room: "b" });
  socket.error({ code: 4002, name: "invalid_action", message: "Join the room first" }, two.meta.request_id);
  socket.say({ type: "ok", data: null, meta: { request_id: three.meta.request_id } });
  socket.say({ type: "ok", data: { members: ["bob"] }, meta: { request_id: one.meta.request_id } });
  assert.deepEqual(await first, { ok: true, data: { members: ["bob"] } });
  const { ok, error } = await second;
  assert.equal(ok, false);
  assert.deepEqual(
    [error.name, error.message, error.fatal, error.requestId],
    ["invalid_action", "Join the room first", false, two.meta.request_id],
  );
  assert.deepEqual(await third, { ok: true, data: null });
  assert.equal(chat.state, "ready");
});

test("an answer that is none is not believed", async () => {
  const { chat, socket } = await inside();
  const reply = chat.request("join", { room: "a" });
  socket.ok("join", { room: "a" });
  assert.equal((await reply).error.name, "bad_answer");
});

test("data that is no JSON is the caller's mistake", async () => {
  const { chat } = await inside();
  await assert.rejects(chat.request("draw", 1n), TypeError);
});

test("a request gives up in time, and on a signal", async () => {
  const { chat, clock, socket } = await inside();
  const late = chat.request("members", { room: "a" }, { timeoutMs: 1_000 });
  const controller = new AbortController();
  const stopped = chat.request("members", { room: "a" }, { signal: controller.signal });
  controller.abort("enough");
  assert.deepEqual([(await stopped).error.name, (await stopped).error.cause], ["aborted", "enough"]);
  await clock.pass(1_000);
  assert.equal((await late).error.name, "no_answer");
  socket.ok("members", { members: [] });
  assert.equal((await chat.request("members", { room: "a" }, { signal: AbortSignal.abort() })).error.name, "aborted");
});

test("send says sent or queued, in order, and never drops in silence", async () => {
  const world = start();
  const early = world.chat.send("a", "one");
  assert.equal(early.status, "queued");
  world.socket.ready();
  assert.equal(world.chat.send("a", "two").status, "sent");
  const sent = world.socket.asked("send");
  assert.deepEqual(sent.map(({ data }) => data.body), ["one", "two"]);
  assert.equal(new Set(sent.map(({ data }) => data.idempotency_key)).size, 2);
  world.socket.ok("send", { position: at(1) }, 0);
  assert.deepEqual(await early.reply, { ok: true, data: { position: at(1) } });
  world.socket.end(1006);
  for (let n = 1; n < 256; n += 1) assert.equal(world.chat.send("a", n).status, "queued");
  assert.throws(() => world.chat.send("a", "too much"), { name: "queue_full" });
  assert.equal((await world.chat.request("members", { room: "a" })).error.name, "queue_full");
});

test("what waits is bounded in bytes too, and what the server would not take is not sent", async () => {
  const { chat, socket } = start();
  assert.equal(chat.send("a", "x".repeat(100_000)).status, "queued");
  for (let n = 0; n < 9; n += 1) chat.send("a", "x".repeat(100_000));
  assert.throws(() => chat.send("a", "x".repeat(100_000)), { name: "queue_full" });
  socket.ready();
  assert.equal(socket.sent.length, 0);
  assert.throws(() => chat.send("a", "é".repeat(33_000)), { name: "message_too_big", source: "client" });
  assert.equal(chat.send("a", "small").status, "sent");
});

test("a send whose answer was lost is sent again with its key; any other request is answered with connection_lost", async () => {
  const world = await inside(["a"]);
  const sending = world.chat.send("a", "hi");
  const asking = world.chat.request("members", { room: "a" });
  const drawing = world.chat.request("draw");
  const leaving = world.chat.request("leave", { room: "a" });
  const [before] = world.socket.asked("send");
  world.socket.end(1006);
  for (const reply of [asking, drawing]) assert.equal((await reply).error.name, "connection_lost");
  assert.deepEqual(await leaving, { ok: true, data: { room: "a" } });
  world.chat.send("a", "later");
  await world.clock.pass(1_000);
  world.socket.ready();
  const [again, later] = world.socket.sent;
  assert.deepEqual([again.data, later.data.body], [before.data, "later"]);
  world.socket.ok("send", { position: at(1) }, 0);
  assert.equal((await sending.reply).ok, true);
});

test("a send is not repeated when the server may have forgotten its key", async () => {
  const world = start();
  world.socket.ready({ heartbeat_ms: 0 });
  const { reply } = world.chat.send("a", "hi");
  await world.clock.pass(300_000);
  world.socket.end(1006);
  assert.equal((await reply).error.name, "connection_lost");
});

test("what was sent once goes ahead of what was not, and its time counts from the first time", async () => {
  const world = start();
  world.socket.ready({ heartbeat_ms: 0 });
  const { reply } = world.chat.send("a", "one");
  world.socket.say({ type: "goodbye", data: { code: 1012, name: "service_restart", retry: "now" } });
  world.chat.send("a", "two");
  await world.clock.pass(200_000);
  world.socket.end(1012);
  assert.equal(world.told("waiting")[0].cause.fatal, true);
  await world.clock.pass(0);
  world.socket.ready({ heartbeat_ms: 0 });
  assert.deepEqual(world.socket.sent.map(({ data }) => data.body), ["one", "two"]);
  await world.clock.pass(100_000);
  world.socket.end(1006);
  assert.equal((await reply).error.name, "connection_lost");
});

test("what piled up is sent no faster than the server permits", async () => {
  const world = start();
  for (let n = 0; n < 200; n += 1) world.chat.send("a", n);
  world.socket.ready({ limits: { messages_per_s: 50, message_burst: 100 } });
  const first = world.socket.sent.length;
  assert.ok(first <= 100, first);
  await world.clock.pass(1_000);
  assert.ok(world.socket.sent.length - first <= 50);
  await world.clock.pass(3_000);
  assert.deepEqual(world.socket.sent.map(({ data }) => data.body), [...Array(200).keys()]);
});

/** How many messages too many a client of 64 rooms sends that comes back to a server which takes 20 at once, and 10/s. */
async function tooMany(limits) {
  const rooms = Array.from({ length: 64 }, (_, n) => `room-${n}`);
  const [BURST, PER_MS] = [20, 0.01];
  const world = start({ token: ({ reason }) => reason });
  await settled();
  world.socket.ready({ limits: {} });
  for (const room of rooms) {
    void world.chat.request("join", { room });
    world.socket.ok("join", { room, position: at(0), recovered: false });
  }
  await settled();
  world.socket.end(1006);
  await world.clock.pass(1_000);
  const { socket } = world;
  socket.ready({ heartbeat_ms: 0, limits });
  const reply = world.chat.request("members", { room: "room-0" });
  socket.say({ type: "auth_expiring", data: { expires_in_ms: 30_000 } });
  let [allowed, counted, excess] = [BURST, 0, 0];
  for (let ms = 0; ms < 10_000; ms += 1) {
    await world.clock.pass(1);
    allowed = Math.min(BURST, allowed + PER_MS);
    for (const { type, data, meta } of socket.sent.slice(counted)) {
      counted += 1;
      if (allowed >= 1) allowed -= 1;
      else excess += 1;
      const facts = { room: data.room, position: at(0), recovered: true, members: [] };
      socket.say({ type: "ok", data: facts, meta: { request_id: meta.request_id } });
    }
  }
  assert.equal((await reply).ok, true);
  // What the client needs itself goes first, and all in its order.
  assert.deepEqual(socket.sent.map(({ type }) => type), [...rooms.map(() => "join"), "authenticate", "members"]);
  assert.deepEqual(socket.asked("join").map(({ data }) => data.room), rooms);
  assert.deepEqual(world.told("rejoined").map(({ room }) => room), rooms);
  return excess;
}

test("a client in many rooms comes back to them no faster than the server permits", async () => {
  assert.equal(await tooMany({ messages_per_s: 10, message_burst: 20 }), 0);
});

test("one that is not told the limit would be noticed", async () => {
  assert.ok((await tooMany({ messages_per_s: 0, message_burst: 0 })) >= 44);
});

test("messages come in order and once, across a reconnect that resumes", async () => {
  const world = await inside(["a"]);
  world.socket.message("a", 1);
  world.socket.message("a", 1);
  world.socket.message("b", 7);
  world.socket.message("a", 2);
  world.socket.end(1006);
  const sending = world.chat.send("a", "meanwhile");
  await world.clock.pass(1_000);
  world.socket.ready();
  const [join] = world.socket.sent;
  assert.deepEqual(join.data, { room: "a", since: at(2) });
  // Not before one is back in the room.
  assert.equal(world.socket.asked("send").length, 0);
  world.socket.message("a", 3);
  world.socket.ok("join", { room: "a", position: at(4), members: ["alice"], recovered: true });
  world.socket.message("a", 4);
  world.socket.message("a", 5);
  assert.equal(world.socket.asked("send").length, 1);
  world.socket.ok("send", { position: at(6) });
  assert.equal((await sending.reply).ok, true);
  assert.deepEqual((await take(world.chat, 5)).map(({ body }) => body), [1, 2, 3, 4, 5]);
  assert.deepEqual(world.told("rejoined"), [{ event: "rejoined", room: "a", recovered: true, members: ["alice"] }]);
});

test("a resume starts from the last message, not from the answer to the join", async () => {
  const world = await inside(["a"]);
  world.socket.message("a", 1);
  world.socket.end(1006);
  await world.clock.pass(1_000);
  world.socket.ready();
  world.socket.ok("join", { room: "a", position: at(9), recovered: true });
  world.socket.message("a", 2);
  world.socket.end(1006);
  await world.clock.pass(1_000);
  world.socket.ready();
  assert.deepEqual(world.socket.sent[0].data.since, at(2));
});

test("messages that come ahead of the answer to a first join are not heard twice", async () => {
  const { chat, socket } = await inside();
  const reply = chat.request("join", { room: "a" });
  socket.message("a", 6);
  socket.ok("join", { room: "a", position: at(5), recovered: false });
  socket.message("a", 6);
  socket.message("a", 7);
  assert.equal((await reply).data.position.offset, 5);
  assert.deepEqual((await take(chat, 2)).map(({ body }) => body), [6, 7]);
});

test("a message that is said twice is heard once, and nothing is asked because of it", async () => {
  const { chat, socket } = await inside(["a"]);
  for (const offset of [1, 2, 1, 2, 3]) socket.message("a", offset);
  assert.deepEqual((await take(chat, 3)).map(({ body }) => body), [1, 2, 3]);
  assert.equal(socket.asked("join").length, 1);
});

test("lost history is told once, with its reason, and the room is joined anew", async () => {
  const world = await inside(["a"]);
  world.socket.message("a", 1);
  world.socket.end(1006);
  await world.clock.pass(1_000);
  world.socket.ready();
  const lost = { code: 4009, name: "history_lost", message: "Gone", details: { room: "a", reason: "epoch_changed" } };
  world.socket.error(lost, world.socket.sent[0].meta.request_id);
  const [, anew] = world.socket.sent;
  assert.deepEqual(anew.data, { room: "a" });
  world.socket.ok("join", { room: "a", position: at(1, "f"), recovered: false });
  world.socket.message("a", 2, { epoch: "f" });
  const [{ room, reason, error }] = world.told("history_lost");
  assert.deepEqual([room, reason, error.message, error.source], ["a", "epoch_changed", "Gone", "server"]);
  assert.equal(world.told("history_lost").length, 1);
  assert.deepEqual((await take(world.chat, 2)).map(({ position }) => position.epoch), ["e", "f"]);
});

test("entries that the server lost during a session are told, and do not make it look for a gap", async () => {
  const { socket, told, chat } = await inside(["a"]);
  socket.message("a", 1);
  socket.error({ code: 4009, name: "history_lost", message: "Lost", details: { room: "a", reason: "history_forked" } });
  socket.message("a", 9);
  assert.equal(told("history_lost")[0].reason, "history_forked");
  assert.equal(told("error").length, 0);
  assert.equal(socket.asked("join").length, 1);
  assert.deepEqual((await take(chat, 2)).map(({ body }) => body), [1, 9]);
});

test("a gap is asked for; one that stays is told", async () => {
  const { socket, told, chat } = await inside(["a"]);
  socket.message("a", 1);
  socket.message("a", 3);
  assert.deepEqual(socket.asked("join")[1].data, { room: "a", since: at(1) });
  socket.message("a", 4);
  socket.ok("join", { room: "a", position: at(4), recovered: true });
  for (const offset of [2, 3, 4, 5]) socket.message("a", offset);
  assert.deepEqual((await take(chat, 5)).map(({ body }) => body), [1, 2, 3, 4, 5]);
  assert.equal(told("rejoined").length, 0);

  socket.message("a", 8);
  socket.ok("join", { room: "a", position: at(8), recovered: true });
  socket.message("a", 9);
  assert.equal(told("history_lost")[0].reason, undefined);
  assert.equal(socket.asked("join").length, 3);
  assert.deepEqual((await take(chat, 1)).map(({ body }) => body), [9]);
});

test("when nobody reads, the rest stays with the server until somebody does", async () => {
  const { socket, chat } = await inside(["a"]);
  for (let offset = 1; offset <= 1_100; offset += 1) socket.message("a", offset);
  assert.equal(socket.asked("join").length, 1);
  await take(chat, 511);
  assert.equal(socket.asked("join").length, 1);
  await take(chat, 1);
  assert.deepEqual(socket.asked("join")[1].data, { room: "a", since: at(1_024) });
  socket.ok("join", { room: "a", position: at(1_100), recovered: true });
  for (let offset = 1_025; offset <= 1_101; offset += 1) socket.message("a", offset);
  const rest = await take(chat, 1_101 - 512);
  assert.deepEqual(rest.map(({ body }) => body), [...Array(1_101 - 512).keys()].map((n) => n + 513));
});

test("a room that is joined while nobody reads is asked for when somebody does", async () => {
  const { socket, chat } = await inside(["a"]);
  for (let offset = 1; offset <= 1_024; offset += 1) socket.message("a", offset);
  void chat.request("join", { room: "b" });
  socket.message("b", 1);
  await take(chat, 1_024);
  socket.ok("join", { room: "b", position: at(0), recovered: false });
  assert.deepEqual(socket.asked("join").at(-1).data, { room: "b", since: at(0) });
});

test("a join that was given up may be answered all the same", async () => {
  const world = await inside();
  const controller = new AbortController();
  const reply = world.chat.request("join", { room: "a" }, { signal: controller.signal });
  controller.abort();
  world.socket.ok("join", { room: "a", position: at(0), recovered: false });
  assert.equal((await reply).error.name, "aborted");
  world.socket.end(1006);
  await world.clock.pass(1_000);
  world.socket.ready();
  assert.equal(world.socket.asked("join").length, 1);
});

test("a room that cannot be come back to is told; one that can later is asked again", async () => {
  const world = await inside(["a", "b"]);
  world.socket.end(1006);
  await world.clock.pass(1_000);
  world.socket.ready();
  const [a, b] = world.socket.sent;
  world.socket.error({ code: 4004, name: "forbidden", message: "No more" }, a.meta.request_id);
  world.socket.error({ code: 1013, name: "overloaded", retry: "after", retry_after_ms: 700 }, b.meta.request_id);
  const [{ room, error }] = world.told("room_lost");
  assert.deepEqual([room, error.name], ["a", "forbidden"]);
  // The others need not wait.
  assert.equal(world.chat.send("c", 1).status, "sent");
  await world.clock.pass(1_200);
  assert.deepEqual(world.socket.asked("join").map(({ data }) => data.room), ["a", "b", "b"]);
  world.socket.error({ code: 1013, name: "overloaded", retry: "after", retry_after_ms: 2_000 }, world.socket.sent.at(-1).meta.request_id);
  world.socket.end(1006);
  await world.clock.pass(1_000);
  world.socket.ready();
  // The next connection comes back by itself.
  await world.clock.pass(10_000);
  assert.deepEqual(world.socket.asked("join").map(({ data }) => data.room), ["b"]);
  world.socket.ok("join", { room: "b", position: at(0), recovered: true });
  assert.equal(world.told("rejoined")[0].room, "b");
});

test("a room that was left is not come back to, nor one whose join failed", async () => {
  const world = await inside(["a", "b"]);
  const leaving = world.chat.request("leave", { room: "a" });
  world.socket.ok("leave", { room: "a" });
  const joining = world.chat.request("join", { room: "c" });
  world.socket.error({ code: 4001, name: "not_found" }, world.socket.asked("join").at(-1).meta.request_id);
  assert.deepEqual([(await leaving).ok, (await joining).ok], [true, false]);
  world.socket.end(1006);
  await world.clock.pass(1_000);
  world.socket.ready();
  assert.deepEqual(world.socket.asked("join").map(({ data }) => data.room), ["b"]);
});

test("a position that was kept elsewhere is a place to go on from", async () => {
  const { chat, socket } = await inside();
  const reply = chat.request("join", { room: "a", since: at(5) });
  assert.deepEqual(socket.asked("join")[0].data, { room: "a", since: at(5) });
  for (const offset of [5, 6]) socket.message("a", offset);
  socket.ok("join", { room: "a", position: at(7), recovered: true });
  socket.message("a", 7);
  assert.equal((await reply).data.recovered, true);
  assert.deepEqual((await take(chat, 2)).map(({ body }) => body), [6, 7]);
});

test("a join whose answer was lost is asked for again", async () => {
  const world = await inside();
  const reply = world.chat.request("join", { room: "a" });
  world.socket.end(1006);
  await world.clock.pass(1_000);
  world.socket.ready();
  world.socket.ok("join", { room: "a", position: at(0), recovered: false });
  assert.equal((await reply).ok, true);
  assert.equal(world.socket.asked("join").length, 1);
});

test("a goodbye is told and obeyed, and what is asked for after it waits for the next connection", async () => {
  const world = await inside();
  world.socket.say({
    type: "goodbye",
    data: { code: 1012, name: "service_restart", message: "Deploying", fatal: true, retry: "after", retry_after_ms: 4_000, spread_ms: 2_000 },
    meta: { request_id: "c1" },
  });
  assert.equal(world.told("goodbye")[0].error.message, "Deploying");
  assert.equal(world.chat.send("a", 1).status, "queued");
  world.socket.end(1012, "Deploying");
  const [{ cause, delayMs }] = world.told("waiting");
  assert.deepEqual([cause.name, cause.message, cause.requestId, cause.closeCode, delayMs], ["service_restart", "Deploying", "c1", 1012, 5_000]);
  await world.clock.pass(5_000);
  world.socket.ready();
  assert.equal(world.socket.asked("send").length, 1);
});

test("a last word without a Close is not waited on for ever", async () => {
  const { socket, chat, clock } = await inside();
  socket.error({ code: 4008, name: "kicked", message: "Out", fatal: true });
  await clock.pass(4_999);
  assert.equal(chat.state, "ready");
  await clock.pass(1);
  const { cause, close } = await chat.closed;
  assert.deepEqual([cause.name, cause.message, cause.closeCode, close], ["kicked", "Out", undefined, null]);
});

test("the error that ended the session answers the request that led to it", async () => {
  const { socket, chat } = await inside();
  const reply = chat.request("pay", 1);
  socket.error({ code: 5000, name: "internal_error", fatal: true, retry: "never" }, socket.sent[0].meta.request_id);
  socket.end(1011);
  assert.deepEqual([(await reply).error.name, (await reply).error.fatal], ["internal_error", true]);
  assert.equal((await chat.closed).cause.closeCode, 1011);
});

test("silence is asked about, and ends the connection when it goes on", async () => {
  const { socket, told, clock } = await inside();
  await clock.pass(20_000);
  socket.message("a", 1);
  await clock.pass(24_999);
  assert.equal(socket.sent.length, 0);
  await clock.pass(1);
  assert.deepEqual(socket.sent, [{ type: "ping", data: {} }]);
  socket.say({ type: "pong", data: {} });
  await clock.pass(25_000);
  assert.equal(socket.asked("ping").length, 2);
  assert.equal(told("waiting").length, 0);
  await clock.pass(25_000);
  const [{ cause }] = told("waiting");
  assert.deepEqual(facts(cause), {
    ...{ name: "connection_lost", source: "network", code: 1006, retry: "backoff", fatal: true },
    ...{ closeCode: undefined, requestId: undefined },
  });
  assert.equal(socket.closed[0], 3008);
});

test("where there are no heartbeats nothing is asked", async () => {
  const { chat, socket, clock } = start();
  socket.ready({ heartbeat_ms: 0 });
  await clock.pass(10_000_000);
  assert.deepEqual([chat.state, socket.sent.length], ["ready", 0]);
});

test("close() is confirmed by the server, ends the loop, and answers everything", async () => {
  const { chat, socket, told, clock } = await inside(["a"]);
  socket.message("a", 1);
  const asking = chat.request("members", { room: "a" });
  const closed = chat.close(4000, "bye");
  assert.deepEqual(socket.closed, [4000, "bye"]);
  assert.equal((await asking).error.name, "closed");
  socket.message("a", 2);
  socket.end(4000, "bye");
  const { cause, close } = await closed;
  assert.deepEqual([cause.name, cause.source, cause.help, close.code], ["closed", "client", "Nothing is wrong: close() was called.", 4000]);
  assert.deepEqual((await take(chat, 9)).map(({ body }) => body), [1]);
  assert.equal(told("closed").length, 1);
  assert.equal(await chat.close(), await chat.closed);
  assert.ok(clock.isIdle);
});

test("a server that does not confirm has 5 s", async () => {
  const { chat, clock } = await inside();
  void chat.close();
  await clock.pass(5_000);
  assert.equal((await chat.closed).close, null);
});

test("a code that the platform forbids closes nothing", async () => {
  const { chat } = await inside();
  assert.throws(() => chat.close(1006), RangeError);
  assert.equal(chat.state, "ready");
  assert.equal(chat.send("a", 1).status, "sent");
});

test("a client that is closed while it connects was not lost, also where close() tells of the end before it returns", async () => {
  const ways = {
    closed: ({ chat }) => void chat.close(),
    aborted: (_, controller) => controller.abort(),
  };
  for (const dial of [connect, connectPlain]) {
    for (const [name, end] of Object.entries(ways)) {
      const controller = new AbortController();
      const world = start({ Socket: HastySocket, signal: controller.signal }, dial);
      const { chat, clock, said } = world;
      const ready = chat.ready().then(() => "ready", (error) => error.name);
      const sending = dial === connect ? chat.send("a", 1).reply : undefined;
      assert.throws(() => chat.close(1006), RangeError);
      assert.deepEqual([chat.state, said], ["connecting", []]);
      end(world, controller);
      const { cause, close } = await chat.closed;
      assert.deepEqual([cause.name, cause.source, close.code, await ready], [name, "client", 1006, name]);
      assert.equal((await sending)?.error, sending && cause);
      assert.deepEqual(said.map(({ event }) => event), ["closed"]);
      // No deadline is kept for what is over.
      assert.deepEqual([clock.isIdle, world.listeners()], [true, 0]);
    }
  }
});

test("a signal ends it in every state", async () => {
  const ways = {
    before: () => {},
    token: async () => {},
    connecting: () => {},
    authenticating: ({ socket }) => socket.open(),
    ready: ({ socket }) => socket.ready(),
    waiting: ({ socket }) => socket.end(1006),
    offline: ({ socket, network }) => {
      network.up = false;
      socket.end(1006);
    },
  };
  for (const [state, arrive] of Object.entries(ways)) {
    const controller = new AbortController();
    if (state === "before") controller.abort();
    const token = state === "token" ? () => new Promise(() => {}) : undefined;
    const world = start({ signal: controller.signal, token });
    const ready = world.chat.ready().then(() => "ready", ({ name }) => name);
    arrive(world);
    if (ways[state] !== ways.before && state in { waiting: 1, offline: 1, ready: 1, authenticating: 1 }) assert.equal(world.chat.state, state);
    controller.abort(new Error("left the page"));
    const had = world.sockets.length;
    if (world.socket?.closed) world.socket.end(1006);
    const { cause } = await world.chat.closed;
    assert.deepEqual([cause.name, cause.source], ["aborted", "client"], state);
    assert.equal(await ready, state === "ready" ? "ready" : "aborted", state);
    await world.clock.pass(100_000);
    assert.equal(world.sockets.length, had, state);
    assert.ok(world.clock.isIdle, state);
  }
});

test("without a network it waits for one, and for what the server asked", async () => {
  const world = await inside();
  world.network.up = false;
  world.socket.end(1006);
  assert.equal(world.chat.state, "offline");
  await world.clock.pass(600_000);
  assert.equal(world.sockets.length, 1);
  world.network.comeBack();
  // With a random part: whoever else had lost it has it back at the same instant.
  assert.deepEqual([world.chat.state, world.told("waiting").at(-1).delayMs], ["waiting", 600]);
  await world.clock.pass(600);
  assert.equal(world.sockets.length, 2);

  world.socket.error({ code: 1013, name: "overloaded", fatal: true, retry: "after", retry_after_ms: 10_000 });
  world.network.up = false;
  world.socket.end(1013);
  await world.clock.pass(4_000);
  world.network.comeBack();
  assert.deepEqual([world.chat.state, world.told("waiting").at(-1).delayMs], ["waiting", 6_000]);
  await world.clock.pass(6_000);
  assert.equal(world.sockets.length, 3);
});

test("a listener can be taken away, by hand and by a signal, and one that throws harms nobody", async (t) => {
  const { chat, socket } = await inside();
  const heard = [];
  const undo = chat.on("joined", ({ member }) => heard.push(member));
  const controller = new AbortController();
  chat.on("joined", () => heard.push("signal"), { signal: controller.signal });
  const thrown = new Promise((resolve) => {
    const others = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.once("uncaughtException", (error) => {
      for (const other of others) process.on("uncaughtException", other);
      resolve(error);
    });
  });
  const stop = chat.on("joined", () => {
    throw new Error("theirs");
  });
  socket.say({ type: "joined", data: { room: "a", member: "bob" } });
  assert.equal((await thrown).message, "theirs");
  stop();
  undo();
  controller.abort();
  socket.say({ type: "joined", data: { room: "a", member: "eve" } });
  assert.deepEqual(heard, ["bob", "signal"]);
});

test("a client that is closed by what it tells stays closed", async () => {
  const ways = {
    waiting: { sockets: 1, arrive: ({ socket }) => socket.end(1006) },
    connecting: { sockets: 1, arrive: ({ socket, clock }) => (socket.end(1006), clock.pass(1_000)) },
    ready: { sockets: 1, arrive: ({ socket }) => (socket.ready(), socket.end(1000)) },
    authenticating: { sockets: 1, arrive: ({ socket }) => (socket.open(), socket.error(unauthorized), socket.end(4003)) },
  };
  for (const [state, { sockets, arrive }] of Object.entries(ways)) {
    const asked = [];
    const world = start({ token: ({ reason }) => void asked.push(reason) });
    await settled();
    world.chat.send("a", 1);
    world.chat.on("state", (now) => now.state === state && world.chat.close());
    await arrive(world);
    assert.equal((await world.chat.closed).cause.source, "client", state);
    await world.clock.pass(100_000);
    assert.deepEqual([world.sockets.length, asked, world.socket.sent, world.clock.isIdle], [sockets, ["connect"], [], true], state);
    assert.deepEqual(world.said.at(-1).event, "closed", state);
  }
});

test("a client that is closed by hearing that it needs a new token does not ask for one", async () => {
  const asked = [];
  const world = start({ token: ({ reason }) => `t${asked.push(reason)}` });
  await settled();
  const { chat, socket, told } = world;
  chat.on("authenticating", () => told("authenticating").length === 2 && chat.close());
  socket.open();
  socket.error(unauthorized);
  socket.end(4003);
  assert.equal((await chat.closed).cause.source, "client");
  assert.deepEqual(asked, ["connect"]);
});

test("waiting for ready leaves nothing behind on a signal that lives longer", async () => {
  const { chat, socket } = start();
  const { signal } = new AbortController();
  let listening = 0;
  for (const [name, change] of [["addEventListener", 1], ["removeEventListener", -1]]) {
    const original = signal[name].bind(signal);
    signal[name] = (...args) => ((listening += change), original(...args));
  }
  const ready = [chat.ready({ signal }), chat.ready({ signal })];
  assert.equal(listening, 2);
  socket.ready();
  await Promise.all(ready);
  assert.equal(listening, 0);
});

test("what nobody understands is told, and harms nothing", async () => {
  const { chat, socket, told } = await inside();
  const strange = ["{", "null", "[]", "7", '{"type":7}', '{"type":"ok"}', '{"type":"message","data":{"room":"a"}}', '{"type":"draw","data":[1]}'];
  for (const text of strange) socket.say(text);
  assert.equal(told("other").length, strange.length);
  assert.deepEqual(told("other").at(-1), { event: "other", type: "draw", data: [1] });
  socket.error({ message: "who knows", code: undefined });
  assert.deepEqual([told("error")[0].error.name, told("error")[0].error.message], ["unnamed", "who knows"]);
  assert.equal(chat.state, "ready");
});

test("a URL that is none of a WebSocket is the caller's mistake", () => {
  for (const url of ["ftp://example.com", "example.com", ""]) assert.throws(() => connect(url), TypeError);
});

test("a URL is understood as newer platforms understand it", () => {
  const urls = [];
  const WebSocket = class {
    constructor(url) {
      urls.push(url);
      throw new Error("that is all");
    }
  };
  for (const url of ["http://example.com/ws#here", new URL("wss://example.com/ws?a=b")]) connect(url, { WebSocket });
  assert.deepEqual(urls, ["ws://example.com/ws", "wss://example.com/ws?a=b"]);
});

test("a platform without a WebSocket says so", async () => {
  const { WebSocket } = globalThis;
  delete globalThis.WebSocket;
  const { cause } = await connect("http://example.com/#x").closed;
  globalThis.WebSocket = WebSocket;
  assert.deepEqual([cause.name, cause.message], ["cannot_connect", "There is no WebSocket on this platform: pass one as an option"]);
});
