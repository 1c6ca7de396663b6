// Both ends of a raw WebSocket, up to the first frame.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { Wire } from "./play.mjs";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY = "dGhlIHNhbXBsZSBub25jZQ==";
const HANDSHAKE_MS = 10_000;

/** A connection to a server that was asked for `path`. A server that `greets` says something first. */
export async function dial({ port, path = "/", greets = false }) {
  // Half-open: when the server ends its side, ours goes on reading.
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true });
  await once(socket, "connect");
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n\r\n`,
  );
  const { head, rest } = await readHead(socket);
  if (!head.startsWith("HTTP/1.1 101 ")) throw new Error(`no upgrade: ${head.split("\r\n")[0]}`);
  const wire = new Wire(socket, rest);
  if (greets && !(await wire.until(() => wire.frames.shift(), HANDSHAKE_MS))) throw new Error("no greeting came");
  return wire;
}

/** A server of which `serve(path, wire)` has each connection; resolves to { port, end() }. */
export async function listen(serve) {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    accept(socket).then(({ path, wire }) => serve(path, wire)).catch(() => socket.destroy());
  });
  server.listen(0, "127.0.0.1", 512);
  await once(server, "listening");
  return { port: server.address().port, end: () => server.close() };
}

async function accept(socket) {
  socket.on("error", () => {});
  const { head, rest } = await readHead(socket);
  const key = /^sec-websocket-key: *(\S+)/im.exec(head)?.[1];
  if (!key) throw new Error("no handshake");
  const digest = createHash("sha1").update(key + GUID).digest("base64");
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${digest}\r\n\r\n`,
  );
  return { path: head.split(" ")[1], wire: new Wire(socket, rest) };
}

/** Up to the empty line, and what came behind it. */
function readHead(socket) {
  return new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    const timer = setTimeout(() => settle(reject, new Error("the handshake takes too long")), HANDSHAKE_MS);
    const settle = (how, what) => {
      clearTimeout(timer);
      for (const [event, heard] of heards) socket.off(event, heard);
      how(what);
    };
    const take = (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      const end = bytes.indexOf("\r\n\r\n");
      if (end >= 0) settle(resolve, { head: bytes.toString("latin1", 0, end), rest: bytes.subarray(end + 4) });
    };
    const fail = () => settle(reject, new Error("the connection ended in the handshake"));
    const heards = [["data", take], ["end", fail], ["error", fail], ["close", fail]];
    for (const [event, heard] of heards) socket.on(event, heard);
  });
}
