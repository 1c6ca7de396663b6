// The gateway: whatever goes wrong behind it, the client in front is told.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer as createTlsServer } from "node:https";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import { FAULTS, parseAll, startBackend } from "./support/backend.mjs";
import { browsers } from "./support/browsers.mjs";
import { call, eventually, serve } from "./support/client.mjs";
import { CROWD } from "./support/crowd.mjs";
import { browserFor, servePages } from "./support/pages.mjs";
import { closeInfo, encodeFrame, rawConnect } from "./support/raw.mjs";
import { certificates } from "./support/server.mjs";
import { recordSocket } from "./support/socket-script.mjs";

const AT_ONCE = 6; // Chromium holds back what is more than that

/** How often each is tried whose outcome might depend on who is first; SAYWHY_RUNS says otherwise. */
const RUNS = Number(process.env.SAYWHY_RUNS ?? 6);
const RACY = [
  "fin", "rst", "half-a-frame", "dies-between-fragments", "bad-opcode", "close-4401", "close-empty", "two-closes",
  "data-after-close", "close-then-rst", "status-401", "rst-in-handshake",
];

const config = (upstream, route = "", limits = "") => `
[limits]
${limits}messages_per_s = 1000000
message_burst = 1000000
${CROWD}
[[route]]
path = "/"
upstream = "${upstream}"
relay = { answer_ms = 700, message_bytes = 100000 }
${route}`;

/** A back end that misbehaves, the gateway in front of it, and pages that may connect. */
async function start(t, route = "", more = []) {
  const backend = await startBackend();
  t.after(backend.stop);
  const pages = await servePages(t);
  const text = config(backend.url, `origins = ["${pages}"]\n${route}`);
  const server = await serve(t, { config: text.replace("relay = {", `relay = { more = ${JSON.stringify(more)},`) });
  return { backend, server, pages, at: (path) => new URL(path, server.url).href };
}

async function openPage(t, { browser }, url) {
  const page = await browser.newPage();
  t.after(() => page.close());
  await page.goto(url);
  return page;
}

/** What is wrong with what a page has seen of a fault. */
function faultsOf(name, events) {
  const { expect } = FAULTS[name];
  const faults = [];
  const check = (is, should, what) => is === should || faults.push(`${name}: ${what} is ${JSON.stringify(is)}, not ${JSON.stringify(should)}: ${JSON.stringify(events)}`);
  const last = events.at(-1);
  check(last.type, "close", "the last event");
  check(last.code, expect.code, "the code");
  if ("reason" in expect) check(last.reason, expect.reason, "the reason");
  if (expect.inside) check(last.reason, expect.inside, "the reason");
  const errors = events.flatMap(({ type, data }) => (type === "message" && String(data).startsWith('{"type":"error"') ? [JSON.parse(data)] : []));
  if (expect.name && !expect.inside) {
    check(errors.length, 1, "how many errors");
    const { data } = errors[0] ?? { data: {} };
    check(data.name, expect.name, "the name");
    check(data.fatal, true, "fatal");
    check(data.message, last.reason, "what the message says");
    if (expect.message) check(data.message, expect.message, "the words");
    if (expect.retry) check(data.retry, expect.retry, "retry");
    if (expect.retry_after_ms) check(data.retry_after_ms, expect.retry_after_ms, "retry_after_ms");
    if (expect.location) check(data.details?.location, expect.location, "the location");
    check(data.details?.source, "upstream", "the source");
  } else {
    check(errors.length, 0, "how many errors");
  }
  check(events.some(({ type, data }) => type === "message" && data === "hello"), !expect.refused && !expect.silent, "whether it said hello");
  return faults;
}

