// A WebSocket peer that is free to misbehave: the handshake and the frames are written by hand on a TCP socket.
import { createHash, randomBytes } from "node:crypto";
import { connect } from "node:net";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/**
 * Connects, sends the handshake and waits for the answer's head (and body, unless it is 101).
 *
 * `headers` replace the handshake's own of the same name; null leaves one out, an array repeats it.
 *
 * Resolves to a peer with
 *   status, headers (lower-case names), body (Buffer), acceptValid (is Sec-WebSocket-Accept right?);
 *     status is 0 if the connection ended without an answer
 *   frames: async iterator of { fin, rsv, opcode, masked, payload }; may be left and taken up again
 *   sendFrame({...}), sendBytes(buffer): resolve to whether the bytes could be written, never reject
 *   pause(), resume(): stop and go on reading
 *   fin(): end our side only; reset(): RST
 *   ended: Promise of { error: null | "ECONNRESET" | .., rest: bytes of an unfinished frame }, when the server's side ends.
 *     Our side stays open until fin() or reset().
 */
export async function rawConnect(url, { headers = {}, protocols = [], path, version = 13, key, method = "GET" } = {}) {
  const { protocol, hostname, port, host, pathname, search } = new URL(url);
  if (protocol !== "ws:") throw new Error(`rawConnect speaks plain ws: only, not ${protocol}`);
  const usedKey = key ?? randomBytes(16).toString("base64");

  // Half-open: when the server ends its side, it is the test that decides how ours ends.
  const socket = connect({ host: hostname.replace(/^\[|\]$/g, ""), port: port || 80, allowHalfOpen: true, noDelay: true });
  const frames = createQueue();
  let buffered = Buffer.alloc(0);
  let head;
  let error = null;
  let hasEnded = false;
  let onAnswer;
  const answered = new Promise((resolve) => (onAnswer = resolve));

  function advance() {
    head ??= takeHead();
    if (head?.status === 101) takeFrames();
    if (hasEnded || (head && buffered.length >= bodyLength(head, method))) onAnswer();
  }
  function takeHead() {
    const end = buffered.indexOf("\r\n\r\n");
    if (end < 0) return undefined;
    const result = parseHead(buffered.toString("latin1", 0, end));
    buffered = buffered.subarray(end + 4);
    return result;
  }
  function takeFrames() {
    for (let parsed; (parsed = parseFrame(buffered)); ) {
      buffered = buffered.subarray(parsed.size);
      frames.push(parsed.frame);
    }
  }

  const ended = new Promise((resolve) => {
    const end = () => {
      hasEnded = true;
      advance();
      frames.end();
      resolve({ error, rest: buffered });
      socket.unref(); // nothing more can come of it, so a test may leave its side open without keeping Node alive
    };
    socket.on("error", (cause) => (error = cause.code ?? cause.message));
    socket.on("end", end);
    socket.on("close", end);
  });
  socket.on("data", (chunk) => {
    buffered = Buffer.concat([buffered, chunk]);
    advance();
  });

  const connected = await new Promise((resolve) => {
    socket.once("connect", () => resolve(true));
    socket.once("close", () => resolve(false));
  });
  if (!connected) throw new Error(`cannot connect to ${url}: ${error}`);

  const sendBytes = (bytes) => new Promise((resolve) => socket.write(bytes, (failed) => resolve(!failed)));
  const own = {
    Host: host,
    Upgrade: "websocket",
    Connection: "Upgrade",
    "Sec-WebSocket-Key": usedKey,
    "Sec-WebSocket-Version": version,
    "Sec-WebSocket-Protocol": protocols.length > 0 ? protocols.join(", ") : null,
  };
  await sendBytes(requestHead(`${method} ${path ?? pathname + search} HTTP/1.1`, own, headers));

  await answered;
  head ??= { status: 0, headers: {} };
  if (head.headers["transfer-encoding"]) {
    socket.destroy();
    throw new Error("rawConnect does not read chunked bodies");
  }
  const body = head.status === 101 ? Buffer.alloc(0) : buffered.subarray(0, bodyLength(head, method));
  if (head.status !== 101) frames.end();

  return {
    ...head,
    body,
    acceptValid: head.headers["sec-websocket-accept"] === createHash("sha1").update(usedKey + GUID).digest("base64"),
    frames,
    sendFrame: (frame) => sendBytes(encodeFrame(frame)),
    sendBytes,
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    fin: () => socket.end(),
    reset: () => socket.resetAndDestroy(),
    ended,
  };
}

