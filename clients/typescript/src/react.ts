// @saywhy/client/react: a connection that lives as long as the component that holds it.

import { useCallback, useEffect, useMemo, useRef, useSyncExternalStore } from "react";
import { connect, connectPlain, type Client, type Options, type PlainClient, type PlainOptions } from "./index.js";
import type { SaywhyError } from "./error.js";
import type { Ending, LifeEvents, State } from "./events.js";
import type { PlainReady } from "./plain.js";
import type { Ready } from "./wire.js";

/** A connection as a component sees it. */
export interface Connection<C, R> {
  /** `undefined` before the component is mounted, on a server, and without a URL. */
  readonly client: C | undefined;
  /** `connecting` before the component is mounted and on a server; `closed` without a URL. */
  readonly state: State;
  /** What the server said of the session, as long as it lasts. */
  readonly ready: R | undefined;
  /** Why there is no session: the last reason, until there is one. */
  readonly error: SaywhyError | undefined;
  /** When the next attempt is, and which since a session lasted, in the state `waiting`. */
  readonly waiting: { readonly delayMs: number; readonly attempt: number } | undefined;
  /** Connects anew, at once: for a button, when it is `closed`, or waits for too long. */
  readonly reconnect: () => void;
}

/**
 * Connects to a Saywhy server when the component is mounted, and closes the connection when it is unmounted. Another URL is
 * another connection; `null` and `undefined` are none. Each component that calls this has a connection of its own: hand the
 * client down.
 *
 * `token` is always that of the last rendering. The other options are looked at when a connection is made for a URL.
 */
export function useConnection(url: string | URL | null | undefined, options: Options = {}): Connection<Client, Ready> {
  return useHeld(url, options, connect);
}

/** The same for a WebSocket server of any other kind. */
export function usePlainConnection(
  url: string | URL | null | undefined,
  options: PlainOptions = {},
): Connection<PlainClient, PlainReady> {
  return useHeld(url, options, connectPlain);
}

/** What both kinds of clients have in common. */
interface Living<R> {
  readonly state: State;
  readonly closed: Promise<Ending>;
  on<K extends keyof LifeEvents<R>>(event: K, listener: (info: LifeEvents<R>[K]) => void): () => void;
  close(): Promise<Ending>;
}

function useHeld<C extends Living<R>, R, O extends Options>(
  url: string | URL | null | undefined,
  options: O,
  dial: (url: string, options: O) => C,
): Connection<C, R> {
  const href = url == null ? undefined : String(url);
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  const held = useMemo(() => {
    if (href === undefined) return new Held<C, R>(undefined);
    return new Held<C, R>(() => {
      const { token } = latest.current;
      return dial(href, { ...latest.current, token: token && ((request) => (latest.current.token ?? token)(request)) });
    });
  }, [href, dial]);
  const seen = useSyncExternalStore(held.subscribe, held.seen, held.seen);
  const reconnect = useCallback(() => held.reconnect(), [held]);
  return useMemo(() => ({ ...seen, reconnect }), [seen, reconnect]);
}

type Seen<C, R> = Omit<Connection<C, R>, "reconnect">;

/** A client that is there as long as somebody looks, and what is to be seen of it. */
class Held<C extends Living<R>, R> {
  readonly #dial: (() => C) | undefined;
  readonly #lookers = new Set<() => void>();
  readonly #unseen: Seen<C, R>;
  #seen: Seen<C, R>;
  #client: C | undefined;
  #undo: (() => void)[] = [];

  constructor(dial: (() => C) | undefined) {
    this.#dial = dial;
    const state = dial ? "connecting" : "closed";
    this.#unseen = { client: undefined, state, ready: undefined, error: undefined, waiting: undefined };
    this.#seen = this.#unseen;
  }

  readonly seen = (): Seen<C, R> => this.#seen;

  readonly subscribe = (look: () => void): (() => void) => {
    if (!this.#client) this.#begin();
    this.#lookers.add(look);
    return () => {
      this.#lookers.delete(look);
      // Strict mode takes every component away once, and brings it back at once: that is no reason to hang up.
      void Promise.resolve().then(() => this.#lookers.size > 0 || this.#end());
    };
  };

  reconnect(): void {
    if (this.#lookers.size === 0) return;
    this.#end();
    this.#begin();
  }

  #begin(): void {
    const client = this.#dial?.();
    if (!client) return;
    this.#client = client;
    const gone = { ready: undefined, waiting: undefined };
    this.#undo = [
      client.on("connecting", () => this.#show({ ...gone, state: "connecting" })),
      client.on("authenticating", () => this.#show({ ...gone, state: "authenticating" })),
      client.on("ready", (ready) => this.#show({ ...gone, state: "ready", ready, error: undefined })),
      client.on("waiting", ({ cause, delayMs, attempt }) =>
        this.#show({ ...gone, state: "waiting", error: cause, waiting: { delayMs, attempt } }),
      ),
      client.on("offline", ({ cause }) => this.#show({ ...gone, state: "offline", error: cause })),
    ];
    this.#show({ client, state: client.state });
    // Not by its event: it may have closed before anybody could listen, as without a WebSocket.
    void client.closed.then(({ cause }) => {
      if (this.#client === client) this.#show({ ...gone, state: "closed", error: cause });
    });
  }

  #end(): void {
    for (const undo of this.#undo.splice(0)) undo();
    void this.#client?.close();
    this.#client = undefined;
    this.#seen = this.#unseen;
  }

  #show(news: Partial<Seen<C, R>>): void {
    this.#seen = { ...this.#seen, ...news };
    for (const look of [...this.#lookers]) look();
  }
}
