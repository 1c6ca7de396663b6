// A client of a Saywhy server: requests, rooms, and what waits to be sent, over one connection after the other.

import { aborted, onAbort } from "./abort.js";
import { Connection, type Answer, type Report } from "./connection.js";
import { SaywhyError, badAnswer, saidByServer } from "./error.js";
import type { Ending, Events, State } from "./events.js";
import { Lifeline, type Line } from "./lifeline.js";
import { Outgoing, Request, type Reply } from "./outgoing.js";
import { Rooms } from "./rooms.js";
import { readAnswer, write, type AnswerTo, type Answers, type Message, type Position, type Ready } from "./wire.js";

const REQUEST_MS = 30_000;

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
  readonly #platform: Line["platform"];
  readonly #life: Lifeline<Ready, Events>;
  readonly #rooms: Rooms;
  readonly #outgoing = new Outgoing();
  /** So that ids of different clients differ in the server's log. */
  readonly #prefix: string;

  #connection: Connection | undefined;
  /** What sends requests of this client's own: they go ahead of what waits, and are never sent twice. */
  #own: ((connection: Connection) => void)[] = [];
  /** Whether what waits goes out: the session is ready, and the rooms are joined again. */
  #isFlowing = false;
  #lastId = 0;
  /** Of the next message that the rate limit permits. */
  #stopPause: (() => void) | undefined;

  constructor(line: Line) {
    const { clock, random } = line.platform;
    this.#platform = line.platform;
    this.#prefix = Math.floor(random() * 36 ** 8).toString(36);
    this.#life = new Lifeline(line, {
      dial: (address) => (this.#connection = new Connection(address, (report) => this.#hear(report))),
      arrived: () => this.#arrived(),
      gone: () => this.#gone(),
      over: (cause) => this.#over(cause),
    });
    this.#rooms = new Rooms({
      ask: (type, data, answered) => this.#ask(type, data, answered),
      tell: (event, info) => this.#life.tell(event, info),
      after: (ms, act) => clock.after(ms, act),
      random,
    });
    this.#life.begin();
  }

  /** Resolves when it is over for good, and never rejects. */
  get closed(): Promise<Ending> {
    return this.#life.closed;
  }

  get state(): State {
    return this.#life.state;
  }

  /**
   * Resolves as soon as the server says `ready`, at once when it has. Rejects with a `SaywhyError` when the connection is
   * refused for good; while there will be another attempt it waits, and `waiting` says why.
   */
  ready({ signal }: { readonly signal?: AbortSignal | undefined } = {}): Promise<Ready> {
    return this.#life.ready(signal);
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
    return this.#life.on(event, listener, signal);
  }

  /**
   * Ends the connection for good. `code` is 1000 or 3000–4999 and `reason` at most 123 bytes; the platform throws at
   * anything else.
   */
  close(code = 1000, reason = ""): Promise<Ending> {
    return this.#life.close(code, reason);
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

  #hear(report: Report): void {
    const life = this.#life;
    switch (report.type) {
      case "open":
        return life.opened();
      case "ready":
        return life.isReady(report.ready);
      case "error": {
        const { said } = report;
        life.said("error", said);
        // A fatal one is told with how the connection ended.
        if (said.fatal) return;
        const error = saidByServer(said);
        const { room } = said.details;
        if (said.name === "history_lost" && typeof room === "string") return this.#rooms.lost(room, error);
        return life.tell("error", { error });
      }
      case "goodbye":
        life.said("goodbye", report.said);
        return life.tell("goodbye", { error: saidByServer(report.said) });
      case "ended":
        return life.ended(report);
      case "message":
        return this.#rooms.receive(report.message);
      case "joined":
      case "left":
        return life.tell(report.type, { room: report.room, member: report.member });
      case "room_closed":
      case "room_opened":
      case "degraded":
      case "restored":
        return life.tell(report.type, { room: report.room });
      case "auth_expiring":
        return void this.#renewInPlace();
      case "other":
        return life.tell("other", { type: report.name, data: report.data });
      default:
        report satisfies never;
    }
  }

  #arrived(): void {
    this.#rooms.comeBack(() => {
      this.#isFlowing = true;
      this.#flush();
    });
  }

  #gone(): void {
    this.#connection = undefined;
    this.#own = [];
    this.#isFlowing = false;
    this.#rooms.gone();
    this.#stopPause?.();
    this.#stopPause = undefined;
    for (const request of this.#outgoing.rewind(this.#platform.clock.now())) this.#lost(request);
  }

  #lost(request: Request): void {
    // With the connection gone, one has left.
    if (request.type === "leave") return request.settle({ ok: true, data: { room: request.room } });
    const message = "The connection was lost before the answer came: nobody knows whether it was done";
    request.fail(new SaywhyError("connection_lost", message, "network", { code: 1006, retry: "backoff" }));
  }

  #over(cause: SaywhyError): void {
    for (const request of this.#outgoing.takeAll()) request.fail(cause);
    this.#rooms.inbox.end();
  }

  async #renewInPlace(): Promise<void> {
    
    const failure = await this.#life.renewToken("expiring");
    if (this.#life.farewell) return;
    if (failure) return this.#life.tell("error", { error: failure });
    // A connection that is being made meanwhile has it already, or is told when the old one is refused.
    this.#ask("authenticate", { token: this.#life.token }, (answer) => {
      if (answer && !answer.ok && !answer.said.fatal) this.#life.tell("error", { error: saidByServer(answer.said) });
    });
  }

  // ---- requests ------------------------------------------------------------------------------------------------------

  #submit(type: string, data: unknown, { signal, timeoutMs }: RequestOptions): Request | SaywhyError {
    const { farewell } = this.#life;
    if (farewell) return farewell;
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
    const undo = onAbort(signal, () => giveUp(aborted(signal)));
    const stopTimer =
      timeoutMs === undefined
        ? undefined
        : this.#platform.clock.after(timeoutMs, () => {
            giveUp(new SaywhyError("no_answer", `No answer came within ${timeoutMs} ms`, "client", { retry: "backoff" }));
          });
    void request.reply.then(() => {
      stopTimer?.();
      undo();
    });
    this.#flush();
    return request;
  }

  /** Sends what this client needs itself, then what waits, as fast as the server permits. */
  #flush(): void {
    const connection = this.#connection;
    while (connection && !connection.isEnding && !this.#stopPause) {
      const hasOwn = this.#own.length > 0;
      const request = this.#isFlowing && !hasOwn ? this.#outgoing.next : undefined;
      if (!hasOwn && !request) return;
      if (request && this.#isTooBig(request)) {
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
      if (request) this.#send(connection, request);
      else this.#own.shift()?.(connection);
    }
  }

  #send(connection: Connection, request: Request): void {
    this.#outgoing.sent(this.#platform.clock.now());
    const { id, type, text, room, since } = request;
    if (type === "join" && room !== undefined) this.#rooms.joining(room, since);
    if (type === "leave" && room !== undefined) this.#rooms.left(room);
    connection.ask(id, text, (answer) => answer && this.#answered(request, answer));
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

  /** A request of this client's own. */
  #ask(type: string, data: unknown, answered: (answer: Answer) => void): void {
    if (this.state !== "ready") return;
    const id = this.#id();
    const text = write(type, JSON.stringify(data), id);
    this.#own.push((connection) => connection.ask(id, text, answered));
    this.#flush();
  }

  #isTooBig({ bytes }: Request): boolean {
    const limit = this.#connection?.messageBytes ?? 0;
    return limit > 0 && bytes > limit;
  }

  #id(): string {
    return `${this.#prefix}-${++this.#lastId}`;
  }
}

function tooBig({ bytes }: Request): SaywhyError {
  const message = `The message has ${bytes} bytes, and the server takes fewer`;
  return new SaywhyError("message_too_big", message, "client", { code: 1009 });
}
