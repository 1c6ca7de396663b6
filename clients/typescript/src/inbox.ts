// Messages on their way to whoever reads them with `for await`.

import type { Message } from "./wire.js";

const LIMIT = 1_024;

export class Inbox {
  #messages: Message[] = [];
  #readers: ((result: IteratorResult<Message, undefined>) => void)[] = [];
  #isOver = false;
  readonly #onSpace: () => void;

  /** `onSpace` runs when an inbox that was full is half empty again. */
  constructor(onSpace: () => void) {
    this.#onSpace = onSpace;
  }

  get hasSpace(): boolean {
    return this.#messages.length < LIMIT;
  }

  push(message: Message): void {
    const reader = this.#readers.shift();
    if (reader) reader({ done: false, value: message });
    else this.#messages.push(message);
  }

  next(): Promise<IteratorResult<Message, undefined>> {
    const value = this.#messages.shift();
    if (value) {
      if (this.#messages.length === LIMIT / 2) this.#onSpace();
      return Promise.resolve({ done: false, value });
    }
    if (this.#isOver) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#readers.push(resolve));
  }

  /** What is here can still be read; then it is over. */
  end(): void {
    this.#isOver = true;
    for (const reader of this.#readers.splice(0)) reader({ done: true, value: undefined });
  }
}
