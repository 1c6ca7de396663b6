// The cable between a page and a server: what is said arrives later, in order.

import { queueTask } from "./tasks.js";

export type Data = string | Uint8Array<ArrayBuffer> | Blob;

export type FromServer =
  | { readonly type: "accepted"; readonly protocol: string }
  | { readonly type: "refused" }
  | { readonly type: "message"; readonly data: string | Uint8Array<ArrayBuffer> }
  | { readonly type: "close"; readonly code: number | undefined; readonly reason: Uint8Array<ArrayBuffer> }
  /** The end of the connection underneath, with or without a Close before it. */
  | { readonly type: "ended" };

export type FromPage =
  | { readonly type: "message"; readonly data: Data }
  | { readonly type: "close"; readonly code: number | undefined; readonly reason: string }
  | { readonly type: "gone" };

export class Cable {
  /** Who hears what arrives. */
  page: (said: FromServer) => void = () => {};
  server: (said: FromPage) => void = () => {};
  /** What has been said to the page and has not arrived. */
  #underway: FromServer[] = [];
  #held: (() => void)[] | undefined;

  toPage(said: FromServer): void {
    if (said.type !== "ended" && this.#held) return void this.#held.push(() => this.toPage(said));
    this.#underway.push(said);
    queueTask(() => {
      const next = this.#underway.shift();
      if (next) this.page(next);
    });
  }

  toServer(said: FromPage): void {
    if (this.#held) return void this.#held.push(() => this.toServer(said));
    queueTask(() => this.server(said));
  }

  /** The messages that have not arrived never will. */
  loseMessages(): void {
    this.#underway = this.#underway.filter(({ type }) => type !== "message");
  }

  /** Nothing arrives any more, on either side, and neither is told. */
  freeze(): void {
    this.#held ??= [];
  }

  /** What was said meanwhile arrives now. */
  thaw(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const say of held) say();
  }
}
