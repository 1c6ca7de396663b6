// Looking into connections that could not be made: with scripted answers, with real HTTP servers, and with the real one.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import test from "node:test";
import { serve } from "../../../tests/support/client.mjs";
import WS from "../../../tests/node_modules/ws/wrapper.mjs";
import { connect, diagnose } from "../dist/index.js";
import { settled, start } from "./support/fake.mjs";

const never = new AbortController().signal;

/** What is found out from an answer of that status. */
function found(status, body = null, headers = {}) {
  // A Response of the page's own making cannot have a status below 200, and 0 is an opaque redirect.
  const response = status === 0 ? Response.error() : new Response(body, { status, headers });
  return diagnose("wss://example.com/ws", never, async () => response);
}

const problem = (fields) => [JSON.stringify(fields), { "content-type": "application/problem+json; charset=utf-8" }];

test("it asks once, for the same address, and brings nothing along", async () => {
  const asked = [];
  await diagnose("wss://example.com/ws?a=b", never, async (...args) => {
    asked.push(args);
    return new Response(null, { status: 426 });
  });
  assert.deepEqual(asked, [
    ["https://example.com/ws?a=b", { signal: never, cache: "no-store", credentials: "omit", redirect: "manual" }],
  ]);
});

test("what is said to everybody is believed", async () => {
  for (const [status, headers, expected] of [
    [503, { "retry-after": "7" }, { name: "overloaded", code: 1013, retry: "after", retryAfterMs: 7_000, spreadMs: 1_000 }],
    [503, {}, { name: "overloaded", code: 1013, retry: undefined }],
    [429, { "retry-after": "Wed, 21 Oct 2026 07:28:00 GMT" }, { name: "rate_limited", code: 4005, retry: undefined }],
    [502, {}, { name: "bad_gateway", code: 1014 }],
    [504, {}, { name: "gateway_timeout", code: 1014 }],
    [500, {}, { name: "internal_error", code: 5000 }],
  ]) {
    const { said, help } = await found(status, null, headers);
    for (const [key, value] of Object.entries(expected)) assert.equal(said[key], value, `${key} of ${status}`);
    assert.deepEqual(said.details, { http_status: status });
    assert.equal(help, `A plain GET is answered with ${status}.`);
  }
});

test("a problem document of this protocol is believed, word by word", async () => {
  const { said } = await found(404, ...problem({ name: "not_found", code: 4001, title: "No", detail: "No such path", retry: "never", request_id: "0190", details: { a: 1 } }));
  assert.deepEqual(said, {
    ...{ code: 4001, name: "not_found", message: "No such path", fatal: false, retry: "never" },
    ...{ retryAfterMs: undefined, spreadMs: undefined, details: { a: 1 }, requestId: "0190" },
  });
});

test("what a plain GET is told because it is one decides nothing", async () => {
  for (const [status, words] of [
    [426, /^A plain GET is answered with 426: there is a WebSocket server, and it refused the handshake/],
    [401, /^A plain GET is answered with 401\. It had neither token nor cookies/],
    [403, /^A plain GET is answered with 403\. It had neither token nor cookies/],
    [400, /^A plain GET is answered with 400: is there a WebSocket server at this address\?$/],
    [404, /^A plain GET is answered with 404: is there/],
    [200, /^A plain GET is answered with 200: is there/],
    [0, /^A plain GET is answered with a redirect: is there/],
  ]) {
    const { said, help } = await found(status);
    assert.equal(said, undefined);
    assert.match(help, words);
  }
  // Saywhy's own 426 is a problem document too.
  assert.equal((await found(426, ...problem({ name: "bad_request", code: 4000, retry: "never" }))).said, undefined);
  assert.equal((await found(401, ...problem({ name: "unauthorized", code: 4003 }))).said, undefined);
});

test("a document that is none, or somebody else's, is not", async () => {
  assert.equal((await found(404, "{", problem({})[1])).said, undefined);
  assert.equal((await found(404, ...problem({ title: "Not Found", status: 404 }))).said, undefined);
  assert.equal((await found(404, ...problem([]))).said, undefined);
});

test("nobody there, and an answer that the page may not read, look the same", async () => {
  const { said, help } = await diagnose("ws://example.com", never, () => Promise.reject(new TypeError("failed to fetch")));
  assert.equal(said, undefined);
  assert.match(help, /CORS/);
});

