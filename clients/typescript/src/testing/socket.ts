// The `WebSocket` of a page, which behaves like Chromium's.
//
// The scenarios in tests/client-testing.test.mjs are played to this one and to Chromium, and have to look the same: the
// order of events, what the page is not told, what it may not do.

import type { FakeClock } from "./clock.js";
import { Cable, type Data, type FromServer } from "./cable.js";
import { queueTask } from "./tasks.js";

/** How long Chromium waits for the server's Close in answer to the page's. */
const CLOSE_MS = 60_000;
/** How long it then waits for the server to end the connection. */
const END_MS = 2_000;
const REASON_BYTES = 123;
/** RFC 9110 §5.6.2. */
const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/;

const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

/** What a socket connects to. */
export interface Host {
  readonly clock: FakeClock;
  readonly isOnline: () => boolean;
  arrive(url: string, protocols: readonly string[], cable: Cable): void;
}

export interface SocketEvents {
  readonly open: Event;
  readonly message: MessageEvent;
  readonly error: Event;
  readonly close: CloseEvent;
}

type CloseFacts = { readonly code: number; readonly reason: string; readonly wasClean: boolean };
type Handler<E> = ((event: E) => void) | null;

export class TestSocket extends EventTarget {
  static readonly CONNECTING = CONNECTING;
  static readonly OPEN = OPEN;
  static readonly CLOSING = CLOSING;
  static readonly CLOSED = CLOSED;
  readonly CONNECTING = CONNECTING;
  readonly OPEN = OPEN;
  readonly CLOSING = CLOSING;
  readonly CLOSED = CLOSED;

  readonly url: string;
  readonly extensions: string = "";
  readonly #clock: FakeClock;
  readonly #offered: readonly string[];
  readonly #cable = new Cable();
  readonly #handlers = new Map<string, { handler: (event: never) => void; listener: (event: Event) => void }>();
  #protocol = "";
  #binaryType: BinaryType = "blob";
  #readyState: 0 | 1 | 2 | 3 = CONNECTING;
  #bufferedAmount = 0;
  /** The server's Close. */
  #theirs: CloseFacts | undefined;
  /** Whether ours has been said. */
  #hasClosed = false;
  #stopTimer = (): void => {};

