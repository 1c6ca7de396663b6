// Requests on their way to the server: what waits, what waits for its answer, and what becomes of either when the
// connection ends. Bounded in number and in bytes; nothing is dropped without an answer.

import { SaywhyError } from "./error.js";
import { write, isFields, readPosition, type Position } from "./wire.js";

const LIMIT = 256;
const LIMIT_BYTES = 1_048_576;
/** For so long a server knows an idempotency key. */
const KEY_MS = 300_000;

/** What a request is answered with. */
export type Reply<T = unknown> =
  | { readonly ok: true; readonly data: T }
  /** Recoverable as long as `error.fatal` is false: still connected. */
  | { readonly ok: false; readonly error: SaywhyError };

export class Request {
  readonly text: string;
  readonly bytes: number;
  /** The room, and the place in it, that a `join`, `leave` or `send` names. */
  readonly room: string | undefined;
  readonly since: Position | undefined;
  readonly reply: Promise<Reply>;
  sentAtMs: number | undefined;
  isSettled = false;
  #resolve!: (reply: Reply) => void;

  /** Throws a `TypeError` on data that is no JSON. What the caller does to `data` afterwards changes nothing. */
  constructor(
    readonly id: string,
    readonly type: string,
    data: unknown,
  ) {
    const fields = isFields(data) ? data : {};
    // The same request may have to be sent again, when its answer is lost; the key makes it one message.
    const isKeyed = type === "send" && fields.idempotency_key === undefined;
    const json = JSON.stringify(isKeyed ? { ...fields, idempotency_key: id } : data) ?? "{}";
    this.text = write(type, json, id);
    this.bytes = new TextEncoder().encode(this.text).length;
    this.room = typeof fields.room === "string" ? fields.room : undefined;
    this.since = readPosition(fields.since);
    this.reply = new Promise((resolve) => (this.#resolve = resolve));
  }

  settle(reply: Reply): void {
    this.isSettled = true;
    this.#resolve(reply);
  }

  fail(error: SaywhyError): void {
    this.settle({ ok: false, error });
  }

  /** Whether it does no harm to send it a second time. */
  mayRepeat(nowMs: number): boolean {
    if (this.type === "send") return nowMs - (this.sentAtMs ?? nowMs) < KEY_MS;
    return this.type === "join";
  }
}

export class Outgoing {
  #waiting: Request[] = [];
  #sent = new Set<Request>();
  #bytes = 0;

  /** False when there is no place for it. */
  add(request: Request): boolean {
    if (this.#waiting.length + this.#sent.size >= LIMIT || this.#bytes + request.bytes > LIMIT_BYTES) return false;
    this.#bytes += request.bytes;
    this.#waiting.push(request);
    return true;
  }

  /** The next one to send. */
  get next(): Request | undefined {
    return this.#waiting[0];
  }

  /** The next one is being sent. */
  sent(nowMs: number): void {
    const request = this.#waiting.shift();
    if (!request) return;
    request.sentAtMs ??= nowMs;
    this.#sent.add(request);
  }

  /** It was answered, or nobody waits for it any more. */
  remove(request: Request): void {
    const before = this.#waiting.length + this.#sent.size;
    this.#sent.delete(request);
    this.#waiting = this.#waiting.filter((other) => other !== request);
    if (this.#waiting.length + this.#sent.size < before) this.#bytes -= request.bytes;
  }

  /** The connection is gone: what may be sent again waits in front, in its old order. Returns what may not. */
  rewind(nowMs: number): Request[] {
    const sent = [...this.#sent];
    this.#waiting.unshift(...sent.filter((request) => request.mayRepeat(nowMs)));
    this.#sent.clear();
    const lost = sent.filter((request) => !request.mayRepeat(nowMs));
    for (const request of lost) this.#bytes -= request.bytes;
    return lost;
  }

  /** Empties it. */
  takeAll(): Request[] {
    const all = [...this.#sent, ...this.#waiting];
    this.#waiting = [];
    this.#sent.clear();
    this.#bytes = 0;
    return all;
  }
}
