// What the client asks of where it runs. All of it can be replaced, for tests and for platforms that lack something.

/** The part of a browser's `WebSocket` that is used. Node's `ws` has it too. */
export interface WebSocketLike {
  addEventListener(type: "open" | "error", listener: () => void): void;
  addEventListener(type: "message", listener: (event: { readonly data: unknown }) => void): void;
  addEventListener(
    type: "close",
    listener: (event: { readonly code: number; readonly reason: string; readonly wasClean: boolean }) => void,
  ): void;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

export interface WebSocketConstructor {
  new (url: string, protocols: string[]): WebSocketLike;
}

export interface Clock {
  /** Milliseconds since any fixed moment; never goes back. */
  now(): number;
  /** Runs `act` once, and returns what prevents it. */
  after(ms: number, act: () => void): () => void;
}

/** Whether there is a network at all, as far as the platform knows. */
export interface Network {
  isOnline(): boolean;
  /** Runs `act` whenever the network comes back, until what it returns is called. */
  onOnline(act: () => void): () => void;
}

export interface Platform {
  readonly clock: Clock;
  readonly random: () => number;
  readonly network: Network;
  /** `globalThis.WebSocket`, looked up when a connection is made. */
  readonly WebSocket: WebSocketConstructor | undefined;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, act) {
    const timer = setTimeout(act, ms);
    return () => clearTimeout(timer);
  },
};

/** In a page or a worker what `navigator` says; elsewhere there always is one. */
export const systemNetwork: Network = {
  isOnline: () => globalThis.navigator?.onLine !== false,
  onOnline(act) {
    globalThis.addEventListener?.("online", act);
    return () => globalThis.removeEventListener?.("online", act);
  },
};
