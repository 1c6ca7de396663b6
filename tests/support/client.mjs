// A server for one test, and clients of it that keep all they are told. `ws` is the peer: an implementation that is not ours.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { request } from "node:http";
import { request as secureRequest } from "node:https";
import WebSocket from "ws";
import { CROWD } from "./crowd.mjs";
import { rawConnect } from "./raw.mjs";
import { startServer } from "./server.mjs";

/** What the tests that sign tokens themselves put under `[token]`. */
export const SECRET = "a secret of the tests, of 32 characters or more";

/** Everything a token can permit. */
export const ALL = ["join", "send", "history", "members", "manage"];

/** No limit that a test which sends much would meet by accident. */
export const ROOMY = `
[limits]
messages_per_s = 1000000
message_burst = 1000000
rooms_per_connection = 10000
${CROWD}`;

/**
 * Starts a server for the test `t`, which logs JSON unless `format` says otherwise. When the test is over its clients are cut off, it is stopped, and what
 * has to hold for every server is checked: it exits with 0, explained every ending, and did not panic, unless it was
 * told to.
 *
 * Besides what startServer() gives: `mint(sub, {...})`, `open(who, {...})`, `raw({...})`, `api(method, path, body)`,
 * `lines()`: the log so far, parsed; `endings()`: its lines about endings.
 */
export async function serve(t, { args = [], format = "json", panics = false, ...options } = {}) {
  const server = await startServer({ ...options, args: ["--log-format", format, ...args] });
  const peers = new Set();
  let stopped;
  const stop = (signal) => (stopped ??= server.stop(signal));
  t.after(async () => {
    for (const cut of peers) cut();
    const { code, signal } = await stop();
    if (signal === "SIGKILL") return;
    assert.equal(code, 0, server.log());
    assert.doesNotMatch(server.log(), /unexplained/);
    if (!panics) assert.doesNotMatch(server.log(), /panicked/);
  });

  const url = server.routes[0];
  const mint = async (sub, { rooms = { "*": ALL }, expires_in_s = 3600 } = {}) => {
    const { status, body } = await call(new URL("dev/token", server.page), "POST", { sub, rooms, expires_in_s });
    assert.equal(status, 200, JSON.stringify(body));
    return body.token;
  };
  return {
    ...server,
    stop,
    url,
    apiUrl: server.api,
    mint,
    /** A session that is ready, of a new token's bearer; `token` is one of the test's own. */
    async open(who, { token, at = url, ...options } = {}) {
      const session = connect(at, { token: token ?? (await mint(who, options)) });
      peers.add(session.terminate);
      session.ready = await session.take("ready");
      session.id = session.ready.data.connection_id;
      return session;
    },
    /** A connection of which nothing is expected yet. */
    connect(options = {}) {
      const session = connect(options.at ?? url, options);
      peers.add(session.terminate);
      return session;
    },
    /** A peer that writes its frames by hand; see raw.mjs. */
    async raw({ who, token, at = url, ...options } = {}) {
      const bearer = token ?? (who && (await mint(who)));
      const protocols = bearer ? ["saywhy.v1", `saywhy.bearer.${bearer}`] : undefined;
      const peer = await rawConnect(at, { ...(protocols && { protocols }), ...options });
      peers.add(peer.reset);
      return peer;
    },
    api: (method, path, body, headers = { authorization: `Bearer ${server.apiKey}` }) =>
      call(server.api + path, method, body, headers),
    lines: () => jsonLines(server.log()),
    endings: () => jsonLines(server.log()).filter(({ target }) => target === "saywhy::ending"),
    /** Resolves when so many endings are logged. */
    ended: (count) =>
      eventually(() => jsonLines(server.log()).filter(({ target }) => target === "saywhy::ending").length >= count),
    /** Resolves to the ending of a connection, as soon as it is logged. */
    ending: (id) =>
      eventually(() => jsonLines(server.log()).find((line) => line.target === "saywhy::ending" && line.connection_id === id)),
  };
}

/** The lines of a log in JSON; throws at one that is not. */
export function jsonLines(log) {
  return log.split("\n").slice(0, -1).map((line) => {
    try {
      return JSON.parse(line);
    } catch {
      throw new Error(`a line of the log is not JSON: ${line}`);
    }
  });
}

/** What `look` finds, as soon as it finds something: for what another process does and does not announce. */
export async function eventually(look, every_ms = 5) {
  for (;;) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, every_ms));
  }
}