  constructor(host: Host, url: string | URL, protocols: string | readonly string[] = []) {
    super();
    const offered = typeof protocols === "string" ? [protocols] : [...protocols];
    const { href, hash } = socketUrl(url);
    if (hash) throw new DOMException(`The URL has a fragment: ${href}`, "SyntaxError");
    if (offered.some((one) => !TOKEN.test(one)) || new Set(offered).size < offered.length) {
      throw new DOMException("The subprotocols have to be different tokens", "SyntaxError");
    }
    this.url = href;
    this.#clock = host.clock;
    this.#offered = offered;
    this.#cable.page = (said) => this.#hear(said);
    queueTask(() => {
      // A page that has given up already may have been heard all the same.
      if (host.isOnline()) host.arrive(href, offered, this.#cable);
      else this.#fail();
    });
  }

  get protocol(): string {
    return this.#protocol;
  }

  get readyState(): 0 | 1 | 2 | 3 {
    return this.#readyState;
  }

  get bufferedAmount(): number {
    return this.#bufferedAmount;
  }

  get binaryType(): BinaryType {
    return this.#binaryType;
  }

  set binaryType(type: BinaryType) {
    // Anything else is ignored, as of every enumeration of the platform.
    if (type === "blob" || type === "arraybuffer") this.#binaryType = type;
  }

  send(data: string | ArrayBufferLike | ArrayBufferView | Blob): void {
    if (this.#readyState === CONNECTING) throw new DOMException("Still connecting", "InvalidStateError");
    const message = copied(data);
    const bytes = sizeOf(message);
    this.#bufferedAmount += bytes;
    // What is sent too late counts for ever, and goes nowhere.
    if (this.#readyState !== OPEN) return;
    this.#cable.toServer({ type: "message", data: message });
    queueTask(() => (this.#bufferedAmount -= bytes));
  }

  close(code?: number, reason?: string): void {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999)) {
      throw new DOMException(`A page may close with 1000 or 3000 to 4999, not ${code}`, "InvalidAccessError");
    }
    if (reason !== undefined && sizeOf(reason) > REASON_BYTES) {
      throw new DOMException(`A reason has at most ${REASON_BYTES} bytes`, "SyntaxError");
    }
    if (this.#readyState === CONNECTING) {
      this.#readyState = CLOSING;
      queueTask(() => this.#fail());
    } else if (this.#readyState === OPEN) {
      this.#readyState = CLOSING;
      this.#sayClose(code, reason);
      this.#stopTimer = this.#clock.after(CLOSE_MS, () => this.#end());
    }
  }

  override addEventListener<E extends keyof SocketEvents>(
    type: E,
    listener: (event: SocketEvents[E]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener(type: string, listener: never, options?: boolean | AddEventListenerOptions): void {
    super.addEventListener(type, listener, options);
  }

  // ---- what the network brings ---------------------------------------------------------------------------------------

  #hear(said: FromServer): void {
    if (this.#readyState === CLOSED) return;
    switch (said.type) {
      case "accepted":
        return this.#open(said.protocol);
      case "refused":
        return this.#fail();
      case "message":
        if (this.#theirs) return this.#fail();
        if (this.#readyState !== OPEN) return;
        return this.#happen(new MessageEvent("message", { data: this.#read(said.data), origin: new URL(this.url).origin }));
      case "close":
        return this.#hearClose(said.code, said.reason);
      case "ended":
        if (this.#readyState === CONNECTING) return this.#fail();
        return this.#end(this.#theirs);
      default:
        said satisfies never;
    }
  }

  #open(protocol: string): void {
    if (this.#readyState !== CONNECTING) return;
    const isAnswer = this.#offered.length > 0 || protocol !== "";
    if (isAnswer && !this.#offered.includes(protocol)) return this.#fail();
    this.#protocol = protocol;
    this.#readyState = OPEN;
    this.#happen(new Event("open"));
  }

  #hearClose(code: number | undefined, bytes: Uint8Array<ArrayBuffer>): void {
    const reason = utf8(bytes);
    // Chromium lets codes pass that nobody may send, but for those that stand for something else.
    const isCode = code !== 1005 && code !== 1006 && code !== 1015;
    if (this.#theirs || bytes.length > REASON_BYTES || reason === undefined || !isCode) return this.#fail();
    this.#theirs = { code: code ?? 1005, reason, wasClean: true };
    this.#readyState = CLOSING;
    if (!this.#hasClosed) this.#sayClose(code, reason);
    this.#stopTimer();
    this.#stopTimer = this.#clock.after(END_MS, () => this.#end(this.#theirs));
  }

  #sayClose(code: number | undefined, reason = ""): void {
    this.#hasClosed = true;
    this.#cable.toServer({ type: "close", code, reason });
  }

  #read(data: string | Uint8Array<ArrayBuffer>): unknown {
    if (typeof data === "string") return data;
    return this.#binaryType === "blob" ? new Blob([data]) : data.slice().buffer;
  }

  // ---- what the page is told -----------------------------------------------------------------------------------------

  /** RFC 6455 §7.1.7: Fail the WebSocket Connection. */
  #fail(): void {
    if (this.#readyState === CLOSED) return;
    this.#readyState = CLOSED;
    this.#happen(new Event("error"));
    // A task of its own, so that promises which the error keeps are kept before.
    queueTask(() => this.#end());
  }

  #end(close: CloseFacts = { code: 1006, reason: "", wasClean: false }): void {
    this.#stopTimer();
    this.#readyState = CLOSED;
    this.#cable.toServer({ type: "gone" });
    this.#cable.page = () => {};
    this.#happen(closeEvent(close));
  }

  #happen(event: Event): void {
    this.dispatchEvent(event);
  }

  // ---- onopen and the like -------------------------------------------------------------------------------------------

  get onopen(): Handler<Event> {
    return this.#handler("open");
  }
  set onopen(handler: Handler<Event>) {
    this.#handle("open", handler);
  }

  get onmessage(): Handler<MessageEvent> {
    return this.#handler("message");
  }
  set onmessage(handler: Handler<MessageEvent>) {
    this.#handle("message", handler);
  }

  get onerror(): Handler<Event> {
    return this.#handler("error");
  }
  set onerror(handler: Handler<Event>) {
    this.#handle("error", handler);
  }

  get onclose(): Handler<CloseEvent> {
    return this.#handler("close");
  }
  set onclose(handler: Handler<CloseEvent>) {
    this.#handle("close", handler);
  }

  #handler<E>(type: string): Handler<E> {
    return (this.#handlers.get(type)?.handler as Handler<E> | undefined) ?? null;
  }

  /** A handler keeps its place among the listeners when another function takes over, and loses it with `null`. */
  #handle<E extends Event>(type: string, handler: Handler<E>): void {
    const held = this.#handlers.get(type);
    if (typeof handler !== "function") {
      if (held) this.removeEventListener(type, held.listener);
      this.#handlers.delete(type);
    } else if (held) {
      held.handler = handler;
    } else {
      const added = { handler, listener: (event: Event): void => added.handler.call(this, event as never) };
      this.#handlers.set(type, added as never);
      this.addEventListener(type, added.listener);
    }
  }
}

function socketUrl(url: string | URL): URL {
  const base = (globalThis as { location?: { href?: string } }).location?.href;
  let resolved;
  try {
    resolved = new URL(url, base);
  } catch {
    throw new DOMException(`Not a URL: ${url}`, "SyntaxError");
  }
  resolved.protocol = resolved.protocol.replace(/^http/, "ws");
  if (!/^wss?:$/.test(resolved.protocol)) throw new DOMException(`Not the URL of a WebSocket: ${url}`, "SyntaxError");
  return resolved;
}

/** What the page does to its buffer afterwards changes nothing. */
function copied(data: unknown): Data {
  if (data instanceof Blob) return data;
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
  // Not by `instanceof`: some test runners have pages with an `ArrayBuffer` of their own.
  if (Object.prototype.toString.call(data) === "[object ArrayBuffer]") return new Uint8Array(data as ArrayBuffer).slice();
  return String(data);
}

function sizeOf(data: Data): number {
  if (typeof data === "string") return new TextEncoder().encode(data).length;
  return data instanceof Blob ? data.size : data.length;
}

function utf8(bytes: Uint8Array<ArrayBuffer>): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function closeEvent(facts: CloseFacts): Event {
  // Node has none before version 23.
  if (typeof CloseEvent === "function") return new CloseEvent("close", facts);
  return Object.defineProperties(
    new Event("close"),
    Object.fromEntries(Object.entries(facts).map(([name, value]) => [name, { value, enumerable: true }])),
  );
}
