// A back end that misbehaves, by path, and remembers every byte that it was sent.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { encodeFrame, parseFrame } from "./raw.mjs";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TEXT = 1;
const CLOSE = 8;

const frame = (options) => encodeFrame({ mask: false, ...options });
const text = (payload) => frame({ opcode: TEXT, payload });
const close = (code, reason = "") => {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(code);
  return frame({ opcode: CLOSE, payload: code ? Buffer.concat([head, Buffer.from(reason)]) : "" });
};

/** An answer in HTTP. */
const answers = (status, headers = {}, body = "") => ({ socket }) => {
  const lines = Object.entries({ "content-length": Buffer.byteLength(body), ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status} Because\r\n${lines.join("")}\r\n${body}`);
};

/** A session that begins well: "hello", and then `act`. */
const then = (act) => async (peer) => {
  peer.accept();
  peer.socket.write(text("hello"));
  await sleep(20);
  await act(peer);
};

const sends = (...frames) => then(({ socket }) => socket.write(Buffer.concat(frames)));

const BROKEN = { name: "bad_gateway", code: 1014 };
const NONSENSE = { ...BROKEN, retry: "never" };
const WRONG = { ...BROKEN, message: "The upstream broke the WebSocket protocol" };
const refused = (status, name, code, details) => ({ act: answers(status, details?.headers), expect: { name, code, refused: true, status, ...details?.expect } });

/**
 * What goes wrong, by name: what the back end does, and what a page has to see. `refused` is before the 101, `message` what
 * the error says; `code` and `reason` without `name` are a Close that comes through as it is.
 */
export const FAULTS = {
  ...Object.fromEntries(
    [
      [400, "bad_request", 4000], [401, "unauthorized", 4003], [403, "forbidden", 4004], [404, "not_found", 4001],
      [408, "timeout", 3008], [409, "invalid_action", 4002], [410, "not_found", 4001], [413, "message_too_big", 1009],
      [418, "bad_request", 4000], [500, "internal_error", 1011], [501, "internal_error", 1011], [502, "bad_gateway", 1014],
      [504, "gateway_timeout", 1014],
    ].map(([status, name, code]) => [`status-${status}`, refused(status, name, code)]),
  ),
  "status-429": refused(429, "rate_limited", 4005, { headers: { "retry-after": 7 }, expect: { retry: "after", retry_after_ms: 7000 } }),
  "status-503": refused(503, "overloaded", 1013, { headers: { "retry-after": 3 }, expect: { retry: "after", retry_after_ms: 3000 } }),
  "status-302": refused(302, "bad_request", 4000, { headers: { location: "https://login.example/" }, expect: { status: 400, location: "https://login.example/" } }),
  "status-200": refused(200, "bad_gateway", 1014, { expect: { retry: "never", status: 502 } }),
  "status-204": refused(204, "bad_gateway", 1014, { expect: { retry: "never", status: 502 } }),
  "fin-in-handshake": { act: ({ socket }) => socket.end(), expect: { ...BROKEN, refused: true, status: 502 } },
  "rst-in-handshake": { act: ({ socket }) => socket.resetAndDestroy(), expect: { ...BROKEN, refused: true, status: 502 } },
  "half-a-head": { act: ({ socket }) => socket.end("HTTP/1.1 101 Swi"), expect: { ...BROKEN, refused: true, status: 502 } },
  "garbage-in-handshake": { act: ({ socket }) => socket.end("SSH-2.0-OpenSSH_9\r\n\r\n"), expect: { ...NONSENSE, refused: true, status: 502 } },
  "silent-in-handshake": { act: () => {}, expect: { name: "gateway_timeout", code: 1014, refused: true, status: 504 } },
  "wrong-accept": { act: (peer) => peer.accept({ "Sec-WebSocket-Accept": "AAAAAAAAAAAAAAAAAAAAAAAAAAA=" }), expect: { ...NONSENSE, refused: true, status: 502 } },
  "no-upgrade": { act: (peer) => peer.accept({ Upgrade: null }), expect: { ...NONSENSE, refused: true, status: 502 } },
  "strange-subprotocol": { act: (peer) => peer.accept({ "Sec-WebSocket-Protocol": "never.offered" }), expect: { ...NONSENSE, refused: true, status: 502 } },
  "strange-extension": { act: (peer) => peer.accept({ "Sec-WebSocket-Extensions": "x-frobnicate" }), expect: { ...NONSENSE, refused: true, status: 502 } },

  "http-after-101": { act: (peer) => {
    peer.accept();
    peer.socket.write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
  }, expect: { ...WRONG, silent: true } },
  fin: { act: then(({ socket }) => socket.end()), expect: { ...BROKEN, message: "The upstream ended the connection without a Close" } },
  rst: { act: then(({ socket }) => socket.resetAndDestroy()), expect: { ...BROKEN, message: "The upstream broke the connection off" } },
  "half-a-header": { act: then(({ socket }) => socket.end(Buffer.of(0x81))), expect: BROKEN },
  "half-a-frame": { act: then(({ socket }) => socket.end(frame({ opcode: TEXT, payload: "abc", declaredLength: 9 }))), expect: { ...BROKEN, inside: "The upstream ended the connection without a Close" } },
  "dies-between-fragments": { act: then(async ({ socket }) => {
    socket.write(frame({ opcode: TEXT, payload: "be", fin: false }));
    await sleep(20);
    socket.resetAndDestroy();
  }), expect: { ...BROKEN, inside: "The upstream broke the connection off" } },
  "bad-opcode": { act: sends(frame({ opcode: 3 })), expect: WRONG },
  "reserved-bit": { act: sends(frame({ opcode: TEXT, payload: "a", rsv: 2 })), expect: WRONG },
  masked: { act: sends(frame({ opcode: TEXT, payload: "a", mask: true })), expect: WRONG },
  "nothing-to-continue": { act: sends(frame({ opcode: 0, payload: "a" })), expect: WRONG },
  "long-ping": { act: sends(frame({ opcode: 9, payload: Buffer.alloc(126) })), expect: WRONG },
  "bad-utf-8": { act: sends(frame({ opcode: TEXT, payload: Buffer.of(0x61, 0xff) })), expect: { ...BROKEN, message: "The upstream sent text that is not UTF-8" } },
  "huge-length": { act: sends(frame({ opcode: 2, declaredLength: 1_000_000_000_000 })), expect: { ...BROKEN, message: "The upstream sent a message that is too big" } },
  oversized: { act: sends(frame({ opcode: 2, payload: Buffer.alloc(200_000) })), expect: { ...BROKEN, message: "The upstream sent a message that is too big" } },

  ...Object.fromEntries([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4401, 4999].map((code) => [
    `close-${code}`, { act: sends(close(code, `because ${code}`)), expect: { code, reason: `because ${code}` } },
  ])),
  "close-empty": { act: sends(close(0)), expect: { code: 1005, reason: "" } },
  ...Object.fromEntries([999, 1004, 1005, 1006, 1015, 1016, 2999, 5000].map((code) => [
    `close-${code}`, { act: sends(close(code)), expect: { ...BROKEN, message: "The upstream closed with a code that may not be sent" } },
  ])),
  "close-one-byte": { act: sends(frame({ opcode: CLOSE, payload: Buffer.of(3) })), expect: WRONG },
  "close-bad-reason": { act: sends(frame({ opcode: CLOSE, payload: Buffer.of(0x03, 0xe8, 0xff) })), expect: { ...BROKEN } },
  "two-closes": { act: sends(close(4001, "first"), close(4002, "second")), expect: { code: 4001, reason: "first" } },
  "data-after-close": { act: sends(close(4001, "first"), text("too late")), expect: { code: 4001, reason: "first" } },
  "close-then-rst": { act: then(async ({ socket }) => {
    socket.write(close(4001, "first"));
    await sleep(5);
    socket.resetAndDestroy();
  }), expect: { code: 4001, reason: "first" } },
};

/** The frames in these bytes. */
export function parseAll(bytes) {
  const frames = [];
  for (let parsed; (parsed = parseFrame(bytes)); bytes = bytes.subarray(parsed.size)) frames.push(parsed.frame);
  return frames;
}

/** What it does besides. */
const OTHERS = {
  /** Says ten times what it hears, and hears no more until that has left. */
  tenfold: (peer) => {
    peer.accept();
    let at = 0;
    const parts = [];
    peer.socket.on("data", () => {
      const said = [];
      for (let parsed; (parsed = parseFrame(peer.heard.subarray(at))); at += parsed.size) {
        const { opcode, payload, fin } = parsed.frame;
        if (opcode <= TEXT) parts.push(payload);
        if (opcode <= TEXT && fin) said.push(...Array(10).fill(text(Buffer.concat(parts.splice(0)))));
        if (opcode === CLOSE) return peer.socket.end(frame({ opcode, payload }));
      }
      if (peer.socket.write(Buffer.concat(said))) return;
      peer.socket.pause();
      peer.socket.once("drain", () => peer.socket.resume());
    });
  },
  /** Answers with more than it has to. */
  chatty: (peer) =>
    peer.accept({
      "Sec-WebSocket-Protocol": "chat",
      "Sec-WebSocket-Extensions": "permessage-deflate; server_no_context_takeover",
      Connection: "Upgrade, X-Named",
      "X-Named": "1", "Keep-Alive": "timeout=5", Server: "back/1.0", Date: "x", "Set-Cookie": "a=1, b=2", "X-Own": "kept",
    }),
  /** Accepts, and says nothing but its Close, in answer to one. */
  quiet: (peer) => {
    peer.accept();
    peer.socket.on("data", () => {
      const close = parseAll(peer.heard).find(({ opcode }) => opcode === CLOSE);
      if (close) peer.socket.end(frame({ opcode: CLOSE, payload: close.payload }));
    });
  },
};

/**
 * Starts it. Resolves to { port, url, server, peers, stop() }: of each peer that has connected `head` (its request), `heard` (all
 * bytes after it), and `ended`.
 */
export async function startBackend({ usually } = {}) {
  const peers = [];
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const peer = { socket, head: undefined, heard: Buffer.alloc(0), ended: false };
    peers.push(peer);
    let early = Buffer.alloc(0);
    socket.on("error", () => {});
    socket.on("end", () => {
      peer.ended = true;
      socket.end();
    });
    socket.on("close", () => (peer.ended = true));
    socket.on("data", (bytes) => {
      if (peer.head !== undefined) {
        peer.heard = Buffer.concat([peer.heard, bytes]);
        return;
      }
      early = Buffer.concat([early, bytes]);
      const end = early.indexOf("\r\n\r\n");
      if (end < 0) return;
      peer.head = early.toString("latin1", 0, end);
      peer.heard = early.subarray(end + 4);
      begin(peer, usually);
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address();
  const stop = () => {
    peers.forEach(({ socket }) => socket.destroy());
    server.close();
  };
  return { port, url: `ws://127.0.0.1:${port}`, server, peers, stop };
}

function begin(peer, usually) {
  const [, target] = peer.head.split(" ");
  const name = usually ?? target.split("?")[0].split("/").pop();
  const key = /^sec-websocket-key: *(.*)$/im.exec(peer.head)?.[1].trim();
  peer.accept = (replacing = {}) => {
    const headers = {
      Upgrade: "websocket",
      Connection: "Upgrade",
      "Sec-WebSocket-Accept": createHash("sha1").update(key + GUID).digest("base64"),
      ...replacing,
    };
    const lines = Object.entries(headers).flatMap(([header, value]) => (value == null ? [] : [`${header}: ${value}\r\n`]));
    peer.socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join("")}\r\n`);
  };
  const act = FAULTS[name]?.act ?? OTHERS[name];
  if (act) act(peer);
  else answers(404)(peer);
}
