// One room, as this client has heard it: every message once and in order, whatever reconnects.
//
// A seat moves forward by the messages that were taken, never by what a join is answered with: after a resume, the
// messages up to there are still under way. One that does not follow on the last is not taken; what is missing is asked
// for by joining from there once more.

import type { Position } from "./wire.js";

/**
 * What to do with a message: take it; pass it over; pass it over and join again from where one is; or take it though
 * messages before it are lost.
 */
export type Verdict = "take" | "skip" | "repair" | "lost";

export class Seat {
  /** Of the last message that was taken; `undefined` until there is a place to go on from. */
  position: Position | undefined;
  /** Whether a join was ever answered with `ok`: only then is it this client's business to come back. */
  isGranted = false;
  /** The join that is under way: from now on, or from `position`. */
  #join: "fresh" | "resume" | undefined;
  /** Where the log was when the last resume was granted: up to there messages are on their way. */
  #top: Position | undefined;
  /** Messages had to be passed over because nobody reads. */
  #isBehind = false;
  /** The server has said that it lost entries, so the next message need not follow. */
  #mayJump = false;
  /** Where a gap was found last. A server that leaves it when asked again has lost what was there. */
  #gapAt: Position | undefined;

  /** A join is being sent. */
  joining(since?: Position): void {
    this.#join = since ? "resume" : "fresh";
    this.position = since ?? this.position;
    this.#top = undefined;
    this.#isBehind = false;
  }

  joined(position: Position): void {
    if (this.#join === "resume") this.#top = position;
    // Messages may come ahead of the answer.
    else if (this.position?.epoch !== position.epoch || this.position.offset < position.offset) this.position = position;
    this.#join = undefined;
    this.isGranted = true;
  }

  /** The join was not even looked at, which changes nothing. */
  notJoined(): void {
    this.#join = undefined;
  }

  /** The server lost entries, and one is still in the room. */
  mayJump(): void {
    this.#mayJump = true;
  }

  /** Messages were passed over, and can be asked for now. */
  get isBehind(): boolean {
    return this.#isBehind && this.#join === undefined;
  }

  /** Decides about the message at a position. Without space for it, it is asked for again later. */
  receive(position: Position, hasSpace: boolean): Verdict {
    if (this.#isBehind) return "skip";
    const verdict = this.#judge(position);
    if (verdict === "repair") this.#gapAt = this.position;
    if (verdict === "skip" || verdict === "repair") return verdict;
    if (!hasSpace) {
      this.#isBehind = true;
      return "skip";
    }
    this.position = position;
    this.#mayJump = false;
    return verdict;
  }

  #judge({ epoch, offset }: Position): Verdict {
    const last = this.position;
    const mayBeAnything = last === undefined || this.#join === "fresh" || this.#mayJump;
    if (last?.epoch !== epoch) return mayBeAnything ? "take" : "lost";
    if (offset <= last.offset) return "skip";
    if (offset === last.offset + 1 || mayBeAnything) return "take";
    // Sent before the join that is being answered: it comes once more, in its turn.
    const comesAgain = this.#join === "resume" || (this.#top?.epoch === epoch && offset <= this.#top.offset);
    if (comesAgain) return "skip";
    return this.#gapAt === last ? "lost" : "repair";
  }
}
