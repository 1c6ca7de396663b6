// What the client asks of where it runs. All of it can be replaced, for tests and for platforms that lack something.

/** The part of a browser's `WebSocket` that is used. Node's `ws` has it too. */
export interface WebSocketLike {
  binaryType?: string;
  readonly protocol?: string;
  readonly bufferedAmount?: number;
  addEventListener(type: "open" | "error", listener: () => void): void;
  addEventListener(type: "message", listener: (event: { readonly data: unknown }) => void): void;
  addEventListener(
    type: "close",
    listener: (event: { readonly code: number; readonly reason: string; readonly wasClean: boolean }) => void,
  ): void;
  send(data: string | ArrayBuffer | ArrayBufferView<ArrayBuffer>): void;
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

/** The page that the client lives in. Workers and servers have none: nothing hides them. */
export interface Page {
  /** Nobody sees it: another tab is in front, the window is minimised, the phone is locked. */
  isHidden(): boolean;
  /** Runs `act` when the page is hidden, shown, resumed or taken out of the back/forward cache. */
  onChange(act: () => void): () => void;
}

export interface Platform {
  readonly clock: Clock;
  readonly random: () => number;
  readonly network: Network;
  readonly page: Page;
  /** `undefined` where there is none. */
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
  onOnline: (act) => onGlobal(["online"], act),
};

export const systemPage: Page = {
  isHidden: () => globalThis.document?.visibilityState === "hidden",
  onChange: (act) => onGlobal(["visibilitychange", "pageshow", "resume"], act),
};

/** Events of the document are caught on their way down from the window. */
function onGlobal(types: string[], act: () => void): () => void {
  for (const type of types) globalThis.addEventListener?.(type, act, { capture: true });
  return () => {
    for (const type of types) globalThis.removeEventListener?.(type, act, { capture: true });
  };
}
