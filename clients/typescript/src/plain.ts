// A client of any WebSocket server: the same life, without this project's protocol.

import { SaywhyError, type Close } from "./error.js";
import type { Ending, LifeEvents, State } from "./events.js";
import { Lifeline, type Line, type Link } from "./lifeline.js";
import { Socket, type Address } from "./socket.js";
import { read, type ServerError } from "./wire.js";

const OPEN_MS = 30_000;
const LIMIT = 256;
const LIMIT_BYTES = 1_048_576;

/** What a WebSocket can send. */
export type Data = string | ArrayBuffer | ArrayBufferView<ArrayBuffer>;

/** What is known of a plain connection once it is open. */
export interface PlainReady {
  /** The subprotocol that the server chose; empty for none. */
  readonly protocol: string;
}

export interface PlainEvents extends LifeEvents<PlainReady> {
  /** What came, as it came: text, or bytes. */
  data: string | ArrayBuffer;
}

/** A connection to a server that speaks something else. It comes back as far as the server's Closes permit. */
export class PlainClient {
  readonly #life: Lifeline<PlainReady, PlainEvents>;
  #socket: Socket | undefined;
  #isReady = false;
  #queue: Data[] = [];
  #queuedBytes = 0;
  /** The last message, if it is a fatal error in the words of this protocol: a gateway's, in front of the server. */
  #lastWord: ServerError | undefined;

  constructor(line: Line) {
    this.#life = new Lifeline(line, {
      dial: (address) => this.#dial(address),
      arrived: () => this.#flush(),
      gone: () => this.#gone(),
      over: () => (this.#queue = []),
    });
    this.#life.begin();
  }

  /** Resolves when it is over for good, and never rejects. */
  get closed(): Promise<Ending> {
    return this.#life.closed;
  }

  get state(): State {
    return this.#life.state;
  }

  /**
   * Resolves as soon as the connection is open, at once when it is. Rejects with a `SaywhyError` when it is refused for
   * good; while there will be another attempt it waits, and `waiting` says why.
   */
  ready({ signal }: { readonly signal?: AbortSignal | undefined } = {}): Promise<PlainReady> {
    return this.#life.ready(signal);
  }

  /** Calls `listener` with every `event` until the function that this returns is called, or `signal` fires. */
  on<E extends keyof PlainEvents>(
    event: E,
    listener: (info: PlainEvents[E]) => void,
    { signal }: { readonly signal?: AbortSignal | undefined } = {},
  ): () => void {
    return this.#life.on(event, listener, signal);
  }

  /**
   * Hands data to the platform, or keeps it for the next connection: what listeners of `ready` write goes ahead of it.
   * Nobody knows whether what was sent has arrived. Throws a `SaywhyError` when there is no place left for it.
   */
  write(data: Data): "sent" | "queued" {
    const { farewell } = this.#life;
    if (farewell) throw farewell;
    const bytes = sizeOf(data);
    const socket = this.#isReady ? this.#socket : undefined;
    const isFull = socket
      ? socket.bufferedBytes + bytes > LIMIT_BYTES
      : this.#queue.length >= LIMIT || this.#queuedBytes + bytes > LIMIT_BYTES;
    if (isFull) throw new SaywhyError("queue_full", "Too much is waiting to be sent", "client", { retry: "backoff" });
    if (socket) {
      socket.send(data);
      return "sent";
    }
    this.#queue.push(data);
    this.#queuedBytes += bytes;
    return "queued";
  }

  /**
   * Ends the connection for good. `code` is 1000 or 3000–4999 and `reason` at most 123 bytes; the platform throws at
   * anything else.
   */
  close(code = 1000, reason = ""): Promise<Ending> {
    return this.#life.close(code, reason);
  }

  #dial(address: Address): Link {
    const socket = new Socket(address, {
      opened: () => this.#opened(socket),
      heard: (data) => this.#hear(data as string | ArrayBuffer),
      ended: (close, gaveUp) => this.#ended(close, gaveUp),
    });
    this.#socket = socket;
    socket.deadline(OPEN_MS, "the server did not answer the handshake in time");
    // There is nothing that every server would answer.
    return { close: (code, reason) => socket.close(code, reason), probe: () => {} };
  }

  #opened(socket: Socket): void {
    socket.stopTimer();
    this.#isReady = true;
    this.#life.isReady({ protocol: socket.protocol });
  }

  #hear(data: string | ArrayBuffer): void {
    const incoming = read(data);
    const said = incoming.type === "error" && incoming.said.fatal ? incoming.said : undefined;
    this.#lastWord = said?.code !== undefined && said.requestId !== undefined ? said : undefined;
    this.#life.tell("data", data);
  }

  #ended(close: Close | null, gaveUp?: string): void {
    // A word that no Close followed was not the last one.
    const said = close && close.code !== 1006 ? this.#lastWord : undefined;
    const wasReady = this.#isReady;
    if (said) this.#life.said("error", said);
    this.#life.ended({ type: "ended", close, said, wasOpen: wasReady, wasReady, gaveUp });
  }

  #gone(): void {
    this.#socket = undefined;
    this.#isReady = false;
    this.#lastWord = undefined;
  }

  #flush(): void {
    const queue = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    for (const data of queue) this.#socket?.send(data);
  }
}

function sizeOf(data: Data): number {
  return typeof data === "string" ? new TextEncoder().encode(data).length : data.byteLength;
}
