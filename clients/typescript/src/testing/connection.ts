// The server's end of one connection, as a test scripts it.

import { ROWS, type CatalogueName } from "../catalogue.js";
import type { Requests } from "../client.js";
import type { Retry } from "../retry.js";
import { isFields, type AnswerTo, type Message, type Position, type Ready } from "../wire.js";
import type { Cable, Data, FromPage } from "./cable.js";
import type { TestRooms } from "./rooms.js";

/** RFC 6455 §5.5: what fits into a Close, besides the code. */
const REASON_BYTES = 123;
const BEARER = "saywhy.bearer.";
const READY: Ready = {
  connectionId: undefined,
  user: "alice",
  heartbeatMs: 25_000,
  limits: { messageBytes: 65_536, messagesPerS: 50, messageBurst: 100 },
};

/** What an error says; the catalogue's row has what is left out. */
export interface Words {
  readonly message?: string | undefined;
  readonly retry?: Retry | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly spreadMs?: number | undefined;
  readonly details?: Readonly<Record<string, string | number | boolean>> | undefined;
  readonly requestId?: string | undefined;
  /** The number of a row of your own, which the catalogue does not know. */
  readonly code?: number | undefined;
  /** Of the Close, where it is not the row's. */
  readonly closeCode?: number | undefined;
}

/** The name of a row of the catalogue, or of one of your own. */
export type RowName = CatalogueName | (string & {});

/** The Close that a page said. 1005 is one with nothing in it. */
export interface PageClose {
  readonly code: number;
  readonly reason: string;
}

export type DataOf<T extends string> = T extends keyof Requests ? Requests[T] : unknown;

/** What a page asks for, and what the test answers. */
export interface TestRequest<T extends string = string> {
  readonly id: string | undefined;
  readonly type: T;
  readonly data: DataOf<T>;
  /** Answers as rooms do: with what was missed after a `join`, the message that a `send` makes. With `data`, just that. */
  ok(data?: AnswerTo<T>): void;
  /** Answers with an error that ends nothing. */
  error(name: RowName, words?: Words): void;
}

type Heard = { readonly data: Data; readonly request: TestRequest | undefined };
type Reader = {
  readonly wants: (heard: Heard) => boolean;
  readonly resolve: (heard: Heard) => void;
  readonly reject: (error: Error) => void;
};

/**
 * The server's end of one attempt to connect. It answers a `ping` and a Close by itself, and ends the connection when its own
 * Close is answered; all else is the test's.
 */
export class TestConnection {
  readonly url: string;
  /** The subprotocols on offer. */
  readonly protocols: readonly string[];
  /** What came as `saywhy.bearer.…`. */
  readonly token: string | undefined;
  /** What `ready`, and the last word, call this connection. */
  readonly id: string;
  /** How the page left: with its Close, or `undefined` where the connection ended without one. */
  readonly left: Promise<PageClose | undefined>;

  readonly #rooms: TestRooms;
  readonly #cable: Cable;
  #state: "asked" | "accepted" | "ready" | "closing" | "over" = "asked";
  #protocol = "";
  #user = "";
  #heard: Heard[] = [];
  #readers: Reader[] = [];
  #close: PageClose | undefined;
  #resolveLeft!: (close: PageClose | undefined) => void;

