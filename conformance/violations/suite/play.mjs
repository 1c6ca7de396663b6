// One case on one connection: the breach goes out in one write, and all that comes back is kept.
import { parseFrame } from "../../../tests/support/raw.mjs";
import { frame } from "./cases.mjs";

/** How long a peer may think before it is silent. */
const ANSWER_MS = 2_000;
/** How long it has to leave the connection open for our Close. */
const WAIT_MS = 400;
/** How long it may take to end the connection after that. */
const END_MS = 1_500;

const TEXT = 1;
const CLOSE = 8;
const PING = 9;
const PONG = 10;
const PROBE = Buffer.from("still there?");

/**
 * What arrives on a socket: `frames`, how many bytes were `heard`, and its `end`, "FIN" or "RST". `buffered` came with
 * the handshake.
 */
export class Wire {
  constructor(socket, buffered = Buffer.alloc(0)) {
    Object.assign(this, { socket, buffered: Buffer.alloc(0), heard: 0, frames: [], end: undefined, looks: new Set() });
    socket.on("data", (bytes) => this.#take(bytes));
    socket.on("end", () => this.#ended());
    socket.on("error", () => this.#over("RST"));
    socket.on("close", () => this.#over("RST"));
    this.#take(buffered);
  }

  #take(bytes) {
    this.heard += bytes.length;
    this.buffered = Buffer.concat([this.buffered, bytes]);
    for (let parsed; (parsed = parseFrame(this.buffered)); ) {
      this.buffered = this.buffered.subarray(parsed.size);
      this.frames.push(parsed.frame);
    }
    this.looks.forEach((look) => look());
  }

  /** Node calls it an end, too, when a RST arrived with the last bytes; nothing can be written then. */
  #ended() {
    if (this.socket.writableEnded) return this.#over("FIN");
    this.socket.write(Buffer.of(0), (error) => this.#over(error ? "RST" : "FIN"));
  }

  #over(how) {
    this.end ??= how;
    this.looks.forEach((look) => look());
  }

  get close() {
    return this.frames.find(({ opcode }) => opcode === CLOSE);
  }

  /** Resolves when the bytes are on their way. That they cannot be written is seen as an end, and here as nothing. */
  send(bytes) {
    return new Promise((resolve) => this.socket.write(bytes, () => resolve()));
  }

  /** Whether `holds` comes true within `ms`. */
  until(holds, ms) {
    return new Promise((resolve) => {
      const settle = (result) => {
        clearTimeout(timer);
        this.looks.delete(look);
        resolve(result);
      };
      const look = () => holds() && settle(true);
      // A timer that is late rings before what has arrived meanwhile is read: that comes first.
      const timer = setTimeout(() => setImmediate(() => settle(Boolean(holds()))), ms);
      this.looks.add(look);
      look();
    });
  }
}

/**
 * Plays a case as `sender` and resolves to what came of it:
 *   messages: the text messages that came before the Close
 *   close: { code, reason }, with code null for a Close without one; undefined for none at all
 *   end: "FIN" or "RST" where the peer ended the connection by itself, before our Close; else undefined
 *   finish: how it ended after that; undefined if it did not
 *   goesOn: it answered a Ping as if nothing had happened
 */
export async function play(wire, one, sender) {
  wire.send(one.bytes);
  const answered = await wire.until(() => wire.close || wire.end, ANSWER_MS);
  const goesOn = !answered && (await isAlive(wire, sender));
  const { end, finish } = wire.close || wire.end ? await leave(wire, one, sender) : {};
  wire.socket.destroy();
  const before = wire.frames.slice(0, wire.close ? wire.frames.indexOf(wire.close) : undefined);
  const messages = before.filter(({ opcode }) => opcode === TEXT).map(({ payload }) => payload.toString());
  return { messages, close: wire.close && closeOf(wire.close.payload), end, finish, goesOn };
}

async function isAlive(wire, sender) {
  wire.send(frame(PING, PROBE, sender));
  const isAnswer = ({ opcode, payload }) => opcode === PONG && payload.equals(PROBE);
  await wire.until(() => wire.frames.some(isAnswer) || wire.close || wire.end, ANSWER_MS);
  return wire.frames.some(isAnswer);
}

/** Ends the connection as RFC 6455 §7.1.1 has it: both say Close, then the server ends it. */
async function leave(wire, { closes, isCut }, sender) {
  const hasEnded = () => wire.end;
  await wire.until(hasEnded, WAIT_MS);
  const end = wire.end;
  if (end) return { end, finish: end };
  if (!closes && !isCut) wire.send(frame(CLOSE, wire.close.payload.subarray(0, 2), sender));
  if (isCut || sender === "server") wire.socket.end();
  await wire.until(hasEnded, END_MS);
  return { end, finish: wire.end };
}

function closeOf(payload) {
  return { code: payload.length < 2 ? null : payload.readUInt16BE(0), reason: payload.subarray(2).toString() };
}
