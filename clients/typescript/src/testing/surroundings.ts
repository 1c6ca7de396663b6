// What is around a client: a network that comes and goes, a page that is hidden and shown.

import type { Network, Page } from "../platform.js";

export class FakeNetwork implements Network {
  #isOnline = true;
  readonly #listeners = new Set<() => void>();

  readonly isOnline = (): boolean => this.#isOnline;

  readonly onOnline = (act: () => void): (() => void) => listen(this.#listeners, act);

  /** No attempt gets through from now on. Open connections notice nothing by themselves: `freeze()` or `drop()` them. */
  goOffline(): void {
    this.#isOnline = false;
  }

  goOnline(): void {
    this.#isOnline = true;
    tell(this.#listeners);
  }
}

export class FakePage implements Page {
  #isHidden = false;
  readonly #listeners = new Set<() => void>();

  readonly isHidden = (): boolean => this.#isHidden;

  readonly onChange = (act: () => void): (() => void) => listen(this.#listeners, act);

  hide(): void {
    this.#isHidden = true;
    tell(this.#listeners);
  }

  show(): void {
    this.#isHidden = false;
    tell(this.#listeners);
  }
}

function listen(listeners: Set<() => void>, act: () => void): () => void {
  // A function of its own: the same one may be added twice, and be taken away once.
  const own = (): void => act();
  listeners.add(own);
  return () => void listeners.delete(own);
}

function tell(listeners: Set<() => void>): void {
  for (const act of [...listeners]) act();
}
