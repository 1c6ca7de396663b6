// What a client tells, and whom.

import type { Close, SaywhyError } from "./error.js";
import type { Ready, RoomNews } from "./wire.js";

export type State = "connecting" | "authenticating" | "ready" | "waiting" | "offline" | "closed";

/** How it all ended. */
export interface Ending {
  readonly cause: SaywhyError;
  /** The last Close as the platform reported it; `null` when there was none to report. */
  readonly close: Close | null;
}

type Nothing = Readonly<Record<never, never>>;

/** What `on()` can be told of. The states are events too. */
export interface Events extends Record<RoomNews, { readonly room: string }> {
  state: { readonly state: State; readonly previous: State };
  connecting: Nothing;
  authenticating: Nothing;
  ready: Ready;
  waiting: { readonly cause: SaywhyError; readonly delayMs: number; readonly attempt: number };
  offline: { readonly cause: SaywhyError; readonly attempt: number };
  closed: Ending;
  /** The server is about to end the connection, as for a restart. What is asked for meanwhile waits for the next one. */
  goodbye: { readonly error: SaywhyError };
  /** An error that answers no request. The session goes on. */
  error: { readonly error: SaywhyError };
  /** Messages of the room are missing, and cannot be had: load what you need from elsewhere. Newer ones follow. */
  history_lost: { readonly room: string; readonly reason: string | undefined; readonly error: SaywhyError };
  /** Back in the room over a new connection. `members` where the server tells. */
  rejoined: { readonly room: string; readonly recovered: boolean; readonly members: readonly string[] | undefined };
  /** No longer in the room: coming back to it was refused. */
  room_lost: { readonly room: string; readonly error: SaywhyError };
  joined: { readonly room: string; readonly member: string };
  left: { readonly room: string; readonly member: string };
  /** A message that this client does not know: an application's own. */
  other: { readonly type: string | undefined; readonly data: unknown };
}

export class Listeners {
  readonly #all = new Map<keyof Events, Set<(info: never) => void>>();

  /** Returns what takes the listener away again. */
  add<E extends keyof Events>(event: E, listener: (info: Events[E]) => void): () => void {
    // A function of its own: the same listener may be added twice, and be taken away once.
    const own = (info: Events[E]): void => listener(info);
    const listeners = this.#all.get(event) ?? new Set();
    this.#all.set(event, listeners);
    listeners.add(own);
    return () => void listeners.delete(own);
  }

  tell<E extends keyof Events>(event: E, info: Events[E]): void {
    for (const listener of [...(this.#all.get(event) ?? [])]) {
      try {
        (listener as (info: Events[E]) => void)(info);
      } catch (error) {
        // Theirs to hear of, and nothing that may keep a connection from its work.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
