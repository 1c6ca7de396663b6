// When to connect again: the client's side of the retry contract, without clock, randomness or socket.
//
// One machine per logical connection. It is fed what happens and answers what to do. `·` is no answer.
//
// | fed                       | waiting (at first) | live                   | renewing         | over |
// |---------------------------|--------------------|------------------------|------------------|------|
// | started                   | live               | live, a new one        | live             | ·    |
// | open, error not fatal     | ·                  | ·                      | ·                | ·    |
// | ready                     | ·                  | notes the first time   | ·                | ·    |
// | error fatal, goodbye      | ·                  | notes the last of each | ·                | ·    |
// | ended                     | ·                  | see below              | ·                | ·    |
// | token_renewed             | ·                  | ·                      | waiting / wait 0 | ·    |
// | token_failed              | ·                  | ·                      | waiting / wait B | ·    |
//
// On `ended` the first of these decides: the last fatal message, the last goodbye, the close code's row, its class. First
// and again are counted since the last session that was ready for 5 s; n is the number of endings since then.
//
// | it asks for    | first                                                | again                    |
// |----------------|------------------------------------------------------|--------------------------|
// | never          | over / give up                                       |                          |
// | now            | waiting / wait 0                                     | waiting / wait B         |
// | backoff        | waiting / wait B = U(0, min(30 s, 1 s × 2ⁿ⁻¹))       | waiting / wait B         |
// | after          | waiting / wait A = delay + U(0, spread), at most 1 h | waiting / wait max(A, B) |
// | reauthenticate | renewing / reauthenticate                            | over / give up           |
//
// conformance/retry.json has all this as test vectors.

import { ROWS, type CatalogueName, type Row } from "./catalogue.js";

const BACKOFF_BASE_MS = 1_000;
const BACKOFF_CAP_MS = 30_000;
/** No server can ask for more, its spread included. */
const AFTER_CAP_MS = 3_600_000;
/** For how long a session has to be ready before the attempts that led to it are forgotten. */
const LASTING_MS = 5_000;
/** What `after` waits, and spreads over, when it comes without a number. */
const AFTER_MS = 1_000;

/** What to do about an error: the word that a server says, or that the catalogue has for it. */
export type Retry = Row["retry"];

/** What an `error` or a `goodbye` says about trying again, as far as it does. */
export interface Said {
  readonly code?: number | undefined;
  readonly name?: string | undefined;
  readonly retry?: Retry | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly spreadMs?: number | undefined;
}

/** Who decided, and what they asked for, which need not be what is done: the second `now` waits. */
export interface Because {
  readonly source: "message" | "goodbye" | "close_code" | "class";
  readonly code: number | undefined;
  readonly row: CatalogueName | null;
  readonly retry: Retry;
}

export type RetryEvent =
  /** An attempt to connect began. What the connection before it was told is forgotten. */
  | { readonly type: "started" }
  /** The opening handshake succeeded, which proves nothing: refusals come after it. */
  | { readonly type: "open" }
  | { readonly type: "ready" }
  | { readonly type: "error"; readonly said: Said; readonly fatal: boolean }
  | { readonly type: "goodbye"; readonly said: Said }
  /** The connection ended or never came to be; `code` is what a browser reports. */
  | { readonly type: "ended"; readonly code: number }
  | { readonly type: "token_renewed" }
  | { readonly type: "token_failed" };

export type Decision =
  /** Connect after a delay. `attempt` counts from 1, and starts anew once a session lasted. */
  | { readonly do: "wait"; readonly delayMs: number; readonly attempt: number; readonly because: Because }
  /** Get a new token, then feed `token_renewed` or `token_failed`. */
  | { readonly do: "reauthenticate"; readonly because: Because }
  /** Never connect again. Nothing is answered from now on. */
  | { readonly do: "give_up"; readonly because: Because };

/** A policy with its numbers, and where it came from. */
interface Asked {
  readonly because: Because;
  readonly delayMs: number;
  readonly spreadMs: number;
}

type State =
  | { readonly is: "waiting" | "over" }
  | { readonly is: "renewing"; readonly because: Because }
  | { readonly is: "live"; readyAt?: number; fatal?: Asked; goodbye?: Asked };

/** Decides whether and when a client connects again. */
export class RetryMachine {
  #state: State = { is: "waiting" };
  /** Endings since a session lasted. */
  #attempt = 0;
  /** What was granted since then; each is granted once. */
  #spent = new Set<Retry>();

