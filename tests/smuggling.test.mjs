// T28–T33: whatever a client puts around its handshake, upstream goes one clean request and, before a valid 101, nothing else.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { FAULTS, startBackend } from "./support/backend.mjs";
import { eventually, serve } from "./support/client.mjs";
import { CROWD } from "./support/crowd.mjs";
import { encodeFrame } from "./support/raw.mjs";

const KEY = "dGhlIHNhbXBsZSBub25jZQ==";
const OWN = ["Host: front.test", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", `Sec-WebSocket-Key: ${KEY}`];

/** A request, with lines `more` and without those that begin like one of `less`. */
const request = ({ line, path = "/quiet", more = [], less = [], end = "\r\n" } = {}) => {
  const kept = OWN.filter((own) => !less.some((name) => own.startsWith(name)));
  return [line ?? `GET ${path} HTTP/1.1`, ...kept, ...more, "", ""].join(end);
};

const ADMIN = "GET /admin HTTP/1.1\r\nHost: back.test\r\nContent-Length: 0\r\n\r\n";

/** What follows a handshake at once, before anybody has answered it. */
const EARLY = {
  "a request": ADMIN,
  "a frame": encodeFrame({ payload: ADMIN }),
  "5,000 bytes": Buffer.alloc(5_000, "smuggled"),
  "the preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
};

const CASES = [];
const add = (name, sends, expect = {}) => CASES.push({ name, sends, ...expect });

for (const fault of Object.keys(FAULTS).filter((name) => FAULTS[name].expect.refused && !/status-4(0[389]|1.)|status-50[124]/.test(name))) {
  for (const [what, bytes] of Object.entries(EARLY)) add(`${what} behind a handshake that ends in ${fault}`, [request({ path: `/${fault}` }), bytes], { says: /^HTTP\/1\.1 [45]/ });
}

// No handshake: nobody is asked.
const none = { asks: 0, says: /^(HTTP\/1\.[01] (4|501)|$)/ };
add("a body", [request({ more: ["Content-Length: 56"] }), ADMIN], none);
add("a body in chunks", [request({ more: ["Transfer-Encoding: chunked"] }), "0\r\n\r\n", ADMIN], none);
add("a body of both kinds", [request({ more: ["Content-Length: 5", "Transfer-Encoding: chunked"] }), "0\r\n\r\n", ADMIN], none);
add("a body in an unknown coding", [request({ more: ["Transfer-Encoding: xchunked"] }), ADMIN], none);
add("two lengths", [request({ more: ["Content-Length: 0", "Content-Length: 56"] }), ADMIN], none);
add("a length with a sign", [request({ more: ["Content-Length: +0"] }), ADMIN], none);
add("two hosts", [request({ more: ["Host: back.test"] })], none);
add("no host", [request({ less: ["Host"] })], none);
add("two keys", [request({ more: [`Sec-WebSocket-Key: ${KEY}`] })], none);
add("two versions", [request({ more: ["Sec-WebSocket-Version: 13"] })], none);
add("another version", [request({ less: ["Sec-WebSocket-Version"], more: ["Sec-WebSocket-Version: 8"] })], none);
add("no key", [request({ less: ["Sec-WebSocket-Key"] })], none);
add("another method", [request({ line: "POST /quiet HTTP/1.1" })], none);
add("HTTP/1.0", [request({ line: "GET /quiet HTTP/1.0" })], none);
add("a folded header", [request({ more: ["X-A: b", " c"] })], none);
add("a space before a colon", [request({ more: ["Content-Length : 56"] }), ADMIN], none);
add("a header without a name", [request({ more: [": b"] })], none);
add("a NUL in a header", [request({ more: ["X-A: b\0c"] })], none);
add("a CR in a header", [request({ more: ["X-A: b\rX-B: c"] })], none);
add("an upgrade to HTTP/2", [request({ less: ["Upgrade", "Sec-WebSocket"], more: ["Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"] })], none);
add("an upgrade that is not meant", [request({ less: ["Connection"], more: ["Connection: close"] })], none);
add("CONNECT", ["CONNECT back.test:80 HTTP/1.1\r\nHost: back.test:80\r\n\r\n"], none);
add("a path that goes up", [request({ path: "/quiet/../admin" })], none);
add("a path that goes up, escaped", [request({ path: "/quiet/%2e%2e/admin" })], none);
add("a path with a space", [request({ line: "GET /quiet /admin HTTP/1.1" })], none);
add("a plain request, then a handshake in its body", ["GET /quiet HTTP/1.1\r\nHost: front.test\r\nContent-Length: 20\r\n\r\n", request()], { asks: [0, 1], says: /^HTTP\/1\.1 4/ });

// A handshake, and what may not come through.
const one = { asks: 1, says: /^HTTP\/1\.1 101 / };
add("the host in an absolute URL", [request({ line: "GET http://back.test/quiet HTTP/1.1" })], { asks: 1 });
add("a header that is named as the connection's", [request({ less: ["Connection"], more: ["Connection: Upgrade, X-Secret", "X-Secret: smuggled"] })], one);
add("the host named as the connection's", [request({ less: ["Connection"], more: ["Connection: Upgrade, Host"] })], one);
add("hop-by-hop headers", [request({ more: ["TE: trailers", "Trailer: X", "Keep-Alive: timeout=9", "Proxy-Connection: keep-alive", "Proxy-Authorization: smuggled"] })], one);
add("an empty body", [request({ more: ["Content-Length: 0"] })], one);
add("Expect", [request({ more: ["Expect: 100-continue"] })], one);
add("forged addresses", [request({ more: ["X-Forwarded-For: smuggled", "X_Forwarded_For: smuggled", "Forwarded: for=smuggled", "X-Real-IP: smuggled"] })], one);
add("a forged id", [request({ more: ["Saywhy-Connection-Id: smuggled"] })], one);
add("an answer's headers", [request({ more: ["Sec-WebSocket-Accept: smuggled"] })], one);
add("an extension of its own", [request({ more: ["Sec-WebSocket-Extensions: smuggled; a=1"] })], one);
add("a token among the subprotocols", [request({ more: ["Sec-WebSocket-Protocol: saywhy.bearer.smuggled"] })], one);
add("lines that end in LF only", [request({ end: "\n" })], { asks: [0, 1] });
add("HTTP behind the upstream's 101", [request({ path: "/http-after-101" })], { asks: 1, says: /^HTTP\/1\.1 101 (?!.*secret)/s });
add("a handshake behind another", [request({ path: "/status-400" }), request()], { asks: [1, 2], says: /^HTTP\/1\.1 400 / });

/** What is wrong with what an upstream was sent. */
function faultsOf({ head, heard }, accepted) {
  const faults = [];
  const [line, ...lines] = head.split("\r\n");
  const names = lines.map((one) => one.slice(0, one.indexOf(":")).toLowerCase());
  const check = (right, what) => right || faults.push(`${what}: ${JSON.stringify(head)}`);
  check(/^GET \/[!-~]* HTTP\/1\.1$/.test(line), "the request line");
  check(!/[^\x20-\x7e\r\n]/.test(head), "bytes that are no text");
  check(!/smuggled|\/admin/.test(head), "what may not come through");
  check(new Set(names).size === names.length, "a header twice");
  for (const name of ["host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version"]) check(names.includes(name), `no ${name}`);
  for (const name of ["content-length", "transfer-encoding", "te", "trailer", "keep-alive", "proxy-connection", "expect", "http2-settings"]) {
    check(!names.includes(name), name);
  }
  check(lines.includes("connection: Upgrade") && lines.includes("upgrade: websocket"), "Connection and Upgrade");
  check(!head.includes(KEY), "the client's own key");
  if (!accepted) check(heard.length === 0, `${heard.length} bytes before the 101`);
  return faults;
}

describe("smuggling", { timeout: 120_000 }, () => {
  const held = {};
  before(async () => {
    held.backend = await startBackend();
    const ends = [];
    const config = `[limits]\n${CROWD}\nclose_ms = 100\n[[route]]\npath = "/"\nupstream = "${held.backend.url}"\nrelay = { answer_ms = 300 }`;
    held.server = await serve({ after: (end) => ends.push(end) }, { config });
    held.end = async () => {
      for (const end of ends) await end();
      held.backend.stop();
    };
  });
  after(() => held.end());

  test(`${CASES.length} cases`, async () => {
    assert.ok(CASES.length >= 60);
    const { backend, server } = held;
    const { hostname, port } = new URL(server.url);
    const faults = [];
    for (const { name, sends, asks, says } of CASES) {
      const before = backend.peers.length;
      const socket = connect({ host: hostname, port, allowHalfOpen: true, noDelay: true });
      let said = "";
      // A session waits for more; a refusal has been said by then.
      const answered = new Promise((resolve) => {
        socket.setEncoding("latin1").on("data", (text) => (said += text).includes("\r\n\r\n") && resolve());
      });
      socket.on("error", () => {});
      await once(socket, "connect");
      for (const bytes of sends) socket.write(bytes);
      const ended = once(socket, "end").catch(() => {});
      await Promise.race([ended, answered]);
      socket.end();
      await Promise.race([once(socket, "close"), ended]);
      const asked = backend.peers.slice(before);
      await eventually(() => asked.every(({ ended }) => ended));
      socket.destroy();
      const fault = (what) => faults.push(`${name}: ${what}`);
      if (asks !== undefined && ![asks].flat().includes(asked.length)) fault(`${asked.length} upstream connections`);
      if (says && !says.test(said)) fault(`it said ${JSON.stringify(said.slice(0, 200))}`);
      const accepted = /HTTP\/1\.1 101 /.test(said);
      for (const peer of asked.filter(({ head }) => head !== undefined)) faultsOf(peer, accepted).forEach(fault);
    }
    assert.deepEqual(faults, []);
  });

  test("what is not clean would have been noticed", () => {
    const clean = ["GET /quiet HTTP/1.1", "connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: other", "host: a"];
    assert.deepEqual(faultsOf({ head: clean.join("\r\n"), heard: [] }, false), []);
    for (const line of ["te: trailers", "host: b", "x-a: smuggled", "content-length: 0", `x: ${KEY}`, "x: \u0001"]) {
      assert.notDeepEqual(faultsOf({ head: [...clean, line].join("\r\n"), heard: [] }, false), [], line);
    }
    assert.notDeepEqual(faultsOf({ head: clean.join("\r\n"), heard: [1] }, false), []);
    assert.deepEqual(faultsOf({ head: clean.join("\r\n"), heard: [1] }, true), []);
    for (const missing of clean.slice(1)) assert.notDeepEqual(faultsOf({ head: clean.filter((line) => line !== missing).join("\r\n"), heard: [] }, false), []);
  });
});