describe("the gateway", { timeout: 600_000 }, () => {
  for (const browser of browsers) {
    describe(browser.name, { concurrency: 1 }, () => {
      const held = browserFor(browser, { before, after });

      test("every fault of a back end, explained", async (t) => {
        const { at, pages } = await start(t);
        const page = await openPage(t, held, pages);
        const names = Object.keys(FAULTS);
        const faults = [];
        while (names.length > 0) {
          const some = names.splice(0, AT_ONCE);
          const seen = await Promise.all(some.map((name) => page.evaluate(recordSocket, { url: at(`/${name}`) })));
          faults.push(...some.flatMap((name, index) => faultsOf(name, seen[index])));
        }
        assert.deepEqual(faults, []);
      });

      for (const [http, spoken] of [["1.1", "http/1.1"], ["2", "h2"]]) {
        test(`every fault, over wss and HTTP/${http}`, async (t) => {
          const backend = await startBackend();
          t.after(backend.stop);
          const rooms = `[[route]]\npath = "/rooms"\nrooms = {}\n`;
          const streams = http === "1.1" ? "http2_streams = 0\n" : "";
          const server = await serve(t, { config: config(backend.url, rooms, streams).replace('path = "/"', 'path = "/back"'), tls: true });
          const page = await held.browser.newPage({ ignoreHTTPSErrors: true });
          t.after(() => page.close());
          await page.goto(`${server.page}style.css`);
          assert.equal(await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol), spoken);
          const faults = [];
          for (const names = Object.keys(FAULTS); names.length > 0; ) {
            const some = names.splice(0, AT_ONCE);
            const url = (name) => new URL(`/back/${name}`, server.routes.find((route) => route.endsWith("/back"))).href;
            const seen = await Promise.all(some.map((name) => page.evaluate(recordSocket, { url: url(name) })));
            faults.push(...some.flatMap((name, index) => faultsOf(name, seen[index])));
          }
          assert.deepEqual(faults, []);
          assert.deepEqual(new Set(server.endings().map((ending) => ending.http)), new Set([http]));
        });
      }

      for (const [how, says] of Object.entries({ "that chats": { onopen: ["a", "b", "c"] }, "that floods": { flood: "x".repeat(1_000) } })) {
        test(`a back end that fails a page ${how}`, async (t) => {
          const { at, pages } = await start(t);
          const page = await openPage(t, held, pages);
          const runs = RACY.flatMap((name) => Array(RUNS).fill(name));
          const faults = [];
          while (runs.length > 0) {
            const some = runs.splice(0, AT_ONCE);
            const seen = await Promise.all(some.map((name) => page.evaluate(recordSocket, { url: at(`/${name}`), ...says })));
            faults.push(...some.flatMap((name, index) => faultsOf(name, seen[index])));
          }
          assert.deepEqual(faults, []);
        });
      }

      test("nobody listens", async (t) => {
        const { backend, at, pages } = await start(t);
        const page = await openPage(t, held, pages);
        backend.stop();
        const events = await page.evaluate(recordSocket, { url: at("/quiet") });
        const [, { data }, { code, reason }] = events;
        assert.deepEqual([code, reason, JSON.parse(data).data.name], [1014, "The upstream cannot be reached", "bad_gateway"]);
      });
    });
  }

  test("a judge that sees what is wrong", () => {
    const right = [{ type: "open" }, { type: "message", data: "hello" }, { type: "close", code: 4001, reason: "first" }];
    assert.deepEqual(faultsOf("two-closes", right), []);
    for (const wrong of [{ code: 1006, reason: "" }, { code: 4002, reason: "second" }]) {
      assert.notDeepEqual(faultsOf("two-closes", [...right.slice(0, 2), { type: "close", ...wrong }]), []);
    }
    assert.notDeepEqual(faultsOf("two-closes", right.filter(({ type }) => type !== "message")), []);
    assert.notDeepEqual(faultsOf("fin", right), []);
  });

  test("a program gets the upstream's own status, in HTTP", async (t) => {
    const { at } = await start(t);
    for (const [name, { expect }] of Object.entries(FAULTS).filter(([, { expect }]) => expect.refused)) {
      const peer = await rawConnect(at(`/${name}`));
      const problem = JSON.parse(peer.body);
      assert.deepEqual([peer.status, problem.name], [expect.status, expect.name], name);
      assert.equal(peer.headers["content-type"], "application/problem+json");
      assert.equal(problem.details.source, "upstream");
      if (name.startsWith("status-")) assert.equal(problem.details.http_status, Number(name.slice(7)));
      if (expect.retry_after_ms) assert.equal(peer.headers["retry-after"], String(expect.retry_after_ms / 1000));
      assert.equal(peer.headers.location, undefined);
    }
  });

  test("what goes upstream is the client's request, and nothing of its connection", async (t) => {
    const { backend, at } = await start(t);
    const peer = await rawConnect(at("/quiet/?a=b&access_token=x"), {
      protocols: ["mqtt", "saywhy.bearer.secret", "chat"],
      headers: {
        Connection: "keep-alive, Upgrade, X-Named",
        "X-Named": "1", "Keep-Alive": "timeout=5", TE: "trailers", "Proxy-Connection": "x", "Proxy-Authorization": "x",
        "X-Forwarded-For": "203.0.113.9", X_Forwarded_For: "203.0.113.9", Forwarded: "for=203.0.113.9", "X-Real-IP": "203.0.113.9",
        "Saywhy-Connection-Id": "forged", Expect: "x", "HTTP2-Settings": "x",
        Cookie: "session=1", Authorization: "Basic abc", "X-Own": "kept",
        "Sec-WebSocket-Extensions": "x-other, permessage-deflate; client_max_window_bits",
      },
    });
    assert.equal(peer.status, 404); // the path ends with a slash: none of its faults
    const [{ head, heard }] = backend.peers;
    assert.equal(heard.length, 0);
    const [line, ...lines] = head.split("\r\n");
    assert.equal(line, "GET /quiet/?a=b&access_token=x HTTP/1.1");
    const headers = Object.fromEntries(lines.map((one) => [one.split(":")[0].toLowerCase(), one.slice(one.indexOf(":") + 1).trim()]));
    assert.equal(Object.keys(headers).length, lines.length, "no header twice");
    const { "sec-websocket-key": key, "saywhy-connection-id": id, ...rest } = headers;
    assert.equal(Buffer.from(key, "base64").length, 16);
    assert.match(id, /^[0-9a-f]{32}$/);
    const host = new URL(at("/")).host;
    assert.deepEqual(rest, {
      host, upgrade: "websocket", connection: "Upgrade", "sec-websocket-version": "13",
      "sec-websocket-protocol": "mqtt, chat", "sec-websocket-extensions": "permessage-deflate; client_max_window_bits",
      cookie: "session=1", authorization: "Basic abc", "x-own": "kept",
      "x-forwarded-for": "127.0.0.1", "x-forwarded-host": host,
    });
  });

  test("what comes back is the upstream's answer, and nothing of its connection", async (t) => {
    const { at } = await start(t);
    const peer = await rawConnect(at("/chatty"), { protocols: ["mqtt", "chat"], headers: { "Sec-WebSocket-Extensions": "permessage-deflate" } });
    assert.equal(peer.status, 101);
    assert.ok(peer.acceptValid);
    const { "sec-websocket-accept": _, date: __, ...rest } = peer.headers;
    assert.deepEqual(rest, {
      upgrade: "websocket", connection: "Upgrade", "sec-websocket-protocol": "chat",
      "sec-websocket-extensions": "permessage-deflate; server_no_context_takeover", "set-cookie": "a=1, b=2", "x-own": "kept",
    });
    peer.reset();
  });

  test("t31 a path has one meaning, or none", async (t) => {
    const { backend, at } = await start(t);
    for (const path of ["/a/../echo", "/a/%2e%2e/echo", "/a/.%2E/echo", "/./echo", "/echo/..", "/a\\..\\echo", "/a%5C..%5Cecho"]) {
      const peer = await rawConnect(at("/"), { path });
      assert.equal(peer.status, 400, path);
      peer.reset();
    }
    assert.equal(backend.peers.length, 0);
  });

  test("t29 a connection to an upstream is for one client", async (t) => {
    const { backend, at } = await start(t);
    for (const name of ["quiet", "status-400", "status-200", "wrong-accept", "quiet"]) {
      const before = backend.peers.length;
      const peer = await rawConnect(at(`/${name}`));
      if (peer.status === 101) await peer.sendFrame({ opcode: 8 });
      else peer.fin();
      await peer.ended;
      peer.fin();
      assert.equal(backend.peers.length, before + 1);
      await eventually(() => backend.peers.at(-1).ended);
      assert.equal(backend.peers.at(-1).head.match(/HTTP\/1.1/g).length, 1);
    }
  });

  test("a client that is gone, or says goodbye: the upstream is told which", async (t) => {
    const { backend, at } = await start(t, "limits = { message_bytes = 1000, messages_per_s = 1, message_burst = 3 }");
    const closeOf = async (act, { headers } = {}) => {
      const peer = await rawConnect(at("/quiet"), { headers });
      await act(peer);
      const upstream = backend.peers.at(-1);
      const frames = await eventually(() => parseAll(upstream.heard).some(({ opcode }) => opcode === 8) && parseAll(upstream.heard));
      await eventually(() => upstream.ended);
      peer.reset();
      const { payload, masked } = frames.find(({ opcode }) => opcode === 8);
      assert.ok(masked, "a client masks");
      return closeInfo(payload);
    };
    const close = (code, reason) => (peer) => peer.sendFrame({ opcode: 8, payload: Buffer.concat([Buffer.of(code >> 8, code & 255), Buffer.from(reason)]) });
    assert.deepEqual(await closeOf(close(4321, "so it goes")), { code: 4321, reason: "so it goes" });
    assert.deepEqual(await closeOf((peer) => peer.sendFrame({ opcode: 8 })), { code: 1005, reason: "" });
    const gone = { code: 1001, reason: "The client is gone" };
    assert.deepEqual(await closeOf((peer) => peer.fin()), gone);
    assert.deepEqual(await closeOf((peer) => peer.reset()), gone);
    const ended = { code: 1001, reason: "The gateway ended the connection" };
    assert.deepEqual(await closeOf((peer) => peer.sendFrame({ opcode: 3 })), ended);
    assert.deepEqual(await closeOf((peer) => peer.sendFrame({ opcode: 2, payload: Buffer.alloc(1001) })), ended);
    assert.deepEqual(await closeOf(async (peer) => {
      for (let i = 0; i < 4; i++) await peer.sendFrame({ payload: "again" });
      const frames = [];
      for await (const one of peer.frames) frames.push(one);
      assert.equal(JSON.parse(frames[0].payload).data.name, "rate_limited");
      assert.equal(closeInfo(frames[1].payload).code, 4005);
    }), ended);
  });

  test("frames go on as they come, and a Close can stand between any two", async (t) => {
    const { backend, at } = await start(t);
    const peer = await rawConnect(at("/quiet"));
    const upstream = backend.peers.at(-1);
    // Ten bytes of a frame of a hundred.
    const whole = encodeFrame({ opcode: 1, payload: "x".repeat(100) });
    await peer.sendBytes(whole.subarray(0, 16));
    const [first] = await eventually(() => parseAll(upstream.heard).length === 1 && parseAll(upstream.heard));
    assert.deepEqual([first.fin, first.opcode, String(first.payload)], [false, 1, "x".repeat(10)]);
    await peer.sendBytes(whole.subarray(16, 50));
    peer.reset();
    const frames = await eventually(() => parseAll(upstream.heard).some(({ opcode }) => opcode === 8) && parseAll(upstream.heard));
    assert.equal(frames.filter(({ opcode }) => opcode < 8).map(({ payload }) => String(payload)).join(""), "x".repeat(44));
    assert.deepEqual(frames.filter(({ opcode }) => opcode < 8).map(({ fin, opcode }) => `${fin}${opcode}`), ["false1", "false0"]);
    assert.equal(closeInfo(frames.at(-1).payload).code, 1001);
  });

  test("a back end that answers before it reads on, and a client that asks ahead", async (t) => {
    const { at } = await start(t, "limits = { write_ms = 2000 }");
    const peer = await rawConnect(at("/tenfold"));
    const questions = Array.from({ length: 3_000 }, (_, n) => encodeFrame({ payload: `${n} `.padEnd(1_000, "x") }));
    const asked = peer.sendBytes(Buffer.concat(questions));
    for (let n = 0; n < questions.length * 10; n++) {
      // A part of a frame goes on as a fragment.
      const parts = [];
      do parts.push((await peer.frames.next()).value);
      while (!parts.at(-1).fin);
      assert.equal(parts[0].opcode, 1);
      assert.equal(String(Buffer.concat(parts.map(({ payload }) => payload))), `${Math.floor(n / 10)} `.padEnd(1_000, "x"));
    }
    assert.ok(await asked);
    await peer.sendFrame({ opcode: 8 });
    assert.equal((await peer.frames.next()).value.opcode, 8);
    peer.fin();
  });

  test("what came within the rate goes on, however it was cut", async (t) => {
    const { backend, at } = await start(t, "limits = { messages_per_s = 1, message_burst = 10 }");
    const peer = await rawConnect(at("/quiet"));
    await peer.sendBytes(Buffer.concat(Array.from({ length: 30 }, (_, n) => encodeFrame({ payload: `${n}` }))));
    const [told, close] = [(await peer.frames.next()).value, (await peer.frames.next()).value];
    assert.deepEqual([JSON.parse(told.payload).data.name, closeInfo(close.payload).code], ["rate_limited", 4005]);
    const upstream = backend.peers.at(-1);
    await eventually(() => parseAll(upstream.heard).some(({ opcode }) => opcode === 8));
    const heard = parseAll(upstream.heard).filter(({ opcode }) => opcode === 1).map(({ payload }) => Number(payload));
    assert.deepEqual(heard, Array.from({ length: 10 }, (_, n) => n));
    peer.reset();
  });

  test("our messages stay out of the subprotocol that the upstream chose", async (t) => {
    const { at } = await start(t);
    const peer = await rawConnect(at("/chatty"), { protocols: ["chat", "saywhy.v1"], headers: { "Sec-WebSocket-Extensions": "permessage-deflate" } });
    assert.equal(peer.headers["sec-websocket-protocol"], "chat");
    await peer.sendFrame({ opcode: 3 });
    assert.equal((await peer.frames.next()).value.opcode, 8);
    peer.reset();
  });

  test("Pings belong to each side", async (t) => {
    const { backend, at } = await start(t);
    const peer = await rawConnect(at("/quiet"));
    await peer.sendFrame({ opcode: 9, payload: "are you there?" });
    const { value } = await peer.frames.next();
    assert.deepEqual([value.opcode, String(value.payload)], [10, "are you there?"]);
    assert.equal(backend.peers.at(-1).heard.length, 0);
    backend.peers.at(-1).socket.write(encodeFrame({ opcode: 9, payload: "and you?", mask: false }));
    const pong = await eventually(() => parseAll(backend.peers.at(-1).heard).at(0));
    assert.deepEqual([pong.opcode, pong.masked, String(pong.payload)], [10, true, "and you?"]);
    peer.reset();
  });

  test("a back end and a client that say nothing any more are noticed", async (t) => {
    const { backend, server, at } = await start(t, "limits = { heartbeat_ms = 200 }");
    const silent = new Promise((resolve) => backend.server.once("connection", (socket) => resolve(socket)));
    const peer = await rawConnect(at("/quiet"));
    (await silent).pause(); // takes nothing, answers nothing
    const frames = [];
    const answering = (async () => {
      for await (const one of peer.frames) {
        if (one.opcode === 9) await peer.sendFrame({ opcode: 10, payload: one.payload });
        else frames.push(one);
      }
    })();
    await answering;
    assert.equal(JSON.parse(frames[0].payload).data.message, "The upstream does not answer any more");
    assert.equal(closeInfo(frames[1].payload).code, 1014);
    peer.reset();
    const mute = await rawConnect(at("/quiet"));
    const upstream = backend.peers.at(-1);
    const told = await eventually(() => parseAll(upstream.heard).find(({ opcode }) => opcode === 8));
    assert.deepEqual(closeInfo(told.payload), { code: 1001, reason: "The client is gone" });
    assert.equal((await server.ending(/saywhy-connection-id: (.*)/i.exec(upstream.head)[1])).cause, "timeout");
    mute.reset();
  });

  test("a drain ends each session at a time of its own, with 1012 and no goodbye", async (t) => {
    const { backend, server, at } = await start(t, "[drain]\nwindow_ms = 400");
    const peers = await Promise.all(Array.from({ length: 8 }, () => rawConnect(at("/quiet"))));
    const began = performance.now();
    const stopped = server.stop("SIGTERM");
    const seen = await Promise.all(peers.map(async (peer) => {
      const { value } = await peer.frames.next();
      await peer.sendFrame({ opcode: 8, payload: value.payload });
      return { opcode: value.opcode, ...closeInfo(value.payload), t: performance.now() - began };
    }));
    for (const { opcode, code, reason } of seen) assert.deepEqual([opcode, code, reason], [8, 1012, "The service is restarting"]);
    // The last of eight is not before seven eighths of the window, however slow the machine is.
    assert.ok(Math.max(...seen.map(({ t }) => t)) >= 340);
    for (const upstream of backend.peers) {
      const close = await eventually(() => parseAll(upstream.heard).find(({ opcode }) => opcode === 8));
      assert.deepEqual(closeInfo(close.payload), { code: 1001, reason: "The gateway restarts" });
    }
    await stopped;
    peers.forEach(({ reset }) => reset());
  });

  test("several upstreams share the connections, and one that is not there gets none", async (t) => {
    const others = await Promise.all([startBackend(), startBackend()]);
    t.after(() => others.forEach(({ stop }) => stop()));
    const { backend, at, server } = await start(t, "", others.map(({ url }) => url));
    const all = [backend, ...others];
    const open = async () => {
      const peer = await rawConnect(at("/quiet"));
      assert.equal(peer.status, 101);
      peer.reset();
    };
    for (let i = 0; i < 9; i++) await open();
    assert.deepEqual(all.map(({ peers }) => peers.length), [3, 3, 3]);
    others[0].stop();
    for (let i = 0; i < 8; i++) await open();
    assert.equal(backend.peers.length + others[1].peers.length, 14);
    assert.equal(server.lines().filter(({ fields, message }) => /cannot be reached/.test(message ?? fields?.message)).length, 1);
    all.forEach(({ stop }) => stop());
    assert.equal((await rawConnect(at("/quiet"))).status, 502);
  });

  test("who does not do its work is asked last, and no one else instead", async (t) => {
    const ill = await startBackend({ usually: "status-503" });
    t.after(ill.stop);
    const { backend, at } = await start(t, "", [ill.url]);
    const seen = [];
    for (let i = 0; i < 8; i++) {
      const peer = await rawConnect(at("/quiet"));
      seen.push(peer.status);
      peer.reset();
    }
    assert.deepEqual(seen.filter((status) => status !== 101), [503], "once: nothing is asked twice");
    assert.deepEqual([ill.peers.length, backend.peers.length], [1, 7]);
  });

  test("nobody pushes a back end aside by asking for a page", async (t) => {
    const other = await startBackend();
    t.after(other.stop);
    const { backend, at } = await start(t, "", [other.url]);
    for (let i = 0; i < 4; i++) assert.equal((await rawConnect(at("/status-200"))).status, 502);
    const before = [backend, other].map(({ peers }) => peers.length);
    for (let i = 0; i < 6; i++) (await rawConnect(at("/quiet"))).reset();
    assert.deepEqual([backend, other].map(({ peers }, which) => peers.length - before[which]), [3, 3]);
  });

  test("sessions are listed and removed as those of rooms are", async (t) => {
    const key = "the key of the test's API";
    const { backend, server, at } = await start(t, `[api]\nkey = "${key}"\n[token]\nhs256_secret = "0123456789abcdef0123456789abcdef"`);
    const api = (method, path, body) => call(server.apiUrl + path, method, body, { authorization: `Bearer ${key}` });
    const peer = await rawConnect(at("/quiet"));
    const [{ id, path }] = (await api("GET", "/connections")).body.connections;
    assert.equal(path, "/quiet");
    assert.equal((await api("DELETE", `/connections/${id}`, { message: "Be nice" })).status, 204);
    const [message, close] = [(await peer.frames.next()).value, (await peer.frames.next()).value];
    const { name, message: words, fatal, retry } = JSON.parse(message.payload).data;
    assert.deepEqual([name, words, fatal, retry], ["kicked", "Be nice", true, "never"]);
    assert.deepEqual(closeInfo(close.payload), { code: 4008, reason: "Be nice" });
    await peer.sendFrame({ opcode: 8, payload: close.payload });
    const told = await eventually(() => parseAll(backend.peers.at(-1).heard).find(({ opcode }) => opcode === 8));
    assert.equal(closeInfo(told.payload).code, 1001);
    assert.equal((await api("GET", "/connections")).body.total, 0);
    assert.equal((await api("GET", "/rooms")).status, 404, "there are none");
    assert.equal((await server.ending(id)).cause, "kicked");
  });

  test("an upstream behind TLS, if its certificate is good", async (t) => {
    // Of an authority that only the first of the two servers trusts.
    const file = (name) => readFileSync(new URL(`support/tls/${name}`, import.meta.url));
    const https = createTlsServer({ cert: file("certificate.pem"), key: file("key.pem") });
    new WebSocketServer({ server: https }).on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
    await once(https.listen(0, "127.0.0.1"), "listening");
    t.after(() => https.close() && https.closeAllConnections());
    const { port } = https.address();
    const trusting = (authority) => ({ config: config(`wss://localhost:${port}`), env: { SSL_CERT_FILE: authority } });
    const good = await serve(t, trusting(fileURLToPath(new URL("support/tls/ca.pem", import.meta.url))));
    const peer = await rawConnect(good.url);
    assert.equal(peer.status, 101);
    await peer.sendFrame({ payload: "hello" });
    assert.equal(String((await peer.frames.next()).value.payload), "hello");
    peer.reset();
    const other = await serve(t, trusting(join(certificates, "certificate.pem")));
    const refused = await rawConnect(other.url);
    assert.deepEqual([refused.status, JSON.parse(refused.body).name], [502, "bad_gateway"]);
    assert.match(other.log(), /invalid peer certificate/);
  });

  test("tokens and origins are asked for at the edge", async (t) => {
    const { backend, at, pages } = await start(t, `token = "required"`);
    assert.equal((await rawConnect(at("/quiet"))).status, 401);
    const foreign = await rawConnect(at("/quiet"), { headers: { Origin: "https://evil.example" } });
    assert.equal(foreign.headers["saywhy-refused"], "forbidden");
    foreign.reset();
    const page = await rawConnect(at("/quiet"), { headers: { Origin: pages } });
    assert.equal(page.headers["saywhy-refused"], "unauthorized");
    page.reset();
    assert.equal(backend.peers.length, 0);
  });

  test("a foreign subprotocol gets Closes only", async (t) => {
    const { at } = await start(t);
    for (const name of ["status-401", "rst", "silent-in-handshake"]) {
      const peer = await rawConnect(at(`/${name}`), { protocols: ["graphql-transport-ws"], headers: { Origin: at("/").replace("ws", "http").slice(0, -1) } });
      const frames = [];
      for await (const one of peer.frames) frames.push(one);
      const own = frames.filter(({ payload }) => String(payload) !== "hello");
      assert.deepEqual(own.map(({ opcode }) => opcode), [8], name);
      peer.reset();
    }
  });
});
