// `saywhy probe`: nothing wrong with ours, everything wrong with servers that are wrong on purpose.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import { serve } from "./support/client.mjs";
import { CROWD } from "./support/crowd.mjs";
import { freePort } from "./support/ports.mjs";

const binary = process.env.SAYWHY_BIN ?? fileURLToPath(new URL("../target/debug/saywhy", import.meta.url));
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

async function probe(args) {
  const child = spawn(binary, ["probe", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  const out = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"]) child[name].setEncoding("utf8").on("data", (text) => (out[name] += text));
  const [code] = await once(child, "close");
  return { code, ...out };
}

/** The results by scenario. */
async function results(args) {
  const { stdout, code } = await probe([...args, "--json"]);
  const document = JSON.parse(stdout);
  return { code, document, of: Object.fromEntries(document.scenarios.map((one) => [one.id, one])) };
}

/** A server that is given a connection and the head of its first request. */
async function wrong(t, act) {
  const sockets = new Set();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    let head = "";
    const read = (bytes) => {
      head += bytes.toString("latin1");
      if (!head.includes("\r\n\r\n")) return;
      socket.off("data", read);
      act(socket, head);
    };
    socket.on("data", read);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `ws://127.0.0.1:${server.address().port}/`;
}

const accepts = (socket, head, more = "", spoil = "") => {
  const key = /^sec-websocket-key: *(.*)$/im.exec(head)?.[1].trim() ?? "";
  const accept = createHash("sha1").update(key + GUID + spoil).digest("base64");
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n${more}\r\n`);
};
const frame = (first, payload) => Buffer.concat([Buffer.of(first, payload.length), payload]);
const text = (words) => frame(0x81, Buffer.from(words));
const READY = text('{"type":"ready","data":{}}');

/** Servers that are wrong, each in its own way. Together they have to be found out by every scenario. */
const WRONG = {
  /** Lets everybody in, and then hears nothing. */
  deaf: (socket, head) => {
    accepts(socket, head);
    socket.on("data", () => {});
  },
  /** The same, in the envelope. */
  "deaf, and ready": (socket, head) => {
    accepts(socket, head, "Sec-WebSocket-Protocol: saywhy.v1\r\n");
    socket.write(READY);
    socket.on("data", () => {});
  },
  /** Accepts what was not asked for, and agrees to everything. */
  eager: (socket, head) => {
    const spoil = head.includes("GET / HTTP") && !/origin|extensions|x-long|authorization/i.test(head) ? "spoilt" : "";
    accepts(socket, head, "Sec-WebSocket-Protocol: never-offered\r\nSec-WebSocket-Extensions: permessage-deflate; no_such_parameter\r\n", spoil);
    socket.on("data", () => {});
  },
  /** Fails at strangers, in HTTP. */
  crashing: (socket) => socket.end("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
  /** Lets everybody in, and drops whoever says something. */
  rude: (socket, head) => {
    accepts(socket, head);
    socket.once("data", (bytes) => {
      const words = bytes.subarray(6).map((byte, at) => byte ^ bytes[2 + (at % 4)]);
      if (words.toString() === "probe") socket.write(text("probe"));
      else socket.resetAndDestroy();
    });
  },
};

describe("saywhy probe", { timeout: 300_000 }, () => {
  test("ours has nothing wrong with it, however strictly one looks", async (t) => {
    const server = await serve(t, { config: `[limits]\n${CROWD}` });
    const folder = mkdtempSync(join(tmpdir(), "saywhy-probe-"));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const [token, junit, markdown] = ["token", "probe.xml", "probe.md"].map((name) => join(folder, name));
    writeFileSync(token, await server.mint("prober"));
    const { code, stderr, stdout } = await probe([server.url, "--token-file", token, "--strict", "--junit", junit, "--markdown", markdown]);
    assert.equal(code, 0, stderr + stdout);
    assert.match(stderr, /\n53 pass of 53 scenarios in [\d.]+ s\n$/);
    assert.equal(readFileSync(junit, "utf8").match(/<testcase /g).length, 53);
    assert.match(readFileSync(junit, "utf8"), /^<\?xml[^]*tests="53" failures="0" skipped="0"/);
    assert.match(readFileSync(markdown, "utf8"), /\| `closing\/normal` \| pass \| Close 1000, then the end of the connection \| onclose 1000 \|/);
    assert.ok(!readFileSync(markdown, "utf8").includes(readFileSync(token, "utf8")));
  });

  test("every scenario finds out a server that is wrong", async (t) => {
    const all = (await probe(["--list"])).stdout.split("\n").filter((line) => /^\S/.test(line)).map((line) => line.split(" ")[0]);
    assert.equal(all.length, 53);
    const found = new Set();
    for (const [name, act] of Object.entries(WRONG)) {
      const { of } = await results([await wrong(t, act), "--patience-ms", "300"]);
      for (const [id, { verdict }] of Object.entries(of)) if (verdict === "fail" || verdict === "non-strict") found.add(id);
      assert.ok(Object.values(of).some(({ verdict }) => verdict === "fail"), name);
    }
    // These two ask whether the server is still there: one that is not is found out below.
    const alive = ["handshake/aborted", "handshake/gone-at-once"];
    assert.deepEqual(all.filter((id) => !found.has(id) && !alive.includes(id)), []);
  });

  test("a server that falls over is found out, wherever it does", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "saywhy-probe-"));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    // What befalls a server of Node without a listener for errors.
    const port = await freePort();
    const fragile = join(folder, "fragile.mjs");
    writeFileSync(fragile, `
      import { createServer } from "node:net";
      createServer((socket) => {
        socket.on("error", () => process.exit(1));
        let head = "";
        socket.on("data", (bytes) => (head += bytes).includes("\\r\\n\\r\\n") && socket.write("HTTP/1.1 404 Nothing\\r\\nContent-Length: 0\\r\\n\\r\\n"));
        socket.on("close", () => head.includes("\\r\\n\\r\\n") || process.exit(1));
      }).listen(${port}, "127.0.0.1", () => console.log("listening"));`);
    const child = spawn(process.execPath, [fragile], { stdio: ["ignore", "pipe", "ignore"] });
    t.after(() => child.kill());
    await once(child.stdout, "data");
    const { of, code } = await results([`ws://127.0.0.1:${port}`, "--only", "handshake/aborted"]);
    assert.deepEqual([code, of["handshake/aborted"].verdict], [1, "fail"]);
    assert.match(of["handshake/aborted"].got, /and then the server was gone$/);
  });

  test("Node's ws, as it comes: what is worth knowing about it", async (t) => {
    const sockets = new WebSocketServer({ port: 0, host: "127.0.0.1" });
    sockets.on("connection", (socket) => {
      socket.on("error", () => {});
      socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
    });
    await once(sockets, "listening");
    t.after(() => {
      for (const socket of sockets.clients) socket.terminate();
      sockets.close();
    });
    const { code, of } = await results([`ws://127.0.0.1:${sockets.address().port}/`, "--patience-ms", "1000"]);
    assert.equal(code, 1);
    const worth = Object.values(of).filter(({ verdict }) => verdict === "fail" || verdict === "non-strict");
    assert.deepEqual(
      worth.map(({ id, verdict }) => `${id} ${verdict}`),
      ["handshake/foreign-origin non-strict", "messages/length-form fail", "messages/endless non-strict"],
    );
    assert.equal(of["messages/unknown-type"].verdict, "skipped");
  });

  test("the same seed does the same, and another one does not", async (t) => {
    const url = await wrong(t, WRONG.deaf);
    const sent = async (seed) => {
      const { of } = await results([url, "--only", "messages/unmasked,messages/opcode,closing", "--patience-ms", "50", "--seed", seed]);
      // Ours only, and without the times.
      return Object.entries(of).map(([id, { transcript }]) => [id, transcript.split("\n").filter((line) => line.includes("→")).map((line) => line.split("→")[1])]);
    };
    const [one, again, other] = [await sent("7"), await sent("7"), await sent("8")];
    assert.deepEqual(one, again);
    assert.notDeepEqual(one, other);
  });

  test("what it cannot do is said: 2, and 3 where nobody is", async () => {
    const gone = await probe([`ws://127.0.0.1:${await freePort()}`]);
    assert.equal(gone.code, 3);
    assert.match(gone.stderr, /^error: the server cannot be reached: .*\nhint: does it listen there\?\n$/);
    const near = await probe(["ws://127.0.0.1:1", "--only", "closing/norml"]);
    assert.deepEqual([near.code, near.stderr], [2, "error: there is no scenario `closing/norml`\nhint: did you mean `closing/normal`? --list prints all\n"]);
    for (const args of [[], ["http://a"], ["ws://a", "--header", "x"], ["ws://a", "--token-file", "/nowhere"]]) assert.equal((await probe(args)).code, 2, args);
  });
});
