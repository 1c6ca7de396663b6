// Why a WebSocket could not be opened, as far as a plain request to the same address tells.
//
// Browsers keep the answer to a handshake to themselves, and Node does too. What a plain GET is answered with is not that
// answer: it brings neither the token nor the cookies, and asks for no WebSocket. So what is about who asks, or about the
// method, is passed on as help and decides nothing. What everybody is told is believed: that it is too much, that the
// server is down, and whatever comes as a problem document of this protocol.

import { ROWS } from "./catalogue.js";
import { isFields, readError, type ServerError } from "./wire.js";

/** What was found out. */
export interface Diagnosis {
  /** What the server says to everybody, if it does: this is the refusal then. */
  readonly said?: ServerError | undefined;
  /** For the developer. */
  readonly help: string;
}

/** Looks into a connection that could not be made. A promise that is rejected found out nothing. */
export type Diagnose = (url: string, signal: AbortSignal) => Promise<Diagnosis>;

/** Names, by the HTTP status in which servers that know nothing of this protocol say the same. */
const NAMES: Readonly<Record<number, string>> = { 429: "rate_limited", 502: "bad_gateway", 503: "overloaded", 504: "gateway_timeout" };

/** Asks with a plain GET. For `connect(url, { diagnose })`; with a `fetch` of your own, `(...args) => diagnose(...args, fetch)`. */
export async function diagnose(url: string, signal: AbortSignal, fetch = globalThis.fetch): Promise<Diagnosis> {
  const options: RequestInit = { signal, cache: "no-store", credentials: "omit", redirect: "manual" };
  let response: Response;
  try {
    response = await fetch(url.replace(/^ws/, "http"), options);
  } catch (error) {
    if (signal.aborted) throw error;
    return { help: "A plain GET fails as well: nobody answers there, or the answer is kept from this page by CORS." };
  }
  const { status } = response;
  const answer = `A plain GET is answered with ${status || "a redirect"}`;
  if (status === 426) {
    void response.body?.cancel();
    return { help: `${answer}: there is a WebSocket server, and it refused the handshake, or the way to it cannot be upgraded.` };
  }
  const problem = await readProblem(response);
  const isAboutWho = status === 401 || status === 403;
  if (isAboutWho) return { help: `${answer}. It had neither token nor cookies, so this need not be why.` };
  const said = problem ?? (status === 429 || status >= 500 ? readStatus(response) : undefined);
  if (said) return { said, help: `${answer}.` };
  return { help: `${answer}: is there a WebSocket server at this address?` };
}

async function readProblem(response: Response): Promise<ServerError | undefined> {
  if (!response.headers.get("content-type")?.startsWith("application/problem+json")) {
    void response.body?.cancel();
    return undefined;
  }
  const problem: unknown = await response.json().catch(() => undefined);
  if (!isFields(problem)) return undefined;
  const { detail, title, request_id } = problem;
  const said = readError({ ...problem, message: detail ?? title }, typeof request_id === "string" ? request_id : undefined);
  // RFC 9457 alone says nothing about trying again.
  return said.name === undefined && said.code === undefined ? undefined : said;
}

function readStatus({ status, headers }: Response): ServerError {
  const name = NAMES[status] ?? "internal_error";
  const row = ROWS.find((row) => row.name === name);
  const seconds = headers.get("retry-after") ?? "";
  const isAfter = /^\d+$/.test(seconds);
  return {
    ...readError({ code: row?.code, name }),
    ...(isAfter ? { retry: "after", retryAfterMs: Number(seconds) * 1_000, spreadMs: 1_000 } : {}),
    details: { http_status: status },
  };
}
