// @saywhy/client/testing: a server, a network, a page and a clock for the tests of those who use the client.

import type { Clock, Network, Page, WebSocketConstructor } from "./platform.js";
import type { Cable } from "./testing/cable.js";
import { FakeClock } from "./testing/clock.js";
import { TestConnection } from "./testing/connection.js";
import { TestRooms } from "./testing/rooms.js";
import { TestSocket } from "./testing/socket.js";
import { FakeNetwork, FakePage } from "./testing/surroundings.js";
import type { Position } from "./wire.js";

/** A server in the same process, at every address. */
export class TestServer {
  readonly clock = new FakeClock();
  readonly network = new FakeNetwork();
  readonly page = new FakePage();
  /** Connects to this server, and behaves like that of Chromium. */
  readonly WebSocket: { new (url: string | URL, protocols?: string | readonly string[]): TestSocket } & Pick<
    typeof TestSocket,
    "CONNECTING" | "OPEN" | "CLOSING" | "CLOSED"
  >;
  /** What `connect` takes. Nothing in it is random, and no time passes by itself. */
  readonly platform: {
    readonly WebSocket: WebSocketConstructor;
    readonly clock: Clock;
    readonly network: Network;
    readonly page: Page;
    readonly random: () => number;
  };
  /** All that have arrived so far. */
  readonly connections: readonly TestConnection[];

  readonly #rooms = new TestRooms();
  readonly #connections: TestConnection[] = [];
  #handedOut = 0;
  #waiting: ((connection: TestConnection) => void)[] = [];

  /** `random` decides how much of a wait is drawn, in [0, 1): half of it, where nothing is said. */
  constructor({ random = () => 0.5 }: { readonly random?: () => number } = {}) {
    const { clock, network, page } = this;
    const host = {
      clock,
      isOnline: network.isOnline,
      arrive: (url: string, protocols: readonly string[], cable: Cable) => this.#arrive(url, protocols, cable),
    };
    this.connections = this.#connections;
    this.WebSocket = class WebSocket extends TestSocket {
      constructor(url: string | URL, protocols?: string | readonly string[]) {
        super(host, url, protocols);
      }
    };
    this.platform = { WebSocket: this.WebSocket, clock, network, page, random };
  }

  /** The next attempt to connect; one that has arrived already, or the next that does. Each is handed out once. */
  connection(): Promise<TestConnection> {
    const next = this.#connections[this.#handedOut++];
    return next ? Promise.resolve(next) : new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Says something in a room, to every connection whose `join` was answered with `ok()`; others get it when they resume. */
  message(room: string, body: unknown, { from = "bob" }: { readonly from?: string } = {}): Position {
    return this.#rooms.say(room, body, from);
  }

  #arrive(url: string, protocols: readonly string[], cable: Cable): void {
    const id = `connection-${this.#connections.length + 1}`;
    const connection = new TestConnection(this.#rooms, id, url, protocols, cable);
    this.#connections.push(connection);
    this.#waiting.shift()?.(connection);
  }
}

export { FakeClock } from "./testing/clock.js";
export type { DataOf, PageClose, RowName, TestConnection, TestRequest, Words } from "./testing/connection.js";
export type { TestSocket } from "./testing/socket.js";
export { FakeNetwork, FakePage } from "./testing/surroundings.js";
export { settled } from "./testing/tasks.js";
