// The one place where what a server sends becomes something that has a type. Unknown fields are ignored; what is not
// as the protocol has it is `other`, and never half believed.

import type { Retry } from "./retry.js";

/** A place in the log of a room. To be kept whole and handed back; nobody has to look into it. */
export interface Position {
  readonly epoch: string;
  readonly offset: number;
  readonly tag: string;
}

/** What was said in a room. */
export interface Message {
  readonly room: string;
  readonly position: Position;
  readonly from: string;
  readonly body: unknown;
  /** When it was said: RFC 3339. */
  readonly timestamp: string | undefined;
}

/** What the server said of a session when it opened it. */
export interface Ready {
  readonly connectionId: string | undefined;
  readonly user: string | undefined;
  /** 0 where there are no heartbeats. */
  readonly heartbeatMs: number;
  /** 0 where there is no limit. */
  readonly limits: {
    readonly messageBytes: number;
    readonly messagesPerS: number;
    readonly messageBurst: number;
  };
}

/** `data` of an `error` or a `goodbye`, and the id that it came with. */
export interface ServerError {
  readonly code: number | undefined;
  readonly name: string | undefined;
  readonly message: string;
  readonly fatal: boolean;
  readonly retry: Retry | undefined;
  readonly retryAfterMs: number | undefined;
  readonly spreadMs: number | undefined;
  readonly details: Readonly<Record<string, unknown>>;
  readonly requestId: string | undefined;
}

/** What requests are answered with, where this client knows the request. */
export interface Answers {
  join: { readonly room: string; readonly position: Position; readonly members?: readonly string[]; readonly recovered: boolean };
  leave: { readonly room: string };
  send: { readonly position: Position };
  history: { readonly messages: readonly Message[]; readonly position: Position };
  members: { readonly members: readonly string[] };
  open_room: { readonly room: string };
  close_room: { readonly room: string };
  authenticate: { readonly expires_at: string };
}

export type AnswerTo<T extends string> = T extends keyof Answers ? Answers[T] : unknown;

/** What a server sends of its own accord about a room. */
export type RoomNews = "room_closed" | "room_opened" | "degraded" | "restored";

export type Incoming =
  | { readonly type: "ready"; readonly ready: Ready }
  | { readonly type: "ok"; readonly requestId: string; readonly data: unknown }
  | { readonly type: "error" | "goodbye"; readonly said: ServerError }
  | { readonly type: "pong" }
  | { readonly type: "message"; readonly message: Message }
  | { readonly type: "joined" | "left"; readonly room: string; readonly member: string }
  | { readonly type: RoomNews; readonly room: string }
  | { readonly type: "auth_expiring"; readonly expiresInMs: number }
  | { readonly type: "other"; readonly name: string | undefined; readonly data: unknown };

type Fields = Readonly<Record<string, unknown>>;

/** Reads what came in one message of the socket. */
export function read(received: unknown): Incoming {
  const envelope = isText(received) ? parsed(received) : received;
  const other = (name?: string, data: unknown = received): Incoming => ({ type: "other", name, data });
  if (!isFields(envelope) || !isText(envelope.type)) return other();
  const { type, data: anyData } = envelope as { type: string; data: unknown };
  const data = isFields(anyData) ? anyData : {};
  const meta = isFields(envelope.meta) ? envelope.meta : {};
  const requestId = text(meta.request_id);
  const { room } = data;
  switch (type) {
    case "ready":
      return { type, ready: readReady(data) };
    case "ok":
      return requestId === undefined ? other(type, anyData) : { type, requestId, data: anyData ?? null };
    case "error":
    case "goodbye":
      return { type, said: readError(data, requestId) };
    case "pong":
      // To a `ping` that somebody asked for by id.
      return requestId === undefined ? { type } : { type: "ok", requestId, data };
    case "message": {
      const message = readMessage(data, text(meta.timestamp));
      return message ? { type, message } : other(type, anyData);
    }
    case "joined":
    case "left": {
      const { member } = data;
      return isText(room) && isText(member) ? { type, room, member } : other(type, anyData);
    }
    case "room_closed":
    case "room_opened":
    case "degraded":
    case "restored":
      return isText(room) ? { type, room } : other(type, anyData);
    case "auth_expiring":
      return { type, expiresInMs: count(data.expires_in_ms) ?? 0 };
    default:
      return other(type, anyData);
  }
}

