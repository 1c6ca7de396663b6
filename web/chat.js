// One user in one room, over a plain WebSocket: connects, resumes from where it was, and comes back when the server
// said so. It does what the wire contract asks of a client, and no more.

import { offer } from "./server.js";
import { socketUrl } from "./witness.js";

const STABLE_MS = 5_000; // a session that was ready for so long ends the count of attempts
const BACKOFF = { base_ms: 1_000, cap_ms: 30_000 };
const PONG_MS = 5_000;
const REPLY_MS = 10_000;
const REMEMBERED = 500; // keys of the lines that were delivered last, against showing one twice

/** What a close code means when no message came before it. */
const RETRY_OF_CLOSE = {
  1000: "never", 1002: "never", 1003: "never", 1007: "never", 1008: "never", 1009: "never",
  1012: "after", 1013: "after",
  3000: "reauthenticate", 3003: "never", 3008: "backoff",
  4003: "reauthenticate", 4005: "after", 4007: "backoff",
};

/** An error as the server put it. */
export class ChatError extends Error {
  constructor({ code, name, message, retry, details = {} }, requestId = "") {
    super(message);
    Object.assign(this, { code, name, retry, details, requestId });
  }
}

export class Chat {
  state = "new"; // new → connecting → ready → waiting → connecting … or ended
  connectionId = "";
  members = new Set();

  #options;
  #socket = null;
  #token = null;
  #since = null;
  #gap = null; // what a resume has brought, and has still to bring
  #delivered = new Set();
  #replies = new Map();
  #outbox = [];
  #joined = false;
  #attempt = 0;
  #page = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
  #lastId = 0;
  #askedForToken = false;
  #said = null; // the fatal error, or the goodbye, of this connection
  #lostAt = 0;
  #timers = new Set();

  /**
   * @param {{path: string, room: string, user: string, token: () => Promise<string>, on: object}} options `on` may have
   *   `state(state, why)`, `line({key, from, body})`, `presence(verb, member)`, `lost(error)`, `error(error)`,
   *   `resumed({away_ms, missed, received})`
   */
  constructor(options) {
    this.#options = options;
  }

  connect() {
    if (this.state === "new" || this.state === "ended") this.#open();
  }

