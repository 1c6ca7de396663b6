// @saywhy/client: WebSockets that say why.

import { Client, type TokenSource } from "./client.js";
import { systemClock, systemNetwork, type Clock, type Network, type WebSocketConstructor } from "./platform.js";

export interface Options {
  /**
   * Where tokens come from. Asked once to connect, and again only when the last one was refused or is about to expire.
   * May throw, as when nobody is reachable who could make one: then the client tries again later.
   */
  readonly token?: TokenSource | undefined;
  /** Closes the client when it fires. */
  readonly signal?: AbortSignal | undefined;
  /** For platforms without a `WebSocket` of their own, such as Node 20, and for tests. */
  readonly WebSocket?: WebSocketConstructor | undefined;
  readonly clock?: Clock | undefined;
  /** Evenly distributed in [0, 1). */
  readonly random?: (() => number) | undefined;
  readonly network?: Network | undefined;
}

/**
 * Connects, and comes back as often and as soon as the server permits.
 *
 * @throws `TypeError` when `url` is no URL of a WebSocket.
 */
export function connect(url: string | URL, options: Options = {}): Client {
  const { href, hostname } = socketUrl(url);
  const { token, signal, clock = systemClock, random = Math.random } = options;
  const WebSocket: WebSocketConstructor | undefined = options.WebSocket ?? globalThis.WebSocket;
  // This machine can be reached without a network.
  const isHere = /^(localhost|127\..*|\[::1\])$/.test(hostname);
  const network = options.network ?? (isHere ? { ...systemNetwork, isOnline: () => true } : systemNetwork);
  return new Client(href, token, signal, { clock, random, network, WebSocket });
}

/** As newer platforms do it by themselves: relative to the page, and with `http` understood as `ws`. */
function socketUrl(url: string | URL): URL {
  const base = (globalThis as { location?: { href?: string } }).location?.href;
  const resolved = new URL(url, base);
  resolved.protocol = resolved.protocol.replace(/^http/, "ws");
  if (!/^wss?:$/.test(resolved.protocol)) throw new TypeError(`not the URL of a WebSocket: ${resolved.href}`);
  // A fragment would make the platform refuse it.
  resolved.hash = "";
  return resolved;
}

export type { CatalogueName } from "./catalogue.js";
export type {
  Client,
  RequestOptions,
  Requests,
  Sending,
  TokenRequest,
  TokenSource,
} from "./client.js";
export type { Ending, Events, State } from "./events.js";
export { SaywhyError, type ClientErrorName, type Close, type ErrorName, type ErrorSource } from "./error.js";
export type { Reply } from "./outgoing.js";
export type { Clock, Network, WebSocketConstructor, WebSocketLike } from "./platform.js";
export type { Retry } from "./retry.js";
export type { Answers, Message, Position, Ready } from "./wire.js";
