// What went wrong, in one shape, whoever says so.

import { ROWS, type CatalogueName } from "./catalogue.js";
import { rowOf, type Retry } from "./retry.js";
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

/**
 * Who said it: the server's message, its Close, its answer to a plain request that looked into a failure, the network's
 * silence, or this client.
 */
export type ErrorSource = "server" | "close" | "http" | "network" | "client";

/** The Close as the platform reports it. */
export interface Close {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
}

type Facts = Partial<
  Record<"code" | "retryAfterMs" | "closeCode", number | undefined> &
    Record<"requestId" | "help", string | undefined> & { retry: Retry | undefined; fatal: boolean; cause: unknown } & Pick<
      SaywhyError,
      "details"
    >
>;

/** What to do about what only this side can say. */
const HELP: Record<ClientErrorName, string> = {
  connection_lost: "The network, a proxy or the server went away without a Close.",
  closed: "No row of the catalogue stands for this code: what it means is up to the server.",
  aborted: "Your signal fired; its reason is the `cause`.",
  no_answer: "Whether it was done is not known. For requests that take long there is `timeoutMs`.",
  queue_full: "Wait for answers, or for `ready`, before there is more to send.",
  token_unavailable: "The token callback failed; its error is the `cause`.",
  cannot_connect: "The platform's own error, if any, is the `cause`. A page that came over https may connect to wss: only.",
  unnamed: "The error has neither a name nor a code of the catalogue. The operator finds it by `requestId`.",
  bad_answer: "The server is none of this protocol, or of a later version.",
};

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
    this.help = facts.help ?? HELP[name as ClientErrorName] ?? helpOnRow(name);
  }
}

function helpOnRow(name: string): string {
  if (ROWS.some((row) => row.name === name)) return `catalogue/${name}.md`;
  return "A row of the server's own. The operator finds what led to it by `requestId`.";
}

/** What a server said; and how the connection ended with it, if it did, with what the retry contract made of that. */
export function saidByServer(
  said: ServerError,
  ending?: { close: Close | null; retry: Retry },
  { source = "server", help }: { source?: ErrorSource; help?: string } = {},
): SaywhyError {
  const row = rowOf(said);
  return new SaywhyError(said.name ?? row?.name ?? "unnamed", said.message || row?.message || "", source, {
    ...said,
    retry: ending?.retry ?? said.retry ?? row?.retry,
    fatal: said.fatal || ending !== undefined,
    closeCode: ending?.close?.code,
    help,
  });
}

export function badAnswer(type: string): SaywhyError {
  return new SaywhyError("bad_answer", `The server's answer is not what ${type} is answered with`, "client");
}
