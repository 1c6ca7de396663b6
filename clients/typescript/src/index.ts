// @saywhy/client: WebSockets that say why.

import { Client } from "./client.js";
import type { Diagnose } from "./diagnose.js";
import type { Line, TokenSource } from "./lifeline.js";
import { PlainClient } from "./plain.js";
import {
  systemClock,
  systemNetwork,
  systemPage,
  type Clock,
  type Network,
  type Page,
  type WebSocketConstructor,
} from "./platform.js";

export interface Options {
  /**
   * Where tokens come from. Asked once to connect, and again only when the last one was refused or is about to expire.
   * May throw, as when nobody is reachable who could make one: then the client tries again later.
   */
  readonly token?: TokenSource | undefined;
  /** Closes the client when it fires. */
  readonly signal?: AbortSignal | undefined;
  /** Looks into a connection that could not be made, once in a row: `diagnose`, or a function of your own. */
  readonly diagnose?: Diagnose | undefined;
  /** For platforms without a `WebSocket` of their own, such as Node 20, and for tests. */
  readonly WebSocket?: WebSocketConstructor | undefined;
  readonly clock?: Clock | undefined;
  /** Evenly distributed in [0, 1). */
  readonly random?: (() => number) | undefined;
  readonly network?: Network | undefined;
  readonly page?: Page | undefined;
}

export interface PlainOptions extends Options {
  /** The subprotocols to offer, as in `new WebSocket(url, protocols)`. None by default. */
  readonly protocols?: string | readonly string[] | undefined;
}

/**
 * Connects to a Saywhy server, and comes back as often and as soon as it permits.
 *
 * @throws `TypeError` when `url` is no URL of a WebSocket.
 */
export function connect(url: string | URL, options: Options = {}): Client {
  return new Client(line(url, ["saywhy.v1"], options));
}

/**
 * Connects to a WebSocket server of any other kind, and comes back as its Closes permit.
 *
 * @throws `TypeError` when `url` is no URL of a WebSocket.
 */
export function connectPlain(url: string | URL, options: PlainOptions = {}): PlainClient {
  const { protocols = [] } = options;
  return new PlainClient(line(url, typeof protocols === "string" ? [protocols] : protocols, options));
}

function line(url: string | URL, protocols: readonly string[], options: Options): Line {
  const { href, hostname } = socketUrl(url);
  const { token, signal, diagnose, clock = systemClock, random = Math.random, page = systemPage } = options;
  const WebSocket: WebSocketConstructor | undefined = options.WebSocket ?? globalThis.WebSocket;
  // This machine can be reached without a network.
  const isHere = /^(localhost|127\..*|\[::1\])$/.test(hostname);
  const network = options.network ?? (isHere ? { ...systemNetwork, isOnline: () => true } : systemNetwork);
  return { url: href, protocols, token, signal, diagnose, platform: { clock, random, network, page, WebSocket } };
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
export type { Client, RequestOptions, Requests, Sending } from "./client.js";
export { diagnose, type Diagnose, type Diagnosis } from "./diagnose.js";
export type { Ending, Events, LifeEvents, State } from "./events.js";
export { SaywhyError, type ClientErrorName, type Close, type ErrorName, type ErrorSource } from "./error.js";
export type { TokenRequest, TokenSource } from "./lifeline.js";
export type { Reply } from "./outgoing.js";
export type { Data, PlainClient, PlainEvents, PlainReady } from "./plain.js";
export type { Clock, Network, Page, WebSocketConstructor, WebSocketLike } from "./platform.js";
export type { Retry } from "./retry.js";
export type { Answers, Message, Position, Ready, ServerError } from "./wire.js";
