// A WebSocket server that is told what to do, one connection after the other, and writes its bytes by hand.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { encodeFrame, parseFrame } from "./raw.mjs";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;

const frame = (options) => encodeFrame({ mask: false, ...options });

/** The methods that `TestConnection` of `@saywhy/client/testing` has too, and what they are over TCP. */
class ScriptedConnection {
  #socket;
  #key;
  #received = Buffer.alloc(0);
  #isFrozen = false;
  #hasClosed = false;
  #messages = [];
  #readers = [];
  protocols;

  constructor(socket, head) {
    this.#socket = socket;
    const header = (name) => new RegExp(`^${name}: *(.*)$`, "im").exec(head)?.[1].trim();
    this.#key = header("sec-websocket-key");
    this.protocols = header("sec-websocket-protocol")?.split(/ *, */) ?? [];
  }

  receive(bytes) {
    if (this.#isFrozen) return;
    this.#received = Buffer.concat([this.#received, bytes]);
    for (let parsed; (parsed = parseFrame(this.#received)); ) {
      this.#received = this.#received.subarray(parsed.size);
      const { opcode, payload } = parsed.frame;
      if (opcode === TEXT) this.#hear(payload.toString());
      if (opcode === BINARY) this.#hear(new Uint8Array(payload));
      if (opcode !== CLOSE) continue;
      if (this.#hasClosed) return this.#socket.end();
      this.#socket.end(frame({ opcode: CLOSE, payload: payload.subarray(0, 2) }));
    }
  }

  #hear(message) {
    const reader = this.#readers.shift();
    if (reader) reader(message);
    else this.#messages.push(message);
  }

  /** Resolves to the next message of the page. */
  received() {
    return this.#messages.length > 0 ? Promise.resolve(this.#messages.shift()) : new Promise((resolve) => this.#readers.push(resolve));
  }

  accept({ protocol = this.protocols[0] } = {}) {
    const lines = [
      "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
      `Sec-WebSocket-Accept: ${createHash("sha1").update(this.#key + GUID).digest("base64")}`,
      ...(protocol ? [`Sec-WebSocket-Protocol: ${protocol}`] : []),
    ];
    this.#write(`${lines.join("\r\n")}\r\n\r\n`);
  }

  refuseHandshake() {
    this.#socket.end("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
  }

  send(data) {
    this.#write(frame({ opcode: typeof data === "string" ? TEXT : BINARY, payload: data }));
  }

  close(code, reason = "") {
    const head = Buffer.alloc(code === undefined ? 0 : 2);
    if (code !== undefined) head.writeUInt16BE(code);
    this.#write(frame({ opcode: CLOSE, payload: Buffer.concat([head, Buffer.from(reason)]) }));
    this.#hasClosed = true;
  }

  /** `inside` is a message of which the end is missing; `reset` is RST instead of FIN. */
  drop({ inside, reset } = {}) {
    if (inside !== undefined) this.#write(frame({ opcode: TEXT, payload: inside, declaredLength: Buffer.byteLength(inside) + 1 }));
    if (reset) this.#socket.resetAndDestroy();
    else this.#socket.end();
  }

  freeze() {
    this.#isFrozen = true;
  }

  /** What is said at once leaves at once, so that a browser reads it at once too. */
  #write(bytes) {
    if (this.#isFrozen) return;
    if (this.#socket.writableCorked === 0) {
      this.#socket.cork();
      queueMicrotask(() => this.#socket.uncork());
    }
    this.#socket.write(bytes);
  }
}

/** Starts it on a port of its own. `connection()` resolves to the next one that has asked. */
export async function startScripted() {
  const arrived = [];
  const waiting = [];
  let count = 0;
  const sockets = new Set();
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.add(socket);
    let early = "";
    let connection;
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      if (connection) return connection.receive(bytes);
      early += bytes.toString("latin1");
      if (!early.includes("\r\n\r\n")) return;
      connection = new ScriptedConnection(socket, early);
      count += 1;
      const waiter = waiting.shift();
      if (waiter) waiter(connection);
      else arrived.push(connection);
    });
    socket.on("end", () => socket.end());
    socket.on("close", () => sockets.delete(socket));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    url: `ws://127.0.0.1:${server.address().port}/ws`,
    connection: () => (arrived.length > 0 ? Promise.resolve(arrived.shift()) : new Promise((resolve) => waiting.push(resolve))),
    /** How many have asked. */
    count: () => count,
    stop() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