/** What a Close frame's payload says: { code, reason }; 1005 if it is empty. Throws if it is not a valid one. */
export function closeInfo(payload) {
  if (payload.length === 0) return { code: 1005, reason: "" };
  if (payload.length === 1) throw new Error("a Close payload of one byte");
  return { code: payload.readUInt16BE(0), reason: new TextDecoder("utf-8", { fatal: true }).decode(payload.subarray(2)) };
}

/** `declaredLength` is the length the frame claims to have, whatever the payload's own. */
export function encodeFrame({ fin = true, opcode = 1, payload = "", mask = true, rsv = 0, declaredLength }) {
  const data = Buffer.from(payload);
  const length = declaredLength ?? data.length;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65536 ? 4 : 10);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  head[1] = (mask ? 0x80 : 0) | (length < 126 ? length : length < 65536 ? 126 : 127);
  if (head.length === 4) head.writeUInt16BE(length, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  if (!mask) return Buffer.concat([head, data]);
  const maskingKey = randomBytes(4);
  return Buffer.concat([head, maskingKey, masked(data, maskingKey)]);
}

/** The first frame in `bytes` and how many of them it takes, { frame, size }; undefined if it is not all there yet. */
export function parseFrame(bytes) {
  if (bytes.length < 2) return undefined;
  const short = bytes[1] & 0x7f;
  const isMasked = bytes[1] >= 0x80;
  const lengthEnd = short < 126 ? 2 : short === 126 ? 4 : 10;
  const start = lengthEnd + (isMasked ? 4 : 0);
  if (bytes.length < start) return undefined;
  const length = short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  const size = start + length;
  if (bytes.length < size) return undefined;
  const data = bytes.subarray(start, size);
  return {
    size,
    frame: {
      fin: bytes[0] >= 0x80,
      rsv: (bytes[0] >> 4) & 7,
      opcode: bytes[0] & 15,
      masked: isMasked,
      payload: isMasked ? masked(data, bytes.subarray(lengthEnd, start)) : data,
    },
  };
}

function masked(data, maskingKey) {
  return Buffer.from(data.map((byte, index) => byte ^ maskingKey[index % 4]));
}

function requestHead(requestLine, own, replacing) {
  const replaced = new Set(Object.keys(replacing).map((name) => name.toLowerCase()));
  const kept = Object.entries(own).filter(([name]) => !replaced.has(name.toLowerCase()));
  const lines = [...kept, ...Object.entries(replacing)].flatMap(([name, value]) =>
    value == null ? [] : [value].flat().map((one) => `${name}: ${one}`),
  );
  return [requestLine, ...lines, "", ""].join("\r\n");
}

function parseHead(text) {
  const [statusLine, ...lines] = text.split("\r\n");
  const headers = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    headers[name] = name in headers ? `${headers[name]}, ${value}` : value;
  }
  return { status: Number(statusLine.split(" ")[1]), headers };
}

function bodyLength({ status, headers }, method) {
  if (status === 101 || status === 204 || method === "HEAD" || headers["transfer-encoding"]) return 0;
  return Number(headers["content-length"] ?? Infinity);
}

/** An async iterator that, unlike a generator, survives a `break` out of the loop that reads it. */
function createQueue() {
  const items = [];
  const waiting = [];
  let over = false;
  return {
    push(value) {
      const reader = waiting.shift();
      if (reader) reader({ value, done: false });
      else items.push(value);
    },
    end() {
      over = true;
      for (const reader of waiting.splice(0)) reader({ value: undefined, done: true });
    },
    next() {
      if (items.length > 0) return Promise.resolve({ value: items.shift(), done: false });
      if (over) return Promise.resolve({ value: undefined, done: true });
      return new Promise((resolve) => waiting.push(resolve));
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
