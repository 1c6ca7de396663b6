// One socket, from the handshake to its last word. It knows nothing of other connections, nor whether there will be one.

import type { Close } from "./error.js";
import type { Clock, WebSocketConstructor, WebSocketLike } from "./platform.js";
import { read, write, type Incoming, type Ready, type ServerError } from "./wire.js";

/** From the first byte to `ready`, for a network that swallows everything. */
const READY_MS = 30_000;
/** From a last word, or our own Close, to the end of the socket. The server's own deadline is 3 s. */
const CLOSE_MS = 5_000;
/** The registered code for a peer that took too long. */
const TIMEOUT = 3008;

/** How a request was answered; `null` when the connection ended before it was. */
export type Answer = { readonly ok: true; readonly data: unknown } | { readonly ok: false; readonly said: ServerError } | null;

/** How a connection ended. */
export interface Ended {
  readonly type: "ended";
  /** As the platform reports it; `null` when this client did not wait for it. */
  readonly close: Close | null;
  /** The last fatal error, or else the last goodbye. */
  readonly said: ServerError | undefined;
  readonly wasReady: boolean;
  /** Why this client gave the connection up, where it did. */
  readonly gaveUp?: string | undefined;
}

/** What a connection reports. An answer goes to who asked instead; the other errors and everything else come here. */
export type Report = { readonly type: "open" } | Exclude<Incoming, { readonly type: "ok" | "pong" }> | Ended;

export class Connection {
  readonly #socket: WebSocketLike;
  readonly #clock: Clock;
  readonly #report: (report: Report) => void;
  readonly #asked = new Map<string, (answer: Answer) => void>();
  #ready: Ready | undefined;
  #fatal: ServerError | undefined;
  #goodbye: ServerError | undefined;
  #isOver = false;
  /** We have said Close: what still arrives is not for us. */
  #isClosing = false;
  #heardAt = 0;
  #hasPinged = false;
  #stopTimer = () => {};
  /** How many messages may be sent at once, as of `#countedAt`. */
  #allowance = 0;
  #countedAt = 0;

  /** Throws what the platform throws when it will not even try. */
  constructor(
    WebSocket: WebSocketConstructor,
    url: string,
    protocols: string[],
    clock: Clock,
    report: (report: Report) => void,
  ) {
    this.#clock = clock;
    this.#report = report;
    this.#socket = new WebSocket(url, protocols);
    this.#socket.addEventListener("open", () => this.#isOver || report({ type: "open" }));
    this.#socket.addEventListener("message", ({ data }) => this.#receive(read(data)));
    // A browser's error event says nothing, and a close event follows. Node's `ws` throws when nobody listens.
    this.#socket.addEventListener("error", () => {});
    this.#socket.addEventListener("close", ({ code, reason, wasClean }) => this.#end({ code, reason, wasClean }));
    this.#deadline(READY_MS, "the server was not ready in time");
  }

  /** A last word was said, by either side: nothing that is sent now will be answered. */
  get isEnding(): boolean {
    return this.#isClosing || this.#fatal !== undefined || this.#goodbye !== undefined;
  }

  /** What the server can take in one message, in bytes; 0 where it did not say. */
  get messageBytes(): number {
    return this.#ready?.limits.messageBytes ?? 0;
  }

  /** How long to wait before the next message, so that the server's rate limit is not met; 0 for not at all. */
  pauseMs(): number {
    const { messagesPerS = 0, messageBurst = 0 } = this.#ready?.limits ?? {};
    if (messagesPerS === 0) return 0;
    // Half of the burst: what the network bunches together arrives at once.
    const now = this.#clock.now();
    const earned = ((now - this.#countedAt) * messagesPerS) / 1_000;
    this.#allowance = Math.min(Math.max(1, messageBurst / 2), this.#allowance + earned);
    this.#countedAt = now;
    return this.#allowance >= 1 ? 0 : Math.ceil(((1 - this.#allowance) * 1_000) / messagesPerS);
  }

  /** Sends a request, as text with that id in it. `answered` is called once, however it ends. */
  ask(id: string, text: string, answered: (answer: Answer) => void): void {
    this.#asked.set(id, answered);
    this.#send(text);
  }

  /** The answer to that request is no longer waited for. */
  forget(id: string): void {
    this.#asked.delete(id);
  }

  /** Begins the closing handshake; `ended` is reported when it is over. Throws on a code that the platform forbids. */
  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
    this.#isClosing = true;
    this.#deadline(CLOSE_MS, "the server did not answer the Close");
  }

  #send(text: string): void {
    this.#allowance -= 1;
    this.#socket.send(text);
  }

  #receive(incoming: Incoming): void {
    if (this.#isOver || this.#isClosing) return;
    this.#heardAt = this.#clock.now();
    this.#hasPinged = false;
    switch (incoming.type) {
      case "ready":
        if (this.#ready) return;
        this.#open(incoming.ready);
        return this.#report(incoming);
      case "ok":
        return this.#answer(incoming.requestId, { ok: true, data: incoming.data });
      case "error": {
        const { said } = incoming;
        const isAnswer = said.requestId !== undefined && this.#asked.has(said.requestId);
        if (said.fatal) {
          this.#fatal = said;
          this.#deadline(CLOSE_MS, "no Close came after the last word");
        }
        if (isAnswer) this.#answer(said.requestId, { ok: false, said });
        // That it was the last word is everybody's business.
        if (!isAnswer || said.fatal) this.#report(incoming);
        return;
      }
      case "goodbye":
        this.#goodbye = incoming.said;
        return this.#report(incoming);
      case "pong":
        return;
      case "message":
      case "joined":
      case "left":
      case "room_closed":
      case "room_opened":
      case "degraded":
      case "restored":
      case "auth_expiring":
      case "other":
        return this.#report(incoming);
      default:
        incoming satisfies never;
    }
  }

  #open(ready: Ready): void {
    this.#ready = ready;
    this.#allowance = ready.limits.messageBurst;
    this.#countedAt = this.#clock.now();
    this.#stopTimer();
    if (ready.heartbeatMs > 0) this.#listen(ready.heartbeatMs, ready.heartbeatMs);
  }

  #answer(id: string | undefined, answer: Answer): void {
    const answered = id === undefined ? undefined : this.#asked.get(id);
    if (id === undefined || !answered) return;
    this.#asked.delete(id);
    answered(answer);
  }

  /** A script does not see the server's Pings, so a quiet connection is asked whether it lives, and once only. */
  #listen(heartbeatMs: number, ms: number): void {
    this.#stopTimer = this.#clock.after(ms, () => {
      const quietMs = this.#clock.now() - this.#heardAt;
      if (quietMs < heartbeatMs) return this.#listen(heartbeatMs, heartbeatMs - quietMs);
      if (this.#hasPinged) return this.#giveUp(`nothing was heard from the server for ${Math.round(quietMs)} ms`);
      this.#hasPinged = true;
      this.#send(write("ping", "{}"));
      this.#listen(heartbeatMs, heartbeatMs);
    });
  }

  #deadline(ms: number, why: string): void {
    this.#stopTimer();
    this.#stopTimer = this.#clock.after(ms, () => this.#giveUp(why));
  }

  #giveUp(why: string): void {
    if (!this.#isClosing) this.#socket.close(TIMEOUT, why);
    this.#end(null, why);
  }

  #end(close: Close | null, gaveUp?: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stopTimer();
    for (const id of [...this.#asked.keys()]) this.#answer(id, null);
    const said = this.#fatal ?? this.#goodbye;
    this.#report({ type: "ended", close, said, wasReady: this.#ready !== undefined, gaveUp });
  }
}
