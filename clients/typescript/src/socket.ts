// One WebSocket of the platform, and how it ends: with a Close, or given up at a deadline.

import type { Close } from "./error.js";
import type { Clock, WebSocketConstructor, WebSocketLike } from "./platform.js";

/** From a last word, or our own Close, to the end of the socket. A Saywhy server's own deadline is 3 s. */
export const CLOSE_MS = 5_000;
/** The registered code for a peer that took too long. */
const TIMEOUT = 3008;

/** What it takes to connect once. */
export interface Address {
  readonly url: string;
  readonly protocols: string[];
  readonly WebSocket: WebSocketConstructor;
  readonly clock: Clock;
}

/** Who hears what happens on a socket. */
export interface Hearer {
  opened(): void;
  heard(data: unknown): void;
  /** Once. `close` is `null` when this side did not wait for it, and then `gaveUp` says why. */
  ended(close: Close | null, gaveUp?: string): void;
}

export class Socket {
  readonly #socket: WebSocketLike;
  readonly #clock: Clock;
  readonly #hearer: Hearer;
  #isOver = false;
  #isClosing = false;
  #stopTimer = () => {};

  /** Throws what the platform throws when it will not even try. */
  constructor({ WebSocket, clock, url, protocols }: Address, hearer: Hearer) {
    this.#clock = clock;
    this.#hearer = hearer;
    const socket = new WebSocket(url, protocols);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => this.#isOver || hearer.opened());
    socket.addEventListener("message", ({ data }) => this.#isOver || this.#isClosing || hearer.heard(data));
    // A browser's error event says nothing, and a close event follows. Node's `ws` throws when nobody listens.
    socket.addEventListener("error", () => {});
    // Deno says 0 where all others say 1006: no Close that could be read has come.
    socket.addEventListener("close", ({ code, reason, wasClean }) => this.#end({ code: code || 1006, reason, wasClean }));
  }

  /** We have said Close: what still arrives is not heard. */
  get isClosing(): boolean {
    return this.#isClosing;
  }

  /** The subprotocol that the server chose. */
  get protocol(): string {
    return this.#socket.protocol ?? "";
  }

  /** What was sent and has not left yet. */
  get bufferedBytes(): number {
    return this.#socket.bufferedAmount ?? 0;
  }

  send(data: string | ArrayBuffer | ArrayBufferView<ArrayBuffer>): void {
    this.#socket.send(data);
  }

  /**
   * Begins the closing handshake. Throws on a code that the platform forbids. While it connects there is no handshake, and
   * Node from 22 on tells of the end before this returns.
   */
  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
    this.#isClosing = true;
    this.deadline(CLOSE_MS, "the server did not answer the Close");
  }

  /** Gives up after so long, unless there is another timer by then. */
  deadline(ms: number, why: string): void {
    this.timer(ms, () => this.giveUp(why));
  }

  /** A socket waits for one thing at a time, and for nothing once it is over: a new timer takes the place of the old one. */
  timer(ms: number, act: () => void): void {
    this.#stopTimer();
    if (!this.#isOver) this.#stopTimer = this.#clock.after(ms, act);
  }

  stopTimer(): void {
    this.#stopTimer();
  }

  giveUp(why: string): void {
    // Said first, as the platform may have a say of its own before its `close()` returns.
    this.#end(null, why);
    if (!this.#isClosing) this.#socket.close(TIMEOUT, why);
  }

  #end(close: Close | null, gaveUp?: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stopTimer();
    this.#hearer.ended(close, gaveUp);
  }
}
