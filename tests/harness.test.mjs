// The harness tested by itself, against servers made up here: if this fails, no other test's result means anything.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import { browsers } from "./support/browsers.mjs";
import { closeInfo, encodeFrame, parseFrame, rawConnect } from "./support/raw.mjs";
import { startServer } from "./support/server.mjs";
import { recordSocket } from "./support/socket-script.mjs";

const artefacts = fileURLToPath(new URL("./artefacts/", import.meta.url));
mkdirSync(artefacts, { recursive: true });

const PAGE = `<!doctype html><title>before</title>
<style>:root { color-scheme: light dark }</style>
<button onclick="document.title = 'clicked'">press</button>`;

for (const { name, launch } of browsers) {
  describe(name, { timeout: 60_000 }, () => {
    let server, browser, page;
    before(async () => {
      server = await startPlainServer();
      browser = await launch();
      page = await browser.newPage();
      await page.goto(`http://${server.host}/`);
    });
    after(async () => {
      await browser?.close();
      server?.stop();
    });

    test("drives a page", async () => {
      assert.deepEqual(await page.evaluate(async (sent) => ({ sent }), { list: [1, "two", null] }), {
        sent: { list: [1, "two", null] },
      });

      await page.click("button");
      assert.equal(await page.title(), "clicked");

      const isDark = () => page.evaluate(() => matchMedia("(prefers-color-scheme: dark)").matches);
      assert.equal(await isDark(), false);
      await page.emulateMedia({ colorScheme: "dark" });
      assert.equal(await isDark(), true);
      const image = await page.screenshot({ path: join(artefacts, `harness-${name}.png`) });
      assert.equal(image.toString("latin1", 1, 4), "PNG");
      await page.emulateMedia({ colorScheme: "light" });
      assert.equal(await isDark(), false);
    });

    // The negative control: a page learns nothing from a refused handshake, whatever the answer says.
    for (const path of ["/refuse", "/refuse-and-ask-for-a-password"]) {
      test(`a 401 (${path}) is an error and a bare close 1006`, async () => {
        const events = await page.evaluate(recordSocket, { url: `ws://${server.host}${path}` });
        assert.deepEqual(events.map(withoutTime), [
          { type: "error" },
          { type: "close", code: 1006, reason: "", wasClean: false },
        ]);
      });
    }

    test("open, message, close 4403, in this order, from one write; 20 of 20", async () => {
      for (let run = 1; run <= 20; run++) {
        const events = await page.evaluate(recordSocket, { url: `ws://${server.host}/refuse-by-close` });
        assert.deepEqual(events.map(withoutTime), [
          { type: "open", protocol: "" },
          { type: "message", data: "hello" },
          { type: "close", code: 4403, reason: "no", wasClean: true },
        ], `run ${run}`);
      }
      assert.deepEqual(server.closesReceived, Array(20).fill(4403));
    });

    test("records what goes both ways, and gives up at the timeout", async () => {
      const echo = await startEcho();
      const url = `ws://${echo.host}/`;

      const exchange = { url, protocols: ["a", "b"], onopen: ["text", { bytes: [0, 255] }, { close: [3001, "done"] }] };
      const events = await page.evaluate(recordSocket, exchange);
      assert.deepEqual(events.map(withoutTime).filter(({ type }) => type !== "message"), [
        { type: "open", protocol: "a" },
        { type: "close", code: 3001, reason: "done", wasClean: true },
      ]);
      assert.deepEqual(echo.received, [Buffer.from("text"), Buffer.from([0, 255])]);

      const silent = await page.evaluate(recordSocket, { url, onopen: [{ bytes: [7] }], timeoutMs: 300 });
      assert.deepEqual(silent.map(withoutTime), [
        { type: "open", protocol: "" },
        { type: "message", data: { bytes: [7] } },
        { type: "timeout" },
      ]);

      const impossible = await page.evaluate(recordSocket, { url, protocols: ["not a token"] });
      assert.deepEqual(impossible.map(({ type, name }) => ({ type, name })), [{ type: "throw", name: "SyntaxError" }]);
      echo.stop();
    });
  });
}

