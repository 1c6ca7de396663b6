// `saywhy connect`: whatever becomes of a connection is said, and is an exit code.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import { eventually, jsonLines, serve } from "./support/client.mjs";
import { freePort } from "./support/ports.mjs";
import { certificates } from "./support/server.mjs";

const binary = process.env.SAYWHY_BIN ?? fileURLToPath(new URL("../target/debug/saywhy", import.meta.url));

/** Runs it; `input` is all of standard input, or a function that is given the process. */
async function run(args, { input = "", env = {} } = {}) {
  const child = spawn(binary, ["connect", ...args], { env: { ...process.env, ...env }, stdio: ["pipe", "pipe", "pipe"] });
  const out = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"]) child[name].setEncoding("utf8").on("data", (text) => (out[name] += text));
  child.stdin.on("error", () => {});
  if (typeof input === "string") child.stdin.end(input);
  else void input(child, out);
  const [code, signal] = await once(child, "close");
  return { code, signal, lines: out.stdout.split("\n").slice(0, -1), ...out };
}

/** A server with `ws` that does this with every connection. */
async function plain(t, act) {
  const sockets = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  sockets.on("connection", (socket, request) => {
    socket.on("error", () => {});
    act(socket, request);
  });
  await once(sockets, "listening");
  t.after(() => {
    for (const socket of sockets.clients) socket.terminate();
    sockets.close();
  });
  return `ws://127.0.0.1:${sockets.address().port}`;
}

const echo = (socket) => socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));