  /** Says something in the room; while there is no connection, it waits, and goes out once. */
  async say(body) {
    const entry = { body, idempotency_key: crypto.getRandomValues(new Uint32Array(2)).join("-") };
    this.#outbox.push(entry);
    if (this.#joined) await this.#deliver(entry);
  }

  /** Sends a request and settles with its answer: the `data` of `ok`, or a `ChatError`. */
  request(type, data) {
    const request_id = `${this.#options.user}-${this.#page}-${++this.#lastId}`;
    return new Promise((resolve, reject) => {
      const timer = this.#after(REPLY_MS, () => this.#settle(request_id, "reject", new Error("no answer in time")));
      this.#replies.set(request_id, { resolve, reject, timer });
      this.#write({ type, data, meta: { request_id } });
    });
  }

  // The connection

  async #open() {
    this.#become("connecting");
    this.#said = null;
    try {
      this.#token ??= await this.#options.token();
    } catch (error) {
      return this.#ended({ code: 1006, reason: error.message });
    }
    const socket = new WebSocket(socketUrl(this.#options.path), offer(this.#token));
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = (event) => this.#ended(event);
  }

  #ended({ code, reason }) {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    if (this.#socket) this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket = null;
    this.#joined = false;
    this.#lostAt ||= performance.now();
    for (const id of [...this.#replies.keys()]) this.#settle(id, "reject", new Error("the connection ended"));
    const cause = this.#said ?? { code, message: reason, name: "", retry: retryOfClose(code) };
    const delay_ms = this.#delay(cause);
    if (delay_ms === null) return this.#become("ended", { cause });
    this.#become("waiting", { cause, delay_ms });
    this.#after(delay_ms, () => this.#open());
  }

  /** How long to wait before the next attempt; `null` when there should be none. */
  #delay({ retry, retry_after_ms = 1_000, spread_ms = 1_000 }) {
    switch (retry) {
      case "never":
        return null;
      case "now":
        return 0;
      case "after":
        return retry_after_ms + Math.random() * spread_ms;
      case "reauthenticate": {
        if (this.#askedForToken) return null;
        this.#askedForToken = true;
        this.#token = null;
        return 0;
      }
      default: {
        const ceiling = Math.min(BACKOFF.cap_ms, BACKOFF.base_ms * 2 ** this.#attempt++);
        return Math.random() * ceiling;
      }
    }
  }

  #become(state, why = {}) {
    this.state = state;
    if (state !== "ready") this.connectionId = "";
    this.#options.on.state?.(state, why);
  }

  // What arrives

  #receive({ type, data = {}, meta = {} }) {
    this.#heard();
    switch (type) {
      case "ready":
        this.connectionId = data.connection_id;
        this.#heartbeat_ms = data.heartbeat_ms ?? 25_000;
        this.#heard();
        this.#after(STABLE_MS, () => {
          this.#attempt = 0;
          this.#askedForToken = false;
        });
        return this.#join();
      case "ok":
        return this.#settle(meta.request_id, "resolve", data);
      case "error":
        if (data.fatal) this.#said = data;
        if (this.#settle(meta.request_id, "reject", new ChatError(data, meta.request_id)) || data.fatal) return;
        return this.#options.on.error?.(new ChatError(data, meta.request_id));
      case "goodbye":
        this.#said ??= data;
        return;
      case "message":
        if (data.room !== this.#options.room) return;
        this.#since = data.position;
        this.#show(data);
        this.#gap?.offsets.push(data.position.offset);
        return this.#catchUp();
      case "joined":
      case "left":
        return this.#presence(type, data);
      case "auth_expiring":
        return this.#renew();
    }
  }

  async #join() {
    const since = this.#since;
    const away_ms = this.#lostAt ? Math.round(performance.now() - this.#lostAt) : 0;
    this.#gap = { away_ms, from: since?.offset ?? 0, to: null, offsets: [] };
    try {
      const { position, members = [], recovered } = await this.request("join", {
        room: this.#options.room,
        ...(since === null ? {} : { since }),
      });
      this.#since ??= position; // a resume advances by the messages that follow, not by the end of the log
      this.members = new Set(members);
      this.#joined = true;
      this.#lostAt = 0;
      this.#become("ready");
      if (recovered) this.#gap.to = position.offset;
      else this.#gap = null;
      this.#catchUp();
    } catch (error) {
      if (error.name === "history_lost" && since !== null) {
        this.#since = null;
        this.#options.on.lost?.(error);
        return this.#join();
      }
      if (error instanceof ChatError) this.#options.on.error?.(error);
      return;
    }
    for (const entry of [...this.#outbox]) this.#deliver(entry);
  }

  /** What was missed may arrive before the answer to `join` or after it; it is counted, not taken on trust. */
  #catchUp() {
    if (this.#gap === null || this.#gap.to === null) return;
    const { away_ms, from, to, offsets } = this.#gap;
    const missed = to - from;
    const received = offsets.filter((offset) => offset > from && offset <= to).length;
    if (received < missed) return;
    this.#gap = null;
    this.#options.on.resumed?.({ away_ms, missed, received });
  }

  async #deliver(entry) {
    try {
      const { position } = await this.request("send", { room: this.#options.room, ...entry });
      this.#forget(entry);
      this.#show({ position, from: this.#options.user, body: entry.body });
    } catch (error) {
      // Without an answer nobody knows whether it arrived: it is sent again, under the same key.
      if (!(error instanceof ChatError)) return;
      this.#forget(entry);
      this.#options.on.error?.(error);
    }
  }

  #forget(entry) {
    this.#outbox = this.#outbox.filter((other) => other !== entry);
  }

  #show({ position, from, body }) {
    const { epoch, offset, tag } = position;
    const key = `${epoch}:${offset}:${tag}`;
    if (this.#delivered.has(key)) return;
    this.#delivered.add(key);
    if (this.#delivered.size > REMEMBERED) this.#delivered.delete(this.#delivered.values().next().value);
    this.#options.on.line?.({ key, from, body });
  }

  #presence(verb, { room, member }) {
    if (room !== this.#options.room) return;
    if (verb === "joined") this.members.add(member);
    else this.members.delete(member);
    this.#options.on.presence?.(verb, member);
  }

  async #renew() {
    try {
      this.#token = await this.#options.token();
      await this.request("authenticate", { token: this.#token });
    } catch (error) {
      if (error instanceof ChatError) this.#options.on.error?.(error);
    }
  }

  // What goes out

  #write(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #settle(id, how, value) {
    const reply = this.#replies.get(id);
    if (!reply) return false;
    this.#replies.delete(id);
    this.#cancel(reply.timer);
    reply[how](value);
    return true;
  }

  // A browser cannot see pings, so a quiet connection is asked whether it lives.

  #heartbeat_ms = 0;
  #quiet = null;

  #heard() {
    this.#cancel(this.#quiet);
    if (this.#heartbeat_ms === 0) return;
    this.#quiet = this.#after(this.#heartbeat_ms, () => {
      this.#write({ type: "ping", data: {} });
      this.#quiet = this.#after(PONG_MS, () => {
        this.#socket?.close();
        this.#ended({ code: 1006, reason: "" });
      });
    });
  }

  #after(ms, act) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, ms);
    this.#timers.add(timer);
    return timer;
  }

  #cancel(timer) {
    clearTimeout(timer);
    this.#timers.delete(timer);
  }
}

function retryOfClose(code) {
  return RETRY_OF_CLOSE[code] ?? (code >= 4000 ? "never" : "backoff");
}
