// One connection in saywhy.v1, from the handshake to its last word. It knows nothing of other connections, nor whether
// there will be one.

import type { Close } from "./error.js";
import type { Ended, Link } from "./lifeline.js";
import type { Clock } from "./platform.js";
import { CLOSE_MS, Socket, type Address } from "./socket.js";
import { read, write, type Incoming, type Ready, type ServerError } from "./wire.js";

/** From the first byte to `ready`, for a network that swallows everything. */
const READY_MS = 30_000;
/** How long who has just come back to the page waits until a dead connection is known for one; and how often it is asked. */
const PROBE_MS = 5_000;

/** How a request was answered; `null` when the connection ended before it was. */
export type Answer = { readonly ok: true; readonly data: unknown } | { readonly ok: false; readonly said: ServerError } | null;

/** What a connection reports. An answer goes to who asked instead; the other errors and everything else come here. */
export type Report = { readonly type: "open" } | Exclude<Incoming, { readonly type: "ok" | "pong" }> | Ended;

export class Connection implements Link {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #report: (report: Report) => void;
  readonly #asked = new Map<string, (answer: Answer) => void>();
  #isOpen = false;
  #ready: Ready | undefined;
  #fatal: ServerError | undefined;
  #goodbye: ServerError | undefined;
  #heardAt = 0;
  #hasPinged = false;
  #probedAt = -Infinity;
  /** How many messages may be sent at once, as of `#countedAt`. */
  #allowance = 0;
  #countedAt = 0;

  /** Throws what the platform throws when it will not even try. */
  constructor(address: Address, report: (report: Report) => void) {
    this.#clock = address.clock;
    this.#report = report;
    this.#socket = new Socket(address, {
      opened: () => {
        this.#isOpen = true;
        report({ type: "open" });
      },
      heard: (data) => this.#receive(read(data)),
      ended: (close, gaveUp) => this.#end(close, gaveUp),
    });
    this.#socket.deadline(READY_MS, "the server was not ready in time");
  }

  /** A last word was said, by either side: nothing that is sent now will be answered. */
  get isEnding(): boolean {
    return this.#socket.isClosing || this.#fatal !== undefined || this.#goodbye !== undefined;
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
    const now = this.#now();
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

  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
  }

  /** Asks whether anybody is there. Even who was heard a moment ago: a clock may stand still while a computer sleeps. */
  probe(): void {
    if (!this.#ready || this.isEnding || this.#now() - this.#probedAt < PROBE_MS) return;
    this.#probedAt = this.#now();
    // A server answers in turn: while it works on something, it may be silent for longer and live.
    const isBusy = this.#asked.size > 0;
    this.#ping(isBusy ? Math.max(PROBE_MS, this.#ready.heartbeatMs) : PROBE_MS);
  }

  #send(text: string): void {
    this.#allowance -= 1;
    this.#socket.send(text);
  }

  #receive(incoming: Incoming): void {
    this.#heardAt = this.#now();
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
          this.#socket.deadline(CLOSE_MS, "no Close came after the last word");
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
      default:
        return this.#report(incoming);
    }
  }

  #open(ready: Ready): void {
    this.#ready = ready;
    this.#allowance = ready.limits.messageBurst;
    this.#countedAt = this.#now();
    this.#socket.stopTimer();
    this.#listen();
  }

  #answer(id: string | undefined, answer: Answer): void {
    const answered = id === undefined ? undefined : this.#asked.get(id);
    if (id === undefined || !answered) return;
    this.#asked.delete(id);
    answered(answer);
  }

  /** A script does not see the server's Pings, so a quiet connection is asked whether it lives, and once only. */
  #listen(): void {
    const heartbeatMs = this.#ready?.heartbeatMs ?? 0;
    if (heartbeatMs === 0) return;
    const leftMs = heartbeatMs - (this.#now() - this.#heardAt);
    if (leftMs <= 0) return this.#ping(heartbeatMs);
    this.#socket.timer(leftMs, () => this.#listen());
  }

  #ping(patienceMs: number): void {
    this.#hasPinged = true;
    this.#send(write("ping", "{}"));
    this.#socket.timer(patienceMs, () => {
      const quietMs = Math.round(this.#now() - this.#heardAt);
      if (this.#hasPinged) this.#socket.giveUp(`nothing was heard from the server for ${quietMs} ms`);
      else this.#listen();
    });
  }

  #end(close: Close | null, gaveUp?: string): void {
    for (const id of [...this.#asked.keys()]) this.#answer(id, null);
    const said = this.#fatal ?? this.#goodbye;
    this.#report({ type: "ended", close, said, wasOpen: this.#isOpen, wasReady: this.#ready !== undefined, gaveUp });
  }

  #now(): number {
    return this.#clock.now();
  }
}