  constructor(rooms: TestRooms, id: string, url: string, protocols: readonly string[], cable: Cable) {
    this.#rooms = rooms;
    this.id = id;
    this.url = url;
    this.protocols = protocols;
    this.token = protocols.find((one) => one.startsWith(BEARER))?.slice(BEARER.length);
    this.left = new Promise((resolve) => (this.#resolveLeft = resolve));
    this.#cable = cable;
    cable.server = (said) => this.#hear(said);
  }

  /** Whether the page, or the server, has not ended it. */
  get isOpen(): boolean {
    return this.#state === "accepted" || this.#state === "ready";
  }

  // ---- the handshake -------------------------------------------------------------------------------------------------

  /**
   * Answers with 101, by default selecting the first subprotocol that is no token. With none, where some were offered, a
   * browser fails the connection by itself.
   */
  accept({ protocol = this.protocols.find((one) => !one.startsWith(BEARER)) ?? "" }: { readonly protocol?: string } = {}): void {
    this.#mustBe(this.#state === "asked", "it has had its answer already");
    this.#state = "accepted";
    this.#protocol = protocol;
    this.#cable.toPage({ type: "accepted", protocol });
  }

  /** Answers with a status other than 101, or with nothing: a page sees an error and 1006, whatever it was. */
  refuseHandshake(): void {
    this.#mustBe(this.#state === "asked", "it has had its answer already");
    this.#over();
    this.#cable.toPage({ type: "refused" });
  }

  /** Refuses as a Saywhy server does: accepts, says why, and closes. */
  refuse(name: RowName, words: Words = {}): void {
    this.#mustBe(this.#state !== "ready", "it is ready, so it cannot be refused any more: end() it");
    this.end(name, words);
  }

  /** Accepts, where that has not been done, and says `ready`. */
  ready(facts: Partial<Ready> = {}): void {
    if (this.#state === "asked") this.accept();
    const { connectionId = this.id, user, heartbeatMs, limits } = { ...READY, ...facts };
    this.#user = user ?? "guest";
    const { messageBytes, messagesPerS, messageBurst } = limits;
    this.say("ready", {
      connection_id: connectionId,
      user,
      heartbeat_ms: heartbeatMs,
      limits: { message_bytes: messageBytes, messages_per_s: messagesPerS, message_burst: messageBurst },
    });
    if (this.#state === "accepted") this.#state = "ready";
  }

  // ---- what the page says --------------------------------------------------------------------------------------------

  /**
   * The next request that was not handed out yet, of that type where one is given. Rejects when the connection ends before
   * there is one.
   */
  async request<T extends string = string>(type?: T): Promise<TestRequest<T>> {
    const { request } = await this.#next(({ request }) => request !== undefined && (type === undefined || request.type === type));
    return request as TestRequest<T>;
  }

  /** The next message that was not handed out yet, as it came, a request or not. */
  async received(): Promise<Data> {
    return (await this.#next(() => true)).data;
  }

  // ---- what the server says ------------------------------------------------------------------------------------------

  /** Says something in a room to this connection alone; `TestServer.message` says it to all that are in it. */
  message(room: string, body: unknown, { from = "bob" }: { readonly from?: string } = {}): Position {
    this.#mustBeOpen();
    return this.#rooms.say(room, body, from, [this.#deliver]);
  }

  /** An error that ends nothing, and answers nothing. */
  error(name: RowName, words: Words = {}): void {
    this.#sayError(name, { requestId: this.id, ...words }, false);
  }

  /** An error that ends the session, and its Close. */
  end(name: RowName, words: Words = {}): void {
    if (this.#state === "asked") this.accept();
    const said = errorData(name, words, true);
    // Under somebody else's subprotocol nobody knows what a message looks like.
    if (this.#speaksSaywhy) this.say("error", said, words.requestId ?? this.id);
    this.close(words.closeCode ?? closeCode(name, said.code), reasonOf(said.message));
  }

  /** The server is about to restart, and says when to come back. The Close is to follow: `restart()` does both. */
  goodbye(words: Words = {}): void {
    this.say("goodbye", errorData("service_restart", words, true), words.requestId ?? this.id);
  }

  /** As a server drains: a `goodbye` that says when to come back, and Close 1012. */
  restart(words: Words = {}): void {
    const said = errorData("service_restart", words, true);
    if (this.#speaksSaywhy) this.goodbye(words);
    this.close(words.closeCode ?? said.code, reasonOf(said.message));
  }

  /** The token runs out: a client that has where to get tokens from sends `authenticate`. */
  authExpiring(expiresInMs = 30_000): void {
    this.say("auth_expiring", { expires_in_ms: expiresInMs });
  }

  /** A message of any type. */
  say(type: string, data: unknown, requestId?: string): void {
    const meta = { ...(requestId === undefined ? {} : { request_id: requestId }), timestamp: "2030-01-01T00:00:00Z" };
    this.send(JSON.stringify({ type, data, meta }));
  }

  /** Text, or bytes, as they are. */
  send(data: string | Uint8Array<ArrayBuffer>): void {
    this.#mustBeOpen();
    this.#cable.toPage({ type: "message", data: typeof data === "string" ? data : data.slice() });
  }

  /** Says a Close, right or wrong: what a browser does not take is 1006 to the page. */
  close(code?: number, reason: string | Uint8Array<ArrayBuffer> = ""): void {
    this.#mustBeOpen();
    const bytes = typeof reason === "string" ? new TextEncoder().encode(reason) : reason.slice();
    // The head of such a frame is wrong already, and Chromium forgets what it has read together with it.
    if (bytes.length > REASON_BYTES) this.#cable.loseMessages();
    this.#cable.toPage({ type: "close", code, reason: bytes });
    this.#state = "closing";
  }

  // ---- how the network fails -----------------------------------------------------------------------------------------

  /** The connection is cut, without a Close. What was said before still arrives. */
  drop(): void {
    this.#over();
    this.#cable.toPage({ type: "ended" });
  }

  /** Half-open: nothing arrives any more, on either side, and neither is told. */
  freeze(): void {
    this.#cable.freeze();
  }

  /** The end of `freeze()`: what was said meanwhile arrives now. */
  thaw(): void {
    this.#cable.thaw();
  }

  // ---- inside --------------------------------------------------------------------------------------------------------

  readonly #deliver = ({ room, position, from, body }: Message): void => {
    if (this.isOpen) this.say("message", { room, position, from, body });
  };

  #mustBe(isSo: boolean, otherwise: string): void {
    if (!isSo) throw new Error(`${this.id}: ${otherwise}`);
  }

  #mustBeOpen(): void {
    this.#mustBe(this.#state !== "asked", "it has had no answer yet: accept() it first");
    this.#mustBe(this.#state !== "over", "it is over");
  }

  get #speaksSaywhy(): boolean {
    return this.#protocol === "" || this.#protocol === "saywhy.v1";
  }

  #hear(said: FromPage): void {
    if (this.#state === "over") return;
    switch (said.type) {
      case "message":
        return this.#hearMessage(said.data);
      case "close":
        this.#close = { code: said.code ?? 1005, reason: said.reason };
        if (this.#state !== "closing") this.#cable.toPage({ type: "close", code: said.code, reason: new Uint8Array() });
        this.#over();
        return this.#cable.toPage({ type: "ended" });
      case "gone":
        return this.#over();
      default:
        said satisfies never;
    }
  }

  #hearMessage(data: Data): void {
    // RFC 6455 §5.5.1: after our Close nothing is listened to any more, but for the other one.
    if (this.#state === "closing") return;
    const request = this.#requestIn(data);
    if (request?.type === "ping") return this.say("pong", {}, request.id);
    const heard = { data, request };
    const reader = this.#readers.find(({ wants }) => wants(heard));
    if (!reader) return void this.#heard.push(heard);
    this.#readers = this.#readers.filter((other) => other !== reader);
    reader.resolve(heard);
  }

  #next(wants: (heard: Heard) => boolean): Promise<Heard> {
    const found = this.#heard.find(wants);
    if (found) {
      this.#heard = this.#heard.filter((other) => other !== found);
      return Promise.resolve(found);
    }
    if (this.#state === "over") return Promise.reject(new Error(`${this.id}: it is over, and there is nothing more to hear`));
    return new Promise((resolve, reject) => this.#readers.push({ wants, resolve, reject }));
  }

  #over(): void {
    if (this.#state === "over") return;
    this.#state = "over";
    this.#resolveLeft(this.#close);
    for (const { reject } of this.#readers.splice(0)) reject(new Error(`${this.id}: it ended before that was heard`));
  }

  #requestIn(data: Data): TestRequest | undefined {
    if (typeof data !== "string" || !this.#speaksSaywhy) return undefined;
    let envelope: unknown;
    try {
      envelope = JSON.parse(data);
    } catch {
      return undefined;
    }
    if (!isFields(envelope) || typeof envelope["type"] !== "string") return undefined;
    const { type, data: asked = {}, meta } = envelope as { type: string; data?: unknown; meta?: { request_id?: string } };
    const id = meta?.request_id;
    return {
      id,
      type,
      data: asked,
      ok: (answer) => (answer === undefined ? this.#answer(type, asked, id) : this.say("ok", answer, id)),
      error: (name, words) => this.#sayError(name, { requestId: id, ...words }, false),
    };
  }

  /** What a server with rooms answers when there is nothing against it. */
  #answer(type: string, asked: unknown, id: string | undefined): void {
    const { room = "", since, body } = asked as { room?: string; since?: Position; body?: unknown };
    const rooms = this.#rooms;
    const ok = (data: unknown): void => this.say("ok", data, id);
    switch (type) {
      case "join":
        rooms.join(room, this.#deliver);
        ok({ room, position: rooms.top(room), recovered: since !== undefined });
        if (since) for (const message of rooms.after(room, since)) this.#deliver(message);
        return;
      case "leave":
        rooms.leave(room, this.#deliver);
        return ok({ room });
      case "send":
        return ok({ position: rooms.say(room, body, this.#user) });
      case "history":
        return ok({ messages: rooms.after(room, since), position: rooms.top(room) });
      case "members":
        return ok({ members: [this.#user] });
      case "open_room":
      case "close_room":
        return ok({ room });
      case "authenticate":
        return ok({ expires_at: "2030-01-01T01:00:00Z" });
      default:
        return ok(null);
    }
  }

  #sayError(name: RowName, words: Words, fatal: boolean): void {
    this.say("error", errorData(name, words, fatal), words.requestId);
  }
}

function errorData(name: RowName, words: Words, fatal: boolean) {
  const row = ROWS.find((row) => row.name === name);
  const code = words.code ?? row?.code;
  if (code === undefined) throw new TypeError(`the catalogue has no row ${name}: give the code of your own`);
  const retry = words.retry ?? row?.retry ?? "never";
  const isAfter = retry === "after";
  return {
    code,
    name,
    message: words.message ?? row?.message ?? name,
    fatal,
    retry,
    ...(isAfter && { retry_after_ms: words.retryAfterMs ?? row?.retryAfterMs, spread_ms: words.spreadMs ?? row?.spreadMs }),
    ...(words.details && { details: words.details }),
  };
}

/** In the dialect `app`. A row without a code of its own closes with 1008. */
function closeCode(name: RowName, code: number): number {
  const row = ROWS.find((row) => row.name === name);
  return row ? (row.app ?? 1008) : code;
}

/** As a server cuts it: at a character, to 123 bytes; control characters become spaces. */
function reasonOf(message: string): string {
  let reason = message.replace(/[\u0000-\u001f\u007f]/g, " ");
  while (new TextEncoder().encode(reason).length > REASON_BYTES) reason = [...reason].slice(0, -1).join("");
  return reason;
}
