// What outlives connections: states, retries, rooms, and what waits to be sent.
//
// connecting ─► authenticating ─► ready
//     ▲               │             │          any of them, at the end ─► closed
//     │               ▼             ▼
//     └────────── waiting, or offline while there is no network
//
// The retry machine alone decides whether and when there is another connection; this file obeys it.

import { Connection, type Answer, type Ended, type Report } from "./connection.js";
import { SaywhyError, badAnswer, saidByClose, saidByServer, type Close } from "./error.js";
import { Listeners, type Ending, type Events, type State } from "./events.js";
import { Outgoing, Request, type Reply } from "./outgoing.js";
import type { Platform } from "./platform.js";
import { RetryMachine, type Decision, type Retry } from "./retry.js";
import { Rooms } from "./rooms.js";
import { readAnswer, write, type AnswerTo, type Answers, type Message, type Position, type Ready } from "./wire.js";

const TOKEN_MS = 30_000;
const REQUEST_MS = 30_000;
/** RFC 9110 §5.6.2: what a token travels as has to be one in this sense too. */
const SUBPROTOCOL = /^[\w!#$%&'*+.^`|~-]+$/;

/** Why a token is asked for: to connect, because the last one was refused, or because it is about to expire. */
export interface TokenRequest {
  readonly reason: "connect" | "refused" | "expiring";
  /** Fires when the client is closed. */
  readonly signal: AbortSignal;
}

export type TokenSource = (request: TokenRequest) => string | Promise<string>;

/** What the requests that this client knows take. */
export interface Requests {
  join: { readonly room: string; readonly since?: Position | undefined };
  leave: { readonly room: string };
  send: { readonly room: string; readonly body: unknown; readonly idempotency_key?: string | undefined };
  history: { readonly room: string; readonly since?: Position | undefined; readonly limit?: number | undefined };
  members: { readonly room: string };
  open_room: { readonly room: string };
  close_room: { readonly room: string };
  authenticate: { readonly token: string };
}

export interface RequestOptions {
  readonly signal?: AbortSignal | undefined;
  /** How long to wait for the answer, the time without a connection included. Default: 30 s. */
  readonly timeoutMs?: number | undefined;
}

/** A request of a type that this client knows takes what that type takes; an application's own takes anything. */
type Rest<T extends string> = T extends keyof Requests
  ? [data: Requests[T], options?: RequestOptions]
  : [data?: unknown, options?: RequestOptions];

/** Where a message is now, and what becomes of it. */
export interface Sending {
  /** `queued` until there is a connection that can take it. */
  readonly status: "sent" | "queued";
  readonly reply: Promise<Reply<Answers["send"]>>;
}

/** A connection that comes back, as far as the server permits. */
export class Client implements AsyncIterable<Message> {
  /** Resolves when it is over for good, and never rejects. */
  readonly closed: Promise<Ending>;

  readonly #url: string;
  readonly #token: TokenSource | undefined;
  readonly #platform: Platform;
  readonly #retry = new RetryMachine();
  readonly #rooms: Rooms;
  readonly #outgoing = new Outgoing();
  readonly #listeners = new Listeners();
  readonly #abort = new AbortController();
  /** So that ids of different clients differ in the server's log. */
  readonly #prefix: string;

  #state: State = "connecting";
  #connection: Connection | undefined;
  #session: Ready | undefined;
  /** Whether requests go out: the session is ready, and the rooms are joined again. */
  #isFlowing = false;
  #currentToken: string | undefined;
  #lastId = 0;
  /** Set by `close()`, while the closing handshake is under way. */
  #farewell: SaywhyError | undefined;
  #ending: Ending | undefined;
  #readers: { resolve: (ready: Ready) => void; reject: (error: SaywhyError) => void }[] = [];
  #resolveClosed!: (ending: Ending) => void;
  /** Of the next attempt. */
  #stopWaiting = () => {};
  /** Of the next message that the rate limit permits. */
  #stopPause: (() => void) | undefined;

  constructor(url: string, token: TokenSource | undefined, signal: AbortSignal | undefined, platform: Platform) {
    this.#url = url;
    this.#token = token;
    this.#platform = platform;
    this.#prefix = Math.floor(platform.random() * 36 ** 8).toString(36);
    this.#rooms = new Rooms({
      ask: (type, data, answered) => this.#ask(type, data, answered),
      tell: (event, info) => this.#listeners.tell(event, info),
      after: (ms, act) => platform.clock.after(ms, act),
      random: platform.random,
    });
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    const onAbort = (): void => this.#leave(aborted(signal), 1000, "");
    if (signal?.aborted) onAbort();
    else {
      signal?.addEventListener("abort", onAbort, { once: true, signal: this.#abort.signal });
      void this.#connect();
    }
  }

  get state(): State {
    return this.#state;
  }

  /**
   * Resolves as soon as the server says `ready`, at once when it has. Rejects with a `SaywhyError` when the connection is
   * refused for good; while there will be another attempt it waits, and `waiting` says why.
   */
  ready({ signal }: { readonly signal?: AbortSignal | undefined } = {}): Promise<Ready> {
    if (this.#session) return Promise.resolve(this.#session);
    if (this.#ending) return Promise.reject(this.#ending.cause);
    if (signal?.aborted) return Promise.reject(aborted(signal));
    return new Promise((resolve, reject) => {
      const reader = { resolve, reject };
      this.#readers.push(reader);
      const onAbort = (): void => {
        this.#readers = this.#readers.filter((other) => other !== reader);
        reject(aborted(signal));
      };
      signal?.addEventListener("abort", onAbort, { once: true, signal: this.#abort.signal });
    });
  }

  /**
   * Asks the server for something; without a connection it waits for one. Whatever the answer is, the promise resolves; it
   * rejects only with a `TypeError`, on data that is no JSON.
   *
   * A `join` or a `send` whose answer was lost with the connection is sent again. Of any other request nobody knows then
   * whether it was done, and it is answered with `connection_lost`.
   */
  async request<T extends string>(type: T, ...[data, options = {}]: Rest<T>): Promise<Reply<AnswerTo<T>>> {
    const request = this.#submit(type, data, { timeoutMs: REQUEST_MS, ...options });
    const reply: Reply = request instanceof SaywhyError ? { ok: false, error: request } : await request.reply;
    // `readAnswer` has made it what the type says.
    return reply as Reply<AnswerTo<T>>;
  }

  /**
   * Says something in a room, once: it waits for a connection as long as it takes, and is sent again when its answer was
   * lost. Throws a `SaywhyError` when it cannot even be queued, so that nothing is dropped in silence.
   */
  send(room: string, body: unknown, options: RequestOptions = {}): Sending {
    const request = this.#submit("send", { room, body }, options);
    if (request instanceof SaywhyError) throw request;
    const status = request.sentAtMs === undefined ? "queued" : "sent";
    return { status, reply: request.reply as Promise<Reply<Answers["send"]>> };
  }

  /** Calls `listener` with every `event` until the function that this returns is called, or `signal` fires. */
  on<E extends keyof Events>(
    event: E,
    listener: (info: Events[E]) => void,
    { signal }: { readonly signal?: AbortSignal | undefined } = {},
  ): () => void {
    if (signal?.aborted) return () => {};
    const undo = this.#listeners.add(event, listener);
    signal?.addEventListener("abort", undo, { once: true });
    return undo;
  }

  /**
   * Ends the connection for good. `code` is 1000 or 3000–4999 and `reason` at most 123 bytes; the platform throws at
   * anything else.
   */
  close(code = 1000, reason = ""): Promise<Ending> {
    this.#leave(new SaywhyError("closed", "The connection was closed here", "client", { fatal: true }), code, reason);
    return this.closed;
  }

  /**
   * Messages of all rooms, across reconnects, each room's in order and once. Ends when the client is closed. There is one
   * queue: of two loops, each gets a part. When nobody reads, the rest stays with the server and is asked for later.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Message, undefined, undefined> {
    for (;;) {
      const { done, value } = await this.#rooms.inbox.next();
      if (done) return undefined;
      yield value;
    }
  }

  // ---- one connection after the other ------------------------------------------------------------------------------

  async #connect(): Promise<void> {
    this.#become("connecting", {});
    this.#retry.handle(this.#now(), { type: "started" }, 0);
    if (this.#token && this.#currentToken === undefined) {
      const failure = await this.#renewToken("connect");
      if (this.#farewell) return;
      if (failure) return this.#ended({ type: "ended", close: null, said: undefined, wasReady: false }, failure);
    }
    const token = this.#currentToken;
    const { WebSocket, clock } = this.#platform;
    if (!WebSocket) return this.#cannotConnect("There is no WebSocket on this platform: pass one as an option");
    // The platform would say so too, and the token with it.
    if (token && !SUBPROTOCOL.test(token)) return this.#cannotConnect("The token has characters that no token may have");
    const protocols = ["saywhy.v1", ...(token ? [`saywhy.bearer.${token}`] : [])];
    try {
      this.#connection = new Connection(WebSocket, this.#url, protocols, clock, (report) => this.#hear(report));
    } catch (cause) {
      this.#cannotConnect("The platform refuses to make this connection", cause);
    }
  }

  /** The same again would fail in the same way. */
  #cannotConnect(message: string, cause?: unknown): void {
    this.#finish(new SaywhyError("cannot_connect", message, "client", { fatal: true, cause }), null);
  }

  #hear(report: Report): void {
    switch (report.type) {
      case "open":
        this.#retry.handle(this.#now(), { type: "open" }, 0);
        return this.#become("authenticating", {});
      case "ready":
        this.#session = report.ready;
        this.#retry.handle(this.#now(), { type: "ready" }, 0);
        for (const { resolve } of this.#readers.splice(0)) resolve(report.ready);
        this.#rooms.comeBack(() => {
          this.#isFlowing = true;
          this.#flush();
        });
        return this.#become("ready", report.ready);
      case "error": {
        const { said } = report;
        this.#retry.handle(this.#now(), { type: "error", said, fatal: said.fatal }, 0);
        // A fatal one is told with how the connection ended.
        if (said.fatal) return;
        const error = saidByServer(said);
        const { room } = said.details;
        if (said.name === "history_lost" && typeof room === "string") return this.#rooms.lost(room, error);
        return this.#listeners.tell("error", { error });
      }
      case "goodbye":
        this.#retry.handle(this.#now(), { type: "goodbye", said: report.said }, 0);
        return this.#listeners.tell("goodbye", { error: saidByServer(report.said) });
      case "ended":
        return this.#ended(report);
      case "message":
        return this.#rooms.receive(report.message);
      case "joined":
      case "left":
        return this.#listeners.tell(report.type, { room: report.room, member: report.member });
      case "room_closed":
      case "room_opened":
      case "degraded":
      case "restored":
        return this.#listeners.tell(report.type, { room: report.room });
      case "auth_expiring":
        return void this.#renewInPlace();
      case "other":
        return this.#listeners.tell("other", { type: report.name, data: report.data });
      default:
        report satisfies never;
    }
  }

  #ended(ended: Ended, failure?: SaywhyError): void {
    this.#connection = undefined;
    this.#session = undefined;
    this.#isFlowing = false;
    this.#rooms.gone();
    this.#stopPause?.();
    this.#stopPause = undefined;
    for (const request of this.#outgoing.rewind(this.#now())) this.#lost(request);
    if (this.#farewell) return this.#finish(this.#farewell, ended.close);
    const decision = this.#decide({ type: "ended", code: ended.close?.code ?? 1006 });
    // An attempt is ended once, so the machine has an answer.
    if (decision) this.#obey(decision, failure ?? explain(ended, decision.because.retry), ended.close);
  }

  #lost(request: Request): void {
    // With the connection gone, one has left.
    if (request.type === "leave") return request.settle({ ok: true, data: { room: request.room } });
    const message = "The connection was lost before the answer came: nobody knows whether it was done";
    request.fail(new SaywhyError("connection_lost", message, "network", { code: 1006, retry: "backoff" }));
  }

  #decide(event: { type: "ended"; code: number } | { type: "token_renewed" | "token_failed" }): Decision | undefined {
    return this.#retry.handle(this.#now(), event, this.#platform.random());
  }

  #obey(decision: Decision, cause: SaywhyError, close: Close | null): void {
    switch (decision.do) {
      case "wait":
        return this.#wait(decision, cause);
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
    if (!this.#token) return this.#finish(cause, close);
    this.#become("authenticating", {});
    const failure = await this.#renewToken("refused");
    if (this.#farewell) return;
    const decision = this.#decide({ type: failure ? "token_failed" : "token_renewed" });
    if (decision) this.#obey(decision, failure ?? cause, close);
  }

  #wait({ delayMs, attempt, because }: Decision & { do: "wait" }, cause: SaywhyError): void {
    const until = this.#now() + delayMs;
    const { clock, network } = this.#platform;
    if (network.isOnline()) {
      this.#stopWaiting = clock.after(delayMs, () => {
        // A network that went away meanwhile would only cost an attempt.
        if (network.isOnline()) void this.#connect();
        else this.#wait({ do: "wait", delayMs: 0, attempt, because }, cause);
      });
      return this.#become("waiting", { cause, delayMs, attempt });
    }
    this.#stopWaiting = network.onOnline(() => {
      this.#stopWaiting();
      // The time that a server asked for has to pass; backoff was for a network that is back.
      const left = because.retry === "after" ? Math.max(0, until - this.#now()) : 0;
      this.#wait({ do: "wait", delayMs: left, attempt, because }, cause);
    });
    this.#become("offline", { cause, attempt });
  }

  /** The polite end. It is over when the server has confirmed it, or has had its time. */
  #leave(cause: SaywhyError, code: number, reason: string): void {
    if (this.#farewell) return;
    this.#connection?.close(code, reason);
    this.#farewell = cause;
    this.#stopWaiting();
    this.#abort.abort(cause);
    for (const request of this.#outgoing.takeAll()) request.fail(cause);
    if (!this.#connection) this.#finish(cause, null);
  }

  #finish(cause: SaywhyError, close: Close | null): void {
    if (this.#ending) return;
    const ending: Ending = { cause, close };
    this.#farewell = cause;
    this.#ending = ending;
    this.#stopWaiting();
    this.#abort.abort(cause);
    for (const request of this.#outgoing.takeAll()) request.fail(cause);
    for (const { reject } of this.#readers.splice(0)) reject(cause);
    this.#rooms.inbox.end();
    this.#resolveClosed(ending);
    this.#become("closed", ending);
  }

  // ---- tokens --------------------------------------------------------------------------------------------------------

  /** Returns what went wrong; the old token is kept then. */
  async #renewToken(reason: TokenRequest["reason"]): Promise<SaywhyError | undefined> {
    const { signal } = this.#abort;
    let stop!: () => void;
    const limit = new Promise<never>((_, reject) => {
      const onAbort = (): void => reject(signal.reason);
      signal.addEventListener("abort", onAbort);
      const stopTimer = this.#platform.clock.after(TOKEN_MS, () => reject(new Error(`no token came within ${TOKEN_MS} ms`)));
      stop = () => {
        stopTimer();
        signal.removeEventListener("abort", onAbort);
      };
    });
    try {
      const asked = Promise.resolve(this.#token?.({ reason, signal }));
      this.#currentToken = await Promise.race([asked, limit]);
      return undefined;
    } catch (cause) {
      return new SaywhyError("token_unavailable", "There is no token to connect with", "client", { retry: "backoff", cause });
    } finally {
      stop();
    }
  }

  async #renewInPlace(): Promise<void> {
    if (!this.#token) return;
    const failure = await this.#renewToken("expiring");
    if (this.#farewell) return;
    if (failure) return this.#listeners.tell("error", { error: failure });
    // A connection that is being made meanwhile has it already, or is told when the old one is refused.
    this.#ask("authenticate", { token: this.#currentToken }, (answer) => {
      if (answer && !answer.ok && !answer.said.fatal) this.#listeners.tell("error", { error: saidByServer(answer.said) });
    });
  }

  // ---- requests ------------------------------------------------------------------------------------------------------

  #submit(type: string, data: unknown, { signal, timeoutMs }: RequestOptions): Request | SaywhyError {
    if (this.#farewell) return this.#farewell;
    if (signal?.aborted) return aborted(signal);
    const request = new Request(this.#id(), type, data);
    if (this.#isTooBig(request)) return tooBig(request);
    if (!this.#outgoing.add(request)) {
      return new SaywhyError("queue_full", "Too much is waiting to be sent", "client", { retry: "backoff" });
    }
    const giveUp = (error: SaywhyError): void => {
      if (request.isSettled) return;
      this.#outgoing.remove(request);
      // Whether one is in a room has to be known all the same.
      if (type !== "join") this.#connection?.forget(request.id);
      request.fail(error);
    };
    const onAbort = (): void => giveUp(aborted(signal));
    signal?.addEventListener("abort", onAbort, { once: true });
    const stopTimer =
      timeoutMs === undefined
        ? undefined
        : this.#platform.clock.after(timeoutMs, () => {
            giveUp(new SaywhyError("no_answer", `No answer came within ${timeoutMs} ms`, "client", { retry: "backoff" }));
          });
    void request.reply.then(() => {
      stopTimer?.();
      signal?.removeEventListener("abort", onAbort);
    });
    this.#flush();
    return request;
  }

  /** Sends what waits, as fast as the server permits. */
  #flush(): void {
    const connection = this.#connection;
    while (connection && this.#isFlowing && !connection.isEnding && !this.#stopPause) {
      const request = this.#outgoing.next;
      if (!request) return;
      if (this.#isTooBig(request)) {
        this.#outgoing.remove(request);
        request.fail(tooBig(request));
        continue;
      }
      const pauseMs = connection.pauseMs();
      if (pauseMs > 0) {
        this.#stopPause = this.#platform.clock.after(pauseMs, () => {
          this.#stopPause = undefined;
          this.#flush();
        });
        return;
      }
      this.#outgoing.sent(this.#now());
      const { id, type, text, room, since } = request;
      if (type === "join" && room !== undefined) this.#rooms.joining(room, since);
      if (type === "leave" && room !== undefined) this.#rooms.left(room);
      connection.ask(id, text, (answer) => answer && this.#answered(request, answer));
    }
  }

  #answered(request: Request, answer: NonNullable<Answer>): void {
    this.#outgoing.remove(request);
    const { type, room } = request;
    if (!answer.ok) {
      if (type === "join" && room !== undefined) this.#rooms.refused(room, answer.said.name);
      return request.fail(saidByServer(answer.said));
    }
    const data = readAnswer(type, answer.data);
    if (data === undefined) return request.fail(badAnswer(type));
    if (type === "join") {
      const { room, position } = data as Answers["join"];
      this.#rooms.joined(room, position);
    }
    request.settle({ ok: true, data });
  }

  /** A request of this client's own: ahead of what waits, and never sent twice. */
  #ask(type: string, data: unknown, answered: (answer: Answer) => void): void {
    if (!this.#session) return;
    const id = this.#id();
    this.#connection?.ask(id, write(type, JSON.stringify(data), id), answered);
  }

  #isTooBig({ bytes }: Request): boolean {
    const limit = this.#connection?.messageBytes ?? 0;
    return limit > 0 && bytes > limit;
  }

  #id(): string {
    return `${this.#prefix}-${++this.#lastId}`;
  }

  #now(): number {
    return this.#platform.clock.now();
  }

  // ---- telling -------------------------------------------------------------------------------------------------------

  #become<S extends State>(state: S, info: Events[S]): void {
    const previous = this.#state;
    this.#state = state;
    if (state !== previous) this.#listeners.tell("state", { state, previous });
    // A listener of `state` may have closed the client.
    if (this.#state === state) this.#listeners.tell(state, info);
  }
}

/** What can be said of an ending: the server's last word, or else the Close, or else that there was none. */
function explain({ said, close, wasReady, gaveUp }: Ended, retry: Retry): SaywhyError {
  if (said) return saidByServer(said, { close, retry });
  if (close) return saidByClose(close, retry, wasReady);
  const message = `The connection was given up: ${gaveUp}`;
  return new SaywhyError("connection_lost", message, "network", { code: 1006, retry, fatal: true });
}

function aborted(signal: AbortSignal | undefined): SaywhyError {
  return new SaywhyError("aborted", "It was aborted here", "client", { cause: signal?.reason });
}

function tooBig({ bytes }: Request): SaywhyError {
  const message = `The message has ${bytes} bytes, and the server takes fewer`;
  return new SaywhyError("message_too_big", message, "client", { code: 1009 });
}
