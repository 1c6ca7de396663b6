// What an idle connection costs: opens many, each in a room, and weighs the server before and after.
//
//   node bench/idle/idle.mjs [count]        needs target/release/saywhy, or SAYWHY_BIN
//
// Results are on standard output, one `key value` per line; it fails if a message does not reach everyone it should.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { CROWD } from "../../tests/support/crowd.mjs";
import { encodeFrame } from "../../tests/support/raw.mjs";
import { startServer } from "../../tests/support/server.mjs";

const COUNT = Number(process.argv[2] ?? 10_000);
const MEMBERS = 10; // in each room
const ADDRESSES = 8; // 127.0.0.1 and on, so that no pair of addresses runs out of ports
const AT_ONCE = 200;
const QUIET_MS = 3_000; // until what a burst left behind is given back, or kept for good
const SECRET = "only for this measurement, which ends with it";
const API_KEY = "only for this measurement";

process.env.SAYWHY_BIN ??= fileURLToPath(new URL("../../target/release/saywhy", import.meta.url));
if (!(COUNT >= 1)) throw new Error("usage: node bench/idle/idle.mjs [count]");

const server = await startServer({
  config: `
[token]
hs256_secret = "${SECRET}"
[api]
key = "${API_KEY}"
[limits]
connections = ${COUNT + 100}
${CROWD}[log]
level = "error"
[[route]]
path = "/ws"
rooms = { open = [], create = "join", max_rooms = ${COUNT} }`,
});
const { hostname, port } = new URL(server.routes[0]);
let isOver = false;

const roomOf = (n) => `room-${Math.floor(n / MEMBERS)}`;
const rooms = new Set(Array.from({ length: COUNT }, (_, n) => roomOf(n)));

const empty = memory();
say(`the server has ${mib(empty)} MiB; opening ${COUNT} connections in ${rooms.size} rooms`);
const started = performance.now();
const peers = [];
for (let n = 0; n < COUNT; n += AT_ONCE) {
  const some = Array.from({ length: Math.min(AT_ONCE, COUNT - n) }, (_, k) => open(n + k));
  peers.push(...(await Promise.all(some)));
}
say(`all are in after ${((performance.now() - started) / 1000).toFixed(1)} s`);
await sleep(QUIET_MS);
const idle = memory();

// It does what it is there for: a message in every room reaches its members, each once, and it still answers.
for (const room of rooms) await publish(room);
await Promise.all(peers.map((peer) => peer.message));
const { total } = await api("GET", "/connections");
assert.equal(total, COUNT);
const pong = peers[0].pong();
peers[0].say({ type: "ping" });
await pong;
await sleep(QUIET_MS);
const after = memory();
assert.deepEqual(peers.filter(({ messages }) => messages() !== 1).length, 0, "each member hears the one message once");

console.log(`connections ${COUNT}`);
console.log(`rooms ${rooms.size}`);
console.log(`resident_before_bytes ${empty}`);
console.log(`resident_idle_bytes ${idle}`);
console.log(`resident_after_traffic_bytes ${after}`);
console.log(`bytes_per_idle_connection ${Math.round((idle - empty) / COUNT)}`);
console.log(`bytes_per_connection_after_traffic ${Math.round((after - empty) / COUNT)}`);

isOver = true;
for (const { socket } of peers) socket.destroy();
await server.stop();

/** A member of its room. A bare socket: thousands of WebSocket objects would cost more than what is measured. */
async function open(n) {
  const socket = connect({ host: hostname, port, localAddress: `127.0.0.${1 + (n % ADDRESSES)}`, noDelay: true });
  const heard = {};
  const next = (type) => new Promise((resolve) => (heard[type] = resolve));
  const [ready, joined, message] = [next("ready"), next("ok"), next("message")];
  let messages = 0;
  let rest = null; // bytes of an unfinished answer; nothing is kept while it is idle
  let isOpen = false;

  socket.on("error", fail).on("close", () => fail("the connection ended"));
  socket.on("data", (bytes) => {
    rest = rest ? Buffer.concat([rest, bytes]) : bytes;
    if (!isOpen) {
      const end = rest.indexOf("\r\n\r\n");
      if (end < 0) return;
      if (!rest.toString("latin1", 0, end).startsWith("HTTP/1.1 101 ")) return fail(rest.toString());
      rest = rest.subarray(end + 4);
      isOpen = true;
    }
    let at = 0;
    for (let size; (size = frameSize(rest, at)) > 0; at += size) hear(rest.subarray(at, at + size));
    // A copy, because a slice would keep all that it was cut from.
    rest = at < rest.length ? Buffer.from(rest.subarray(at)) : null;
  });
  function hear(frame) {
    const opcode = frame[0] & 15;
    if (opcode === 9) return socket.write(encodeFrame({ opcode: 10 }));
    if (opcode !== 1) return fail(`an opcode of ${opcode}: ${frame}`);
    // The server's envelope begins with its type.
    const type = frame.toString("latin1", 0, 40).match(/\{"type":"(\w+)"/)[1];
    if (type === "error") return fail(frame.toString());
    if (type === "message") messages++;
    heard[type]?.();
  }
  function fail(why) {
    if (isOver) return;
    throw new Error(`connection ${n}: ${why}`);
  }

  await once(socket, "connect");
  const say = (data) => socket.write(encodeFrame({ payload: JSON.stringify(data) }));
  socket.write(handshake(`user-${n}`));
  await ready;
  say({ type: "join", data: { room: roomOf(n) }, meta: { request_id: "join" } });
  await joined;
  return { socket, say, message, messages: () => messages, pong: () => next("pong") };
}

/** The size of the frame at `at`, which a server does not mask; 0 if it is not all there. */
function frameSize(bytes, at) {
  if (bytes.length < at + 2) return 0;
  const short = bytes[at + 1];
  const head = short < 126 ? 2 : 4;
  if (bytes.length < at + head) return 0;
  const size = head + (short < 126 ? short : bytes.readUInt16BE(at + 2));
  return bytes.length < at + size ? 0 : size;
}

function handshake(user) {
  const claims = { sub: user, exp: Math.floor(Date.now() / 1000) + 3_600, rooms: { "*": ["join", "send", "members"] } };
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  const token = `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
  return [
    "GET /ws HTTP/1.1", `Host: ${hostname}:${port}`, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", `Sec-WebSocket-Protocol: saywhy.v1, saywhy.bearer.${token}`, "", "",
  ].join("\r\n");
}

async function api(method, path, body) {
  const headers = { authorization: `Bearer ${API_KEY}` };
  const response = await fetch(server.api + path, { method, headers, body: body && JSON.stringify(body) });
  assert.ok(response.ok, await response.clone().text());
  return response.json();
}

function publish(room) {
  return api("POST", `/rooms/${room}/messages`, { body: { text: `hello, ${room}` } });
}

/** Bytes of resident memory of the server. What the kernel keeps for its sockets is not among them. */
function memory() {
  return 1024 * Number(readFileSync(`/proc/${server.pid}/status`, "utf8").match(/^VmRSS:\s+(\d+) kB$/m)[1]);
}

function mib(bytes) {
  return (bytes / 1024 / 1024).toFixed(1);
}

function say(words) {
  console.error(words);
}