/** A client by `ws` that offers `saywhy.v1`, and keeps every message. */
export function connect(url, { token, protocols, headers, autoPong = true } = {}) {
  const offered = protocols ?? ["saywhy.v1", ...(token ? [`saywhy.bearer.${token}`] : [])];
  const socket = new WebSocket(url, offered, { headers, autoPong, perMessageDeflate: false, rejectUnauthorized: false });
  const seen = [];
  const untaken = [];
  const waiting = new Set();
  let over;
  const closed = new Promise((resolve) => {
    socket.on("error", () => {}); // "close" follows, and says 1006
    socket.on("close", (code, reason) => {
      over = { code, reason: String(reason) };
      resolve(over);
      for (const { giveUp } of waiting) giveUp();
    });
  });
  socket.on("message", (data, isBinary) => {
    assert.equal(isBinary, false);
    const text = String(data);
    const message = { ...JSON.parse(text), text: () => text };
    seen.push(message);
    for (const waiter of waiting) if (waiter.takes(message)) return;
    untaken.push(message);
  });

  /** The first message not taken before for which `fits`, in the order of their arrival. */
  const takeWhere = (fits, what) =>
    new Promise((resolve, reject) => {
      const found = untaken.findIndex(fits);
      if (found >= 0) return resolve(...untaken.splice(found, 1));
      const waiter = {
        takes: (message) => fits(message) && waiting.delete(waiter) && (resolve(message), true),
        giveUp: () => reject(new Error(`closed with ${over.code} "${over.reason}" before ${what}; it saw ${JSON.stringify(seen)}`)),
      };
      if (over) return waiter.giveUp();
      waiting.add(waiter);
    });

  let requests = 0;
  const session = {
    socket,
    /** Every message so far. */
    seen,
    /** `{ code, reason }`. */
    closed,
    /** The next message of one of these types. */
    take: (...types) => takeWhere(({ type }) => types.includes(type), types.join(" or ")),
    takeWhere,
    send: (message) => socket.send(typeof message === "string" || Buffer.isBuffer(message) ? message : JSON.stringify(message)),
    /** Sends a request and resolves to its answer, of which id and time are checked. */
    async ask(type, data, request_id = `r${++requests}`) {
      session.send({ type, data, meta: { request_id } });
      const answer = await takeWhere(({ meta }) => meta.request_id === request_id, `the answer to ${type}`);
      assert.match(answer.meta.timestamp, TIMESTAMP);
      return answer;
    },
    /** `data` of the `ok` to a request. */
    async ok(type, data) {
      const answer = await session.ask(type, data);
      assert.equal(answer.type, "ok", JSON.stringify(answer));
      return answer.data;
    },
    /** `data` of the error to a request. */
    async error(type, data) {
      const answer = await session.ask(type, data);
      assert.equal(answer.type, "error", JSON.stringify(answer));
      return answer.data;
    },
    /** All that the server had for this session before the call has arrived after it. */
    async settle() {
      await session.ask("ping", {});
      await session.ask("ping", {});
    },
    /** What was said in a room, as this session heard it. */
    said: (room) => seen.filter(({ type, data }) => type === "message" && data.room === room).map(({ data }) => data),
    close: (code, reason) => {
      socket.close(code, reason);
      return closed;
    },
    terminate: () => {
      socket.terminate();
      return closed;
    },
  };
  return session;
}

export const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/;

/** A JSON Web Token with these claims, signed with HS256. */
export function sign(claims, secret = SECRET, header = { alg: "HS256", typ: "JWT" }) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part(header)}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

/**
 * One HTTP request on a connection of its own. `body` is sent as JSON, unless it is text or bytes; the answer's is parsed
 * where it is JSON.
 */
export function call(url, method = "GET", body, headers = {}) {
  const isRaw = body === undefined || typeof body === "string" || Buffer.isBuffer(body);
  const bytes = isRaw ? body : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const length = bytes === undefined ? {} : { "content-length": Buffer.byteLength(bytes) };
    // The certificate is the test's own.
    const options = { method, headers: { ...length, ...headers }, agent: false, rejectUnauthorized: false };
    const sent = (String(url).startsWith("https:") ? secureRequest : request)(url, options, (response) => {
      const { statusCode: status, headers } = response;
      let text = "";
      response.setEncoding("utf8").on("data", (chunk) => (text += chunk));
      response.on("end", () => {
        const type = headers["content-type"] ?? "";
        resolve({ status, headers, type, text, body: type.includes("json") && text ? JSON.parse(text) : text });
      });
    });
    sent.on("error", reject).end(bytes);
  });
}