describe("saywhy connect", { timeout: 120_000 }, () => {
  test("lines go out as messages, messages come in as lines, and it closes when both are done", async (t) => {
    const closes = [];
    const url = await plain(t, (socket) => {
      echo(socket);
      socket.on("close", (code) => closes.push(code));
    });
    const { code, lines, stderr } = await run([url, "--plain"], { input: "one\n/two\n{\"three\": 3}\n" });
    assert.deepEqual([code, lines], [0, ["one", "/two", '{"three": 3}']], "nothing is a command in a pipe");
    assert.equal(stderr, "open: 101, no subprotocol\nclosed here: 1000, and the server answered 1000\n");
    await eventually(() => closes.length === 1);
    assert.deepEqual(closes, [1000]);
  });

  test("with rooms: a token that is in no list of processes, and a room", async (t) => {
    const server = await serve(t);
    const folder = mkdtempSync(join(tmpdir(), "saywhy-connect-"));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const file = join(folder, "alice.jwt");
    writeFileSync(file, `${await server.mint("alice")}\n`);
    const send = JSON.stringify({ type: "send", data: { room: "lobby", body: "hello" }, meta: { request_id: "mine" } });
    const { code, lines } = await run([server.url, "--token-file", file, "--join", "lobby"], { input: `${send}\n` });
    assert.equal(code, 0);
    assert.deepEqual(lines.map((line) => JSON.parse(line).type).toSorted(), ["message", "ok", "ok", "ready"]);
    const byVariable = await run([server.url, "--json"], { env: { SAYWHY_CONNECT_TOKEN: await server.mint("bob") } });
    const events = jsonLines(byVariable.stdout);
    assert.deepEqual(events.map(({ event }) => event), ["open", "message", "closed"]);
    assert.deepEqual(events.at(-1), { event: "closed", by: "us", code: 1000, reason: "", answer: { code: 1000, reason: "" } });
  });

  test("a refusal, in either form: 4", async (t) => {
    const server = await serve(t);
    const close = await run([server.url]);
    assert.equal(close.code, 4);
    const [said] = close.lines.map((line) => JSON.parse(line));
    assert.match(
      close.stderr,
      /^open: 101, subprotocol saywhy\.v1\nrefused: 4003 "A token is needed: sign in", unauthorized\nrequest id: [0-9a-f]{32}\ntry again: reauthenticate\nhint: Get a new token/,
    );
    assert.ok(close.stderr.includes(said.meta.request_id), "the id under which the operator finds it");
    const http = await run([server.url, "--plain"]);
    assert.equal(http.code, 4);
    assert.match(http.stderr, /^refused: HTTP 401, unauthorized\n  \{"code":4003,/);
    const [event] = jsonLines((await run([server.url, "--plain", "--json"])).stdout);
    assert.deepEqual([event.event, event.status, event.name, JSON.parse(event.body).name], ["refused", 401, "unauthorized", "unauthorized"]);
    const other = createServer((_, response) => response.writeHead(403, { "retry-after": "9" }).end("\u001b[31mno\nway"));
    await once(other.listen(0, "127.0.0.1"), "listening");
    t.after(() => other.close());
    const foreign = await run([`ws://127.0.0.1:${other.address().port}/`]);
    assert.equal(foreign.code, 4);
    assert.match(foreign.stderr, /^refused: HTTP 403, forbidden\n {2}\\u\{1b\}\[31mno\n {2}way\ntry again: after\n/, "escaped");
  });

  test("an end that the server chose is 1, unless it is 1000", async (t) => {
    const url = await plain(t, (socket, { url }) => (url === "/terminate" ? socket.terminate() : socket.close(Number(url.slice(1)), "because")));
    for (const [path, expected, words] of [
      ["/1000", 0, /^open: .*\nclosed: 1000 "because"\n/],
      ["/4401", 1, /closed: 4401 "because"\ntry again: never\n/],
      ["/1012", 1, /closed: 1012 "because", service_restart\ntry again: after\n/],
      ["/terminate", 1, /closed: connection_lost: The server ended the connection without a Close \(1006\)\n/],
    ]) {
      const { code, stderr } = await run([url + path, "--plain"], { input: (child) => once(child, "exit").then(() => child.stdin.end()) });
      assert.equal(code, expected, stderr);
      assert.match(stderr, words);
    }
  });

  test("nobody there: 3; not open in time: 5; what cannot be tried: 2", async (t) => {
    const gone = await run([`ws://127.0.0.1:${await freePort()}`]);
    assert.deepEqual([gone.code, /^unreachable: connection_lost: The server cannot be reached: Connection refused/.test(gone.stderr)], [3, true]);
    const url = await plain(t, () => {});
    const silent = await run([url, "--protocol", "saywhy.v1", "--timeout-ms", "300"], { input: () => {} });
    assert.equal(silent.code, 5);
    assert.match(silent.stderr, /did not say `ready` in time; hint: --plain/);
    for (const args of [["http://a"], ["ws://user:word@a"], [url, "--header", "nonsense"], [url, "--token-file", "/nowhere"], [url, "--ca", "/nowhere"], []]) {
      const { code, stderr } = await run(args);
      assert.equal(code, 2, `${args}: ${stderr}`);
      assert.ok(!stderr.includes("word@"));
    }
  });

  test("Ctrl-C closes in good order: 130", async (t) => {
    const closes = [];
    const url = await plain(t, (socket) => {
      socket.send("hello");
      socket.on("close", (code) => closes.push(code));
    });
    const { code, stderr } = await run([url, "--plain"], {
      input: async (child, out) => {
        await eventually(() => out.stdout.includes("hello"));
        child.kill("SIGINT");
      },
    });
    assert.equal(code, 130);
    assert.match(stderr, /closed here: 1000/);
    await eventually(() => closes.length === 1);
    assert.deepEqual(closes, [1000]);
  });

  test("certificates are checked", async (t) => {
    const server = await serve(t, { tls: true });
    const { code, stderr } = await run([server.url]);
    assert.equal(code, 3);
    assert.match(stderr, /^unreachable: connection_lost: There is no TLS with the server: invalid peer certificate/);
    assert.equal((await run([server.url, "--ca", join(certificates, "key.pem")])).code, 2, "holds no certificate");
  });

  test("headers and bytes", async (t) => {
    const url = await plain(t, (socket, { headers }) => {
      socket.send(Buffer.from([0, 255]));
      socket.send(JSON.stringify([headers.origin, headers.cookie]));
    });
    const { code, lines } = await run([url, "--plain", "--origin", "https://app.example", "--header", "Cookie: a=1"]);
    assert.deepEqual([code, lines], [0, ["binary, 2 bytes: 00ff", '["https://app.example","a=1"]']]);
  });
});