/** A client whose attempts never open, with what the diagnosis says. */
function failing(answer, options) {
  let asked = 0;
  const world = start({ diagnose: (...args) => ((asked += 1), answer(...args)), ...options });
  return Object.assign(world, { asked: () => asked });
}

test("what was found out is the refusal, and is obeyed", async () => {
  const { said, help } = await found(503, null, { "retry-after": "7" });
  const world = failing(async () => ({ said, help }));
  world.socket.end(1006);
  await settled();
  const [{ cause, delayMs }] = world.told("waiting");
  assert.deepEqual(
    [cause.name, cause.source, cause.code, cause.closeCode, cause.retry, cause.retryAfterMs, cause.fatal, cause.message, cause.help],
    ["overloaded", "http", 1013, 1006, "after", 7_000, true, "Too busy at the moment", help],
  );
  assert.equal(delayMs, 7_500);
});

test("what was not found out leaves it what it was, with a hint", async () => {
  const world = failing(async () => ({ help: "Look there." }));
  world.socket.end(1006);
  await settled();
  const [{ cause }] = world.told("waiting");
  assert.deepEqual([cause.name, cause.source, cause.help], ["connection_lost", "network", "Look there."]);
});

test("it is asked once in a row of failures, and never about a connection that was open", async () => {
  const world = failing(async () => ({ help: "" }));
  for (let failures = 0; failures < 3; failures += 1) {
    world.socket.end(1006);
    await settled();
    await world.clock.pass(world.told("waiting").at(-1).delayMs);
  }
  assert.equal(world.asked(), 1);
  world.socket.ready();
  world.socket.end(1006);
  await world.clock.pass(20_000);
  assert.equal(world.asked(), 1);
  world.socket.end(1006);
  await settled();
  assert.equal(world.asked(), 2);
});

test("a diagnosis that fails, or takes longer than 5 s, is none", async () => {
  const signals = [];
  const slow = failing((_, signal) => (signals.push(signal), new Promise(() => {})));
  slow.socket.end(1006);
  await slow.clock.pass(4_999);
  assert.equal(slow.chat.state, "connecting");
  await slow.clock.pass(1);
  assert.deepEqual([slow.chat.state, signals[0].aborted], ["waiting", true]);
  const broken = failing(() => {
    throw new Error("theirs");
  });
  broken.socket.end(1006);
  await settled();
  assert.equal(broken.told("waiting")[0].cause.name, "connection_lost");
});

test("a client that is closed meanwhile is closed at once", async () => {
  const world = failing(() => new Promise(() => {}));
  world.socket.end(1006);
  await settled();
  assert.equal((await world.chat.close()).cause.source, "client");
  await world.clock.pass(100_000);
  assert.deepEqual([world.sockets.length, world.clock.isIdle], [1, true]);
});

test("a real server that answers handshakes with 503 is understood", async (t) => {
  const handshakes = [];
  const busy = createServer((_, response) => response.writeHead(503, { "retry-after": "3" }).end());
  busy.on("upgrade", ({ url }, socket) => {
    handshakes.push(url);
    socket.end("HTTP/1.1 503 Service Unavailable\r\n\r\n");
  });
  busy.listen(0, "127.0.0.1");
  await once(busy, "listening");
  t.after(() => busy.close());
  const chat = connect(`ws://127.0.0.1:${busy.address().port}/ws`, { WebSocket: WS, diagnose });
  t.after(() => chat.close());
  const { cause } = await new Promise((resolve) => chat.on("waiting", resolve));
  assert.deepEqual([cause.name, cause.source, cause.retryAfterMs, handshakes], ["overloaded", "http", 3_000, ["/ws"]]);
});

test("a Saywhy server that refuses in HTTP, and the 426 that a plain GET gets, are told apart", async (t) => {
  const server = await serve(t, { config: '[[route]]\npath = "/"\nrooms = {}\ntoken = "required"\nrefuse = "http"\n' });
  const chat = connect(server.url, { WebSocket: WS, diagnose });
  t.after(() => chat.close());
  const { cause } = await new Promise((resolve) => chat.on("waiting", resolve));
  assert.deepEqual([cause.name, cause.source], ["connection_lost", "network"]);
  assert.match(cause.help, /426: there is a WebSocket server/);
});