/**
 * Reads `data` of the `ok` to a request of that type; `undefined` when it is not what the protocol has there. What an
 * application answers to requests of its own is left as it is.
 */
export function readAnswer<T extends string>(type: T, data: unknown): AnswerTo<T> | undefined;
export function readAnswer(type: string, data: unknown): unknown {
  const { room, messages, members, recovered, expires_at, position: place }: Fields = isFields(data) ? data : {};
  const position = readPosition(place);
  switch (type as keyof Answers) {
    case "join":
      if (!isText(room) || !position) return undefined;
      return { room, position, recovered: recovered === true, ...(isTexts(members) ? { members } : {}) };
    case "leave":
    case "open_room":
    case "close_room":
      return isText(room) ? { room } : undefined;
    case "send":
      return position && { position };
    case "history": {
      const all = Array.isArray(messages) ? messages.map((one) => (isFields(one) ? readMessage(one) : undefined)) : [undefined];
      return position && all.every((one) => one !== undefined) ? { messages: all, position } : undefined;
    }
    case "members":
      return isTexts(members) ? { members } : undefined;
    case "authenticate":
      return isText(expires_at) ? { expires_at } : undefined;
    default:
      return data;
  }
}

/** The text of a request; `data` is JSON already. */
export function write(type: string, data: string, requestId?: string): string {
  const meta = requestId === undefined ? "" : `,"meta":${JSON.stringify({ request_id: requestId })}`;
  return `{"type":${JSON.stringify(type)},"data":${data}${meta}}`;
}

export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function readPosition(value: unknown): Position | undefined {
  if (!isFields(value)) return undefined;
  const { epoch, tag } = value;
  const offset = count(value["offset"]);
  return isText(epoch) && isText(tag) && offset !== undefined ? { epoch, offset, tag } : undefined;
}

export function readError(data: Fields, requestId?: string): ServerError {
  const { code, message, fatal, retry, details } = data;
  return {
    code: count(code),
    name: text(data.name),
    message: text(message) ?? "",
    fatal: fatal === true,
    retry: isRetry(retry) ? retry : undefined,
    retryAfterMs: count(data.retry_after_ms),
    spreadMs: count(data.spread_ms),
    details: isFields(details) ? details : {},
    requestId,
  };
}

function readReady(data: Fields): Ready {
  const limits = isFields(data.limits) ? data.limits : {};
  return {
    connectionId: text(data.connection_id),
    user: text(data.user),
    heartbeatMs: count(data.heartbeat_ms) ?? 0,
    limits: {
      messageBytes: count(limits.message_bytes) ?? 0,
      messagesPerS: count(limits.messages_per_s) ?? 0,
      messageBurst: count(limits.message_burst) ?? 0,
    },
  };
}

function readMessage(data: Fields, timestamp = text(data.timestamp)): Message | undefined {
  const { room, from, body } = data;
  const position = readPosition(data.position);
  return isText(room) && isText(from) && position ? { room, position, from, body, timestamp } : undefined;
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

/** An unknown word counts as absent: it is a later version's. */
function isRetry(value: unknown): value is Retry {
  switch (value as Retry) {
    case "never":
    case "now":
    case "backoff":
    case "after":
    case "reauthenticate":
      return true;
    default:
      return false;
  }
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(isText);
}

function text(value: unknown): string | undefined {
  return isText(value) ? value : undefined;
}

/** A whole number from 0: a time, a code, an offset. */
function count(value: unknown): number | undefined {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;
}
