// Time that passes when a test says so.

import type { Clock } from "../platform.js";
import { settled } from "./tasks.js";

/** So many timers in one call of `pass` can only be one that sets itself again and again. */
const MOST_TIMERS = 10_000;

interface Timer {
  readonly at: number;
  readonly act: () => void;
}

export class FakeClock implements Clock {
  #now = 0;
  readonly #timers = new Set<Timer>();

  readonly now = (): number => this.#now;

  readonly after = (ms: number, act: () => void): (() => void) => {
    const timer = { at: this.#now + ms, act };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  };

  /** Whether nothing waits for its time. */
  get isIdle(): boolean {
    return this.#timers.size === 0;
  }

  /**
   * Lets time pass, and everything happen that was to happen meanwhile, in its order: timers, what the network brings, and
   * the promises that wait for either. `pass(0)` is what happens now.
   */
  async pass(ms: number): Promise<void> {
    const until = this.#now + ms;
    for (let timers = 0; timers < MOST_TIMERS; timers += 1) {
      await settled();
      const next = this.#next();
      if (!next || next.at > until) return void (this.#now = until);
      this.#now = Math.max(this.#now, next.at);
      this.#timers.delete(next);
      next.act();
    }
    throw new Error(`more than ${MOST_TIMERS} timers within ${ms} ms: does one set itself again and again?`);
  }

  /** Of two that are due at the same time, the one that was set first. */
  #next(): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) if (!first || timer.at < first.at) first = timer;
    return first;
  }
}
