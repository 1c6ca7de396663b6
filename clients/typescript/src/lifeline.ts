// A connection that comes back: what outlives every single one, whatever is spoken over it.
//
// connecting ─► authenticating ─► ready
//     ▲               │             │          any of them, at the end ─► closed
//     │               ▼             ▼
//     └────────── waiting, or offline while there is no network
//
// The retry machine alone decides whether and when there is another connection; this file obeys it. It knows two reasons
// to be later, no network and nobody who looks at the page, and one to be earlier: somebody looks again, or the network
// is back. Then a backoff is not sat out, but once in a while only and never at the same instant for everyone.

import { aborted, onAbort } from "./abort.js";
import { SaywhyError, type Close } from "./error.js";
import { Listeners, type Ending, type LifeEvents, type State } from "./events.js";
import type { Diagnose, Diagnosis } from "./diagnose.js";
import type { Platform } from "./platform.js";
import { explain } from "./explain.js";
import { RetryMachine, type Because, type Retry, type RetryEvent } from "./retry.js";
import type { Address } from "./socket.js";
import type { ServerError } from "./wire.js";

const TOKEN_MS = 30_000;
const DIAGNOSIS_MS = 5_000;
/** For so long a page may be hidden and still come back by itself. */
const HIDDEN_MS = 60_000;
/** Who wakes up waits for this, and a random part of that: so does everybody else behind the same router. */
const WAKE_MS = 100;
const WAKE_SPREAD_MS = 1_000;
/** How often a wait may be cut short by waking up. */
const WAKE_EVERY_MS = 10_000;
/** RFC 9110 §5.6.2: what a token travels as has to be one in this sense too. */
const SUBPROTOCOL = /^[\w!#$%&'*+.^`|~-]+$/;

/** Why a token is asked for: to connect, because the last one was refused, or because it is about to expire. */
export interface TokenRequest {
  readonly reason: "connect" | "refused" | "expiring";
  /** Fires when the client is closed. */
  readonly signal: AbortSignal;
}

export type TokenSource = (request: TokenRequest) => string | Promise<string>;

/** One connection, whatever is spoken over it. */
export interface Link {
  /** Begins the closing handshake; the end is reported when it is over. Throws on a code that the platform forbids. */
  close(code: number, reason: string): void;
  /** Somebody is back: find out soon whether the connection is still there. */
  probe(): void;
}

/** How a connection ended. */
export interface Ended {
  readonly type: "ended";
  /** As the platform reports it; `null` when this client did not wait for it. */
  readonly close: Close | null;
  /** The last fatal error, or else the last goodbye. */
  readonly said: ServerError | undefined;
  readonly wasOpen: boolean;
  readonly wasReady: boolean;
  /** Why this client gave the connection up, where it did. */
  readonly gaveUp?: string | undefined;
}

/** What a lifeline is made of. */
export interface Line {
  readonly url: string;
  readonly protocols: readonly string[];
  readonly token: TokenSource | undefined;
  readonly signal: AbortSignal | undefined;
  readonly diagnose: Diagnose | undefined;
  readonly platform: Platform;
}

/** Who speaks over the connections of a lifeline. */
export interface Speaker<R> {
  /** Makes a connection, and reports what becomes of it. Throws what the platform throws when it will not even try. */
  dial(address: Address): Link;
  /** `ready` was told, and nothing has ended it yet. */
  arrived(ready: R): void;
  /** The connection is gone. */
  gone(): void;
  /** Nothing can be said any more, over any connection. */
  over(cause: SaywhyError): void;
}

/** An attempt that is to be made, and when. */
interface Waiting {
  readonly because: Because;
  readonly cause: SaywhyError;
  readonly attempt: number;
  untilMs: number;
}

export class Lifeline<R, E extends LifeEvents<R>> {
  readonly closed: Promise<Ending>;
  /** Fires at the end. */
  readonly signal: AbortSignal;

  readonly #line: Line;
  readonly #speaker: Speaker<R>;
  readonly #listeners = new Listeners<E>();
  readonly #retry = new RetryMachine();
  readonly #abort = new AbortController();

  #state: State = "connecting";
  #link: Link | undefined;
  #session: R | undefined;
  #waiting: Waiting | undefined;
  #stopTimer = () => {};
  #token: string | undefined;
  #hiddenAtMs: number | undefined;
  #wokeAtMs = -Infinity;
  /** Of the attempts in a row that never opened, the first is looked into. */
  #mayDiagnose = true;
  /** Why it ends: set by `close()`, while the closing handshake is under way. */
  #farewell: SaywhyError | undefined;
  #ending: Ending | undefined;
  #readers: { resolve: (ready: R) => void; reject: (error: SaywhyError) => void }[] = [];
  #resolveClosed!: (ending: Ending) => void;

  constructor(line: Line, speaker: Speaker<R>) {
    this.#line = line;
    this.#speaker = speaker;
    this.signal = this.#abort.signal;
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
  }

  /** Makes the first connection. */
  begin(): void {
    const { signal, platform } = this.#line;
    const leave = (): void => this.#leave(aborted(signal), 1000, "");
    if (signal?.aborted) return leave();
    const undo = [
      onAbort(signal, leave),
      platform.network.onOnline(() => this.#wake()),
      platform.page.onChange(() => this.#pageChanged()),
    ];
    onAbort(this.signal, () => undo.forEach((act) => act()));
    if (platform.page.isHidden()) this.#hiddenAtMs = this.#now();
    void this.#connect();
  }

  get state(): State {
    return this.#state;
  }

  /** Why nothing can be said any more, once it is so. */
  get farewell(): SaywhyError | undefined {
    return this.#farewell;
  }

  ready(signal: AbortSignal | undefined): Promise<R> {
    if (this.#session) return Promise.resolve(this.#session);
    if (this.#ending) return Promise.reject(this.#ending.cause);
    if (signal?.aborted) return Promise.reject(aborted(signal));
    let undo = (): void => {};
    const ready = new Promise<R>((resolve, reject) => {
      const reader = { resolve, reject };
      this.#readers.push(reader);
      undo = onAbort(signal, () => {
        this.#readers = this.#readers.filter((other) => other !== reader);
        reject(aborted(signal));
      });
    });
    return ready.finally(() => undo());
  }

  on<K extends keyof E>(event: K, listener: (info: E[K]) => void, signal: AbortSignal | undefined): () => void {
    if (signal?.aborted) return () => {};
    const undo = this.#listeners.add(event, listener);
    onAbort(signal, undo);
    return undo;
  }

  tell<K extends keyof E>(event: K, info: E[K]): void {
    this.#listeners.tell(event, info);
  }

  close(code: number, reason: string): Promise<Ending> {
    const help = "Nothing is wrong: close() was called.";
    this.#leave(new SaywhyError("closed", "The connection was closed here", "client", { fatal: true, help }), code, reason);
    return this.closed;
  }

  // ---- what the speaker reports ------------------------------------------------------------------------------------

  opened(): void {
    this.#note({ type: "open" });
    this.#become("authenticating", {});
  }

  isReady(ready: R): void {
    this.#session = ready;
    this.#note({ type: "ready" });
    for (const { resolve } of this.#readers.splice(0)) resolve(ready);
    this.#become("ready", ready);
    if (this.#session === ready && !this.#farewell) this.#speaker.arrived(ready);
  }

  /** The server has said what its end of the connection means. */
  said(type: "error" | "goodbye", said: ServerError): void {
    this.#note({ type, said, fatal: said.fatal });
  }

  ended(ended: Ended): void {
    this.#link = undefined;
    this.#session = undefined;
    this.#speaker.gone();
    const { diagnose } = this.#line;
    const mayDiagnose = this.#mayDiagnose;
    this.#mayDiagnose = ended.wasOpen;
    if (this.#farewell || ended.wasOpen || !diagnose || !mayDiagnose) return this.#afterwards(ended);
    void this.#look(diagnose, ended);
  }

  // ---- one connection after the other ------------------------------------------------------------------------------

  async #connect(): Promise<void> {
    this.#waiting = undefined;
    this.#note({ type: "started" });
    this.#become("connecting", {});
    // A listener may have closed the client.
    if (this.#farewell) return;
    if (this.#line.token && this.#token === undefined) {
      const failure = await this.renewToken("connect");
      if (this.#farewell) return;
      if (failure) return this.#decide({ type: "ended", code: 1006 }, () => failure, null);
    }
    const { url, platform } = this.#line;
    const { WebSocket, clock } = platform;
    if (!WebSocket) return this.#cannotConnect("There is no WebSocket on this platform: pass one as an option");
    // The platform would say so too, and the token with it.
    const token = this.#token;
    if (token && !SUBPROTOCOL.test(token)) return this.#cannotConnect("The token has characters that no token may have");
    const protocols = [...this.#line.protocols, ...(token ? [`saywhy.bearer.${token}`] : [])];
    try {
      this.#link = this.#speaker.dial({ url, protocols, WebSocket, clock });
    } catch (cause) {
      this.#cannotConnect("The platform refuses to make this connection", cause);
    }
  }

  /** The same again would fail in the same way. */
  #cannotConnect(message: string, cause?: unknown): void {
    this.#finish(new SaywhyError("cannot_connect", message, "client", { fatal: true, cause }), null);
  }

  /** Asks the same address over HTTP why it could not be connected to, where somebody wants to know. */
  async #look(diagnose: Diagnose, ended: Ended): Promise<void> {
    const { url } = this.#line;
    const diagnosis = await this.#within(DIAGNOSIS_MS, (signal) => diagnose(url, signal)).catch(() => undefined);
    if (diagnosis?.said && !this.#farewell) this.#note({ type: "error", said: diagnosis.said, fatal: true });
    this.#afterwards(ended, diagnosis);
  }

  #afterwards(ended: Ended, diagnosis?: Diagnosis): void {
    const { close } = ended;
    if (this.#farewell) return this.#finish(this.#farewell, close);
    const { url, platform } = this.#line;
    const isOnline = platform.network.isOnline();
    const explained = (retry: Retry): SaywhyError => explain(ended, retry, { url, isOnline, diagnosis });
    this.#decide({ type: "ended", code: close?.code ?? 1006 }, explained, close);
  }

  #decide(
    event: RetryEvent & { type: "ended" | "token_renewed" | "token_failed" },
    explained: (retry: Retry) => SaywhyError,
    close: Close | null,
  ): void {
    const decision = this.#retry.handle(this.#now(), event, this.#line.platform.random());
    // An attempt is ended once, so the machine has an answer.
    if (!decision) return;
    const { because } = decision;
    const cause = explained(because.retry);
    switch (decision.do) {
      case "wait": {
        const { attempt, delayMs } = decision;
        this.#waiting = { because, cause, attempt, untilMs: this.#now() + delayMs };
        return this.#hold();
      }
      case "reauthenticate":
        return void this.#reauthenticate(cause, close);
      case "give_up":
        return this.#finish(cause, close);
      default:
        decision satisfies never;
    }
  }

  async #reauthenticate(cause: SaywhyError, close: Close | null): Promise<void> {
    // Nobody to ask: the same again would be refused again.
    if (!this.#line.token) return this.#finish(cause, close);
    this.#become("authenticating", {});
    const failure = await this.renewToken("refused");
    if (this.#farewell) return;
    this.#decide({ type: failure ? "token_failed" : "token_renewed" }, () => failure ?? cause, close);
  }

  // ---- waiting, and waking -----------------------------------------------------------------------------------------

  /** Connects as soon as it is time, there is a network, and somebody looks. */
  #hold(): void {
    const waiting = this.#waiting;
    if (!waiting) return;
    this.#stopTimer();
    const { cause, attempt, untilMs } = waiting;
    if (!this.#line.platform.network.isOnline()) {
      if (this.#state !== "offline") this.#become("offline", { cause, attempt });
      return;
    }
    const delayMs = this.#isUnseen ? Infinity : Math.max(0, Math.round(untilMs - this.#now()));
    if (delayMs < Infinity) {
      this.#stopTimer = this.#after(delayMs, () => (this.#isHeld ? this.#hold() : void this.#connect()));
    }
    this.#become("waiting", { cause, delayMs, attempt });
  }

  get #isUnseen(): boolean {
    return this.#now() - (this.#hiddenAtMs ?? Infinity) >= HIDDEN_MS;
  }

  /** No timer runs, or it would lead to nothing. */
  get #isHeld(): boolean {
    return this.#isUnseen || !this.#line.platform.network.isOnline();
  }

  #pageChanged(): void {
    if (this.#line.platform.page.isHidden()) this.#hiddenAtMs ??= this.#now();
    else this.#wake();
  }

  /** The network is back, or somebody looks again. */
  #wake(): void {
    const wasHeld = this.#state === "offline" || this.#isUnseen;
    if (!this.#line.platform.page.isHidden()) this.#hiddenAtMs = undefined;
    const waiting = this.#waiting;
    if (!waiting) return this.#link?.probe();
    if (this.#isHeld) return this.#hold();
    const now = this.#now();
    const soonMs = now + WAKE_MS + Math.floor(this.#line.platform.random() * WAKE_SPREAD_MS);
    // What a server asked for has to pass; backoff was for a network that is back.
    const mayHurry = waiting.because.retry !== "after" && now - this.#wokeAtMs >= WAKE_EVERY_MS;
    if (mayHurry && soonMs < waiting.untilMs) {
      this.#wokeAtMs = now;
      waiting.untilMs = soonMs;
    } else if (!wasHeld) return;
    // All who were held would come at once.
    if (wasHeld) waiting.untilMs = Math.max(waiting.untilMs, soonMs);
    this.#hold();
  }

  // ---- the end -----------------------------------------------------------------------------------------------------

  /** The polite end. It is over when the server has confirmed it, or has had its time. */
  #leave(cause: SaywhyError, code: number, reason: string): void {
    if (this.#farewell) return;
    // Before the link is closed, which may be over at once and is no connection that was lost.
    this.#farewell = cause;
    try {
      this.#link?.close(code, reason);
    } catch (refusal) {
      this.#farewell = undefined;
      throw refusal;
    }
    this.#bid(cause);
    if (!this.#link) this.#finish(cause, null);
  }

  #finish(cause: SaywhyError, close: Close | null): void {
    if (this.#ending) return;
    const ending: Ending = { cause, close };
    this.#ending = ending;
    this.#bid(cause);
    for (const { reject } of this.#readers.splice(0)) reject(cause);
    this.#resolveClosed(ending);
    this.#become("closed", ending);
  }

  #bid(cause: SaywhyError): void {
    if (this.signal.aborted) return;
    this.#farewell = cause;
    this.#stopTimer();
    this.#abort.abort(cause);
    this.#speaker.over(cause);
  }

  // ---- what it all needs -------------------------------------------------------------------------------------------

  /** Returns what went wrong; the old token is kept then. */
  async renewToken(reason: TokenRequest["reason"]): Promise<SaywhyError | undefined> {
    try {
      this.#token = await this.#within(TOKEN_MS, (signal) => this.#line.token?.({ reason, signal }));
      return undefined;
    } catch (cause) {
      return new SaywhyError("token_unavailable", "There is no token to connect with", "client", { retry: "backoff", cause });
    }
  }

  /** The token that the next connection is made with. */
  get token(): string | undefined {
    return this.#token;
  }

  /** What somebody else answers, as long as this client is not closed. */
  async #within<T>(ms: number, ask: (signal: AbortSignal) => T | Promise<T>): Promise<T> {
    this.signal.throwIfAborted();
    const controller = new AbortController();
    const { signal } = controller;
    const undo = onAbort(this.signal, () => controller.abort(this.signal.reason));
    const stopTimer = this.#after(ms, () => controller.abort(new Error(`no answer came within ${ms} ms`)));
    try {
      return await new Promise<T>((resolve, reject) => {
        onAbort(signal, () => reject(signal.reason));
        Promise.resolve(ask(signal)).then(resolve, reject);
      });
    } finally {
      undo();
      stopTimer();
    }
  }

  #note(event: RetryEvent): void {
    this.#retry.handle(this.#now(), event, 0);
  }

  #become<S extends State>(state: S, info: LifeEvents<R>[S]): void {
    const previous = this.#state;
    this.#state = state;
    const listeners = this.#listeners as unknown as Listeners<LifeEvents<R>>;
    if (state !== previous) listeners.tell("state", { state, previous });
    // A listener of `state` may have closed the client.
    if (this.#state === state) listeners.tell(state, info);
  }

  #after(ms: number, act: () => void): () => void {
    return this.#line.platform.clock.after(ms, act);
  }

  #now(): number {
    return this.#line.platform.clock.now();
  }
}