describe("rawConnect", { timeout: 20_000 }, () => {
  let echo, url;
  before(async () => {
    echo = await startEcho();
    url = `ws://${echo.host}/chat?x=1`;
  });
  after(() => echo.stop());

  test("shakes hands, and sends and receives frames of all three length forms", async () => {
    const peer = await rawConnect(url, { protocols: ["a", "b"] });
    assert.equal(peer.status, 101);
    assert.equal(peer.headers["sec-websocket-protocol"], "a");
    assert.equal(peer.acceptValid, true);
    for (const size of [0, 125, 126, 65535, 65536, 200_000]) {
      await peer.sendFrame({ opcode: 2, payload: Buffer.alloc(size, 7) });
      const { value } = await peer.frames.next();
      assert.deepEqual(value, { fin: true, rsv: 0, opcode: 2, masked: false, payload: Buffer.alloc(size, 7) });
    }
    await peer.sendFrame({ opcode: 8, payload: Buffer.from([0x0b, 0xb8, 0x62, 0x79, 0x65]) });
    const { value } = await peer.frames.next();
    assert.equal(value.opcode, 8);
    assert.deepEqual(closeInfo(value.payload), { code: 3000, reason: "bye" });
    assert.deepEqual(await peer.ended, { error: null, rest: Buffer.alloc(0) });
    assert.equal((await peer.frames.next()).done, true);
    peer.fin();
  });

  for (const [what, frame, code] of [
    ["an unmasked frame", { payload: "x", mask: false }, 1002],
    ["a reserved bit", { payload: "x", rsv: 4 }, 1002],
    ["a continuation of nothing", { opcode: 0, payload: "x" }, 1002],
    ["a frame longer than allowed", { payload: "x", declaredLength: 2 ** 40 }, 1009],
  ]) {
    test(`can send ${what}`, async () => {
      const peer = await rawConnect(url);
      await peer.sendFrame(frame);
      const { value } = await peer.frames.next();
      assert.equal(closeInfo(value.payload).code, code);
      peer.reset();
    });
  }

  test("tells of a refused handshake, and can spoil every part of one", async () => {
    // A request that does not ask for an upgrade at all gets 426, here.
    const status = async (options) => {
      const peer = await rawConnect(url, options);
      peer.fin();
      return peer.status;
    };
    assert.equal(await status({ version: 12 }), 400);
    assert.equal(await status({ key: "short" }), 400);
    assert.equal(await status({ method: "POST" }), 405);
    assert.equal(await status({ headers: { upgrade: null } }), 426);
    assert.equal(await status({ headers: { upgrade: ["websocket", "websocket"] } }), 400);

    const peer = await rawConnect(url, { path: "/elsewhere" });
    assert.equal(peer.status, 404);
    assert.equal(peer.headers["content-type"], "text/plain");
    assert.equal(String(peer.body), "not here");
    assert.equal((await peer.frames.next()).done, true);
    peer.fin();
  });

  test("pauses, breaks off, and sees a reset", async () => {
    const peer = await rawConnect(url);
    const ws = echo.newest();
    peer.pause();
    const answered = echo.nextAnswers(2);
    await peer.sendFrame({ payload: "one" });
    await peer.sendFrame({ payload: "two" });
    await answered;
    await setImmediate(); // were it reading, it would read now
    const next = peer.frames.next();
    assert.equal(await Promise.race([next, Promise.resolve("nothing")]), "nothing");
    peer.resume();
    assert.equal(String((await next).value.payload), "one");
    for await (const { payload } of peer.frames) {
      assert.equal(String(payload), "two");
      break;
    }

    const closed = once(ws, "close");
    peer.reset();
    assert.equal((await closed)[0], 1006);

    const other = await rawConnect(url);
    echo.newest()._socket.resetAndDestroy();
    assert.equal((await other.ended).error, "ECONNRESET");
    assert.equal(await other.sendFrame({ payload: "x" }), false);
  });

  test("rejects when nobody listens", async () => {
    const gone = await startEcho();
    gone.stop();
    await assert.rejects(rawConnect(`ws://${gone.host}/`), /ECONNREFUSED/);
  });

  test("closeInfo accepts only valid payloads", () => {
    assert.deepEqual(closeInfo(Buffer.alloc(0)), { code: 1005, reason: "" });
    assert.throws(() => closeInfo(Buffer.from([3])), /one byte/);
    assert.throws(() => closeInfo(Buffer.from([0x03, 0xe8, 0xff])), TypeError);
  });
});

