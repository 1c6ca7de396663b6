// What an `AbortSignal` ends.

import { SaywhyError } from "./error.js";

/** Runs `act` when the signal fires, until what this returns is called. */
export function onAbort(signal: AbortSignal | undefined, act: () => void): () => void {
  signal?.addEventListener("abort", act, { once: true });
  return () => signal?.removeEventListener("abort", act);
}

export function aborted(signal: AbortSignal | undefined): SaywhyError {
  return new SaywhyError("aborted", "It was aborted here", "client", { cause: signal?.reason });
}
