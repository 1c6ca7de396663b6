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

/** What is told of a connection that comes back. Each state is an event. */
export interface LifeEvents<R> {
  state: { readonly state: State; readonly previous: State };
  connecting: Nothing;
  /** The server has answered, and not said `ready` yet; or a new token is being asked for. */
  authenticating: Nothing;
  ready: R;
  /**
   * There will be another attempt: the `attempt`th since a session lasted, in `delayMs`. That is `Infinity` in a page that
   * nobody has looked at for a minute: then it is as soon as somebody does. Told again when it changes.
   */
  waiting: { readonly cause: SaywhyError; readonly delayMs: number; readonly attempt: number };
  /** There will be another attempt as soon as there is a network. */
  offline: { readonly cause: SaywhyError; readonly attempt: number };
  closed: Ending;
}

/** What `on()` can be told of. */
export interface Events extends LifeEvents<Ready>, Record<RoomNews, { readonly room: string }> {
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

export class Listeners<All> {
  readonly #all = new Map<keyof All, Set<(info: never) => void>>();

  /** Returns what takes the listener away again. */
  add<E extends keyof All>(event: E, listener: (info: All[E]) => void): () => void {
    // A function of its own: the same listener may be added twice, and be taken away once.
    const own = (info: All[E]): void => listener(info);
    const listeners = this.#all.get(event) ?? new Set();
    this.#all.set(event, listeners);
    listeners.add(own);
    return () => void listeners.delete(own);
  }

  tell<E extends keyof All>(event: E, info: All[E]): void {
    for (const listener of [...(this.#all.get(event) ?? [])]) {
      try {
        (listener as (info: All[E]) => void)(info);
      } catch (error) {
        // Theirs to hear of, and nothing that may keep a connection from its work.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