describe("startServer", { timeout: 20_000 }, () => {
  let directory;
  before(() => (directory = mkdtempSync(join(tmpdir(), "saywhy-stub-"))));
  after(() => {
    delete process.env.SAYWHY_BIN;
    rmSync(directory, { recursive: true });
  });
  const stub = (script) => {
    process.env.SAYWHY_BIN = join(directory, "saywhy");
    writeFileSync(process.env.SAYWHY_BIN, `#!${process.execPath}\n${script}\n`);
    chmodSync(process.env.SAYWHY_BIN, 0o755);
  };

  test("reads what the server announces, and stops it", async () => {
    stub(`
      console.error(process.argv.slice(2).join(" "), require("fs").readFileSync(process.argv[8], "utf8"), process.env.WITH);
      process.on("SIGINT", () => process.exit(3));
      setInterval(() => {}, 1000);
      console.log("page http://p/\\nroute ws://r/1\\nroute ws://r/2\\napi http://a/\\napi-key k\\nready");`);
    const server = await startServer({ args: ["--more"], env: { WITH: "env" }, config: "text = 1" });
    const { page, routes, api, apiKey, pid } = server;
    assert.deepEqual({ page, routes, api, apiKey }, { page: "http://p/", routes: ["ws://r/1", "ws://r/2"], api: "http://a/", apiKey: "k" });
    process.kill(pid, 0);
    assert.deepEqual(await server.stop(), { code: 3, signal: null });
    assert.match(server.log(), /^serve --listen 127.0.0.1:0 --api-listen 127.0.0.1:0 --config \S+ --more text = 1 env\n$/);
  });

  test("says why the server did not start", async () => {
    stub(`console.error("no such port"); process.exitCode = 2;`);
    await assert.rejects(startServer(), /exit code 2.*before it was ready; its stderr:\nno such port/s);
    process.env.SAYWHY_BIN = join(directory, "nothing");
    await assert.rejects(startServer(), /cargo build.*ENOENT/);
  });
});

function withoutTime({ t, ...event }) {
  assert.equal(typeof t, "number");
  return event;
}

/** A server that writes its WebSocket answers by hand, to have them in one write. */
async function startPlainServer() {
  const closesReceived = [];
  const http = createServer((request, response) => response.setHeader("content-type", "text/html").end(PAGE));
  http.on("upgrade", (request, socket) => {
    if (request.url !== "/refuse-by-close") {
      const challenge = request.url === "/refuse" ? "" : 'WWW-Authenticate: Basic realm="x"\r\n';
      return socket.end(`HTTP/1.1 401 Unauthorized\r\n${challenge}Content-Length: 2\r\n\r\nno`);
    }
    const accept = createHash("sha1").update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`);
    socket.write(
      Buffer.concat([
        Buffer.from("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"),
        Buffer.from(`Sec-WebSocket-Accept: ${accept.digest("base64")}\r\n\r\n`),
        encodeFrame({ payload: "hello", mask: false }),
        encodeFrame({ opcode: 8, payload: Buffer.from([4403 >> 8, 4403 & 255, ...Buffer.from("no")]), mask: false }),
      ]),
    );
    let received = Buffer.alloc(0);
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk]);
      const parsed = parseFrame(received);
      if (!parsed) return;
      closesReceived.push(closeInfo(parsed.frame.payload).code);
      socket.end();
    });
  });
  await once(http.listen(0, "127.0.0.1"), "listening");
  return {
    host: `127.0.0.1:${http.address().port}`,
    closesReceived,
    stop: () => {
      http.close();
      http.closeAllConnections();
    },
  };
}

/** `ws` as an independent implementation to test against; it sends every message back. */
async function startEcho() {
  const http = createServer((request, response) => response.writeHead(426, { "content-length": 0 }).end());
  const sockets = new WebSocketServer({ noServer: true, maxPayload: 2 ** 20 });
  const received = [];
  const answers = new EventEmitter();
  http.on("upgrade", (request, socket, head) => {
    if (request.url === "/elsewhere") {
      return socket.end("HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\nnot here");
    }
    sockets.handleUpgrade(request, socket, head, (ws) => {
      ws.on("error", () => {}); // hostile frames are this server's ordinary fare
      ws.on("message", (data, binary) => {
        received.push(data);
        ws.send(data, { binary }, () => answers.emit("sent"));
      });
    });
  });
  await once(http.listen(0, "127.0.0.1"), "listening");
  return {
    host: `127.0.0.1:${http.address().port}`,
    received,
    newest: () => [...sockets.clients].at(-1),
    nextAnswers: (count) => new Promise((resolve) => answers.on("sent", () => --count === 0 && resolve())),
    stop: () => {
      for (const ws of sockets.clients) ws.terminate();
      http.close();
      http.closeAllConnections();
    },
  };
}