  /** Takes note of an event, and answers when there is something to decide. `random` is in [0, 1), new with each call. */
  handle(nowMs: number, event: RetryEvent, random: number): Decision | undefined {
    const state = this.#state;
    if (state.is === "over") return undefined;
    switch (event.type) {
      case "started":
        this.#state = { is: "live" };
        return undefined;
      case "open":
        return undefined;
      case "ready":
        if (state.is === "live") state.readyAt ??= nowMs;
        return undefined;
      case "error":
      case "goodbye": {
        const isGoodbye = event.type === "goodbye";
        if (state.is !== "live" || !(isGoodbye || event.fatal)) return undefined;
        // Words that say nothing about trying again leave the ones before.
        const asked = understood(isGoodbye ? "goodbye" : "message", event.said);
        if (asked) state[isGoodbye ? "goodbye" : "fatal"] = asked;
        return undefined;
      }
      case "ended":
        if (state.is !== "live") return undefined;
        if (state.readyAt !== undefined && nowMs - state.readyAt >= LASTING_MS) {
          this.#attempt = 0;
          this.#spent.clear();
        }
        this.#attempt += 1;
        return this.#decide(state.fatal ?? state.goodbye ?? meaning(event.code), random);
      case "token_renewed":
        return state.is === "renewing" ? this.#wait(0, state.because) : undefined;
      case "token_failed":
        return state.is === "renewing" ? this.#wait(this.#backoff(random), state.because) : undefined;
      default:
        return event satisfies never;
    }
  }

  #decide({ because, delayMs, spreadMs }: Asked, random: number): Decision {
    const { retry } = because;
    const isFirst = !this.#spent.has(retry);
    this.#spent.add(retry);
    const backoff = this.#backoff(random);
    switch (retry) {
      case "never":
        return this.#giveUp(because);
      case "now":
        return this.#wait(isFirst ? 0 : backoff, because);
      case "backoff":
        return this.#wait(backoff, because);
      case "after": {
        // The spread is what is cut, not the sum: else a crowd that was told "within a day" comes back in one instant.
        const delay = Math.min(delayMs, AFTER_CAP_MS);
        const after = delay + part(Math.min(spreadMs, AFTER_CAP_MS - delay), random);
        // A server that says "in 0 s" each time must not be stormed either.
        return this.#wait(isFirst ? after : Math.max(after, backoff), because);
      }
      case "reauthenticate":
        if (!isFirst) return this.#giveUp(because);
        this.#state = { is: "renewing", because };
        return { do: "reauthenticate", because };
      default:
        return retry satisfies never;
    }
  }

  #backoff(random: number): number {
    return part(Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** (this.#attempt - 1)), random);
  }

  #wait(delayMs: number, because: Because): Decision {
    this.#state = { is: "waiting" };
    return { do: "wait", delayMs, attempt: this.#attempt, because };
  }

  #giveUp(because: Because): Decision {
    this.#state = { is: "over" };
    return { do: "give_up", because };
  }
}

function part(ms: number, random: number): number {
  return Math.floor(random * ms);
}

/** `undefined` when neither the words nor the catalogue say anything about trying again. */
function understood(source: "message" | "goodbye", said: Said): Asked | undefined {
  const row = rowOf(said);
  const retry = said.retry ?? row?.retry;
  if (retry === undefined) return undefined;
  const because: Because = { source, code: said.code, row: row?.name ?? null, retry };
  if (said.retry === undefined && row) return { because, delayMs: row.retryAfterMs, spreadMs: row.spreadMs };
  if (said.retryAfterMs === undefined) return { because, delayMs: AFTER_MS, spreadMs: AFTER_MS };
  return { because, delayMs: said.retryAfterMs, spreadMs: said.spreadMs ?? 0 };
}

/** The row that a message speaks of. An unknown name is somebody else's row, whatever its code is here. */
export function rowOf({ name, code }: Said): Row | undefined {
  return ROWS.find((row) => (name === undefined ? row.code === code : row.name === name));
}

/** The row that a close code stands for. `iana` adds the registered codes to those of `app`. */
export function rowOfClose(code: number): Row | undefined {
  return ROWS.find((row) => row.app === code) ?? ROWS.find((row) => row.iana === code);
}

/** What a Close means by itself. Who does not know a private code must not take it for "come again". */
function meaning(code: number): Asked {
  const row = rowOfClose(code);
  if (row) {
    const because: Because = { source: "close_code", code, row: row.name, retry: row.retry };
    return { because, delayMs: row.retryAfterMs, spreadMs: row.spreadMs };
  }
  const isFinal = code === 1000 || (code >= 4000 && code <= 4999);
  return { because: { source: "class", code, row: null, retry: isFinal ? "never" : "backoff" }, delayMs: 0, spreadMs: 0 };
}
