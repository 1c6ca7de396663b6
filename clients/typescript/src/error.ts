// What went wrong, in one shape, whoever says so.

import { ROWS, type CatalogueName } from "./catalogue.js";
import { rowOfClose, type Retry } from "./retry.js";
import type { ServerError } from "./wire.js";

/** What only this side can say. */
export type ClientErrorName =
  /** The network's: there was no Close, or no connection at all. */
  | "connection_lost"
  /** A Close that no row of the catalogue stands for; or `close()` was called. */
  | "closed"
  /** An `AbortSignal` fired. */
  | "aborted"
  /** No answer came within `timeoutMs`. */
  | "no_answer"
  /** More waits to be sent, or answered, than is kept. */
  | "queue_full"
  /** The token callback failed. */
  | "token_unavailable"
  /** The platform would not even try, as with a token that is no legal subprotocol. */
  | "cannot_connect"
  /** The server's error has neither a name nor a number that the catalogue knows. */
  | "unnamed"
  /** The server's answer is not what such a request is answered with. */
  | "bad_answer";

/** The name of an error. A server may have rows of its own. */
export type ErrorName = CatalogueName | ClientErrorName | (string & {});

/** Who said it: the server's message, its Close, the network's silence, or this client. */
export type ErrorSource = "server" | "close" | "network" | "client";

/** The Close as the platform reports it. */
export interface Close {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
}

type Facts = Partial<
  Pick<SaywhyError, "code" | "retry" | "retryAfterMs" | "fatal" | "requestId" | "closeCode" | "details" | "help">
> & { readonly cause?: unknown };

/** A refusal, a recoverable error or an ending, and what to do about it. */
export class SaywhyError extends Error {
  /** Stable, and what people search for: `unauthorized`, `not_found`, `connection_lost`. */
  override readonly name: ErrorName;
  readonly source: ErrorSource;
  /** The catalogue's number, or that of the Close; `undefined` where this client speaks. */
  readonly code: number | undefined;
  readonly retry: Retry;
  /** With `retry` `after`: how long to wait at least. */
  readonly retryAfterMs: number | undefined;
  /** Whether the connection ended with it. */
  readonly fatal: boolean;
  /** What the operator finds it by. */
  readonly requestId: string | undefined;
  /** The close code as the platform reported it, 1006 too, where it did. */
  readonly closeCode: number | undefined;
  readonly details: Readonly<Record<string, unknown>>;
  /** For the developer: what to do about it, or the page of the project that says so. */
  readonly help: string;

  constructor(name: ErrorName, message: string, source: ErrorSource, facts: Facts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = name;
    this.source = source;
    this.code = facts.code;
    this.retry = facts.retry ?? "never";
    this.retryAfterMs = facts.retryAfterMs;
    this.fatal = facts.fatal ?? false;
    this.requestId = facts.requestId;
    this.closeCode = facts.closeCode;
    this.details = facts.details ?? {};
    this.help = facts.help ?? (ROWS.some((row) => row.name === name) ? `catalogue/${name}.md` : "");
  }
}

/** What a server said; and how the connection ended with it, if it did, with what the retry contract made of that. */
export function saidByServer(said: ServerError, ending?: { close: Close | null; retry: Retry }): SaywhyError {
  const row = ROWS.find((row) => (said.name === undefined ? row.code === said.code : row.name === said.name));
  return new SaywhyError(said.name ?? row?.name ?? "unnamed", said.message || row?.message || "", "server", {
    code: said.code,
    retry: ending?.retry ?? said.retry ?? row?.retry ?? "never",
    retryAfterMs: said.retryAfterMs,
    fatal: said.fatal || ending !== undefined,
    requestId: said.requestId,
    closeCode: ending?.close?.code,
    details: said.details,
  });
}

/** What can be known of an ending before which nothing was said. */
export function saidByClose(close: Close, retry: Retry, wasReady: boolean): SaywhyError {
  const { code, reason } = close;
  if (code === 1006 || code === 1015) {
    const message = wasReady ? "The connection was lost" : "No connection could be made";
    const help = wasReady
      ? "The network, a proxy or the server went away without a Close."
      : "Browsers report a handshake that was refused, a server that is down and a cable that was cut in the same way. " +
        "Look at the network panel, at the server's log, or ask the same URL with curl.";
    return new SaywhyError("connection_lost", message, "network", { code, retry, fatal: true, closeCode: code, help });
  }
  const row = rowOfClose(code);
  const message = reason || row?.message || `The server closed the connection (${code})`;
  const retryAfterMs = retry === "after" ? row?.retryAfterMs : undefined;
  return new SaywhyError(row?.name ?? "closed", message, "close", { code, retry, retryAfterMs, fatal: true, closeCode: code });
}

export function badAnswer(type: string): SaywhyError {
  return new SaywhyError("bad_answer", `The server's answer is not what ${type} is answered with`, "client");
}
