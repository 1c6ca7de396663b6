// Runs one side of one failure and says what the page got to know.

import { mintToken, offer } from "./server.js";
import { openForeign, openSocket } from "./witness.js";
import { outcomeOf } from "./words.js";

/**
 * @param {"usual"|"saywhy"} side
 * @returns the outcome, or `null` when `signal` ended the trial early
 */
export async function runTrial(failure, side, info, signal, onEvent) {
  const events = [];
  const witnesses = [];
  const record = (event) => {
    if (signal.aborted) return;
    events.push(event);
    onEvent(event);
  };
  const observed = (witness) => {
    witnesses.push(witness);
    return witness;
  };
  // A name of its own for each trial, so that two visitors do not replace one another.
  const guest = `guest-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
  const trial = {
    info,
    offer,
    token: (options) => mintToken(guest, options),
    open: (path, protocols) => observed(openSocket(path, protocols, signal, record)),
    foreign: (path) => observed(openForeign(path, signal, record)),
    /** A socket whose events are not part of the story. */
    aside: (path, protocols) => observed(openSocket(path, protocols, signal, () => {})),
    over: () => signal.aborted,
    pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  };
  const run = side === "usual" ? failure.usual.run : failure.saywhy;
  try {
    await Promise.race([run(trial), aborted(signal)]);
  } catch (error) {
    record({ at: events.at(-1)?.at ?? 0, kind: "trouble", text: error.message });
  }
  for (const witness of witnesses) witness.leave();
  return signal.aborted ? null : outcomeOf(events);
}

function aborted(signal) {
  return new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
}
