// A server, a clock, a random number, a network and a page that do what a test tells them.
import { connect } from "../../dist/index.js";
import { FakeClock, settled } from "../../dist/testing.js";

export { FakeClock, settled };

/** The server's end of a socket. What it does, the client sees in the way of a browser. */
class FakeSocket {
  #listeners = { open: [], message: [], error: [], close: [] };
  /** What the client sent, parsed where it is JSON. */
  sent = [];
  /** `[code, reason]` of the client's Close. */
  closed;
  isOpen = false;
  isOver = false;

  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
  }

  addEventListener(type, listener) {
    this.#listeners[type].push(listener);
  }

  send(text) {
    if (!this.isOpen) throw new Error("InvalidStateError");
    if (!this.isOver && !this.closed) this.sent.push(/^\{/.test(text) ? JSON.parse(text) : text);
  }

  close(...args) {
    const [code] = args;
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999)) throw new RangeError("InvalidAccessError");
    this.closed ??= args;
  }

  #happen(type, event = {}) {
    for (const listener of this.#listeners[type]) listener(event);
  }

  open() {
    if (this.isOpen) return;
    this.isOpen = true;
    this.#happen("open");
  }

  say(message) {
    const isData = typeof message === "string" || message instanceof ArrayBuffer;
    this.#happen("message", { data: isData ? message : JSON.stringify(message) });
  }

  /** `open` and `ready`, with what a real server says there. */
  ready(data = {}) {
    this.open();
    const limits = { message_bytes: 65_536, messages_per_s: 50, message_burst: 100 };
    this.say({ type: "ready", data: { connection_id: "c1", user: "alice", heartbeat_ms: 25_000, limits, ...data } });
  }

  end(code = 1006, reason = "") {
    this.isOver = true;
    const isLost = code === 1006 || code === 0;
    if (isLost) this.#happen("error");
    this.#happen("close", { code, reason, wasClean: !isLost });
  }

  /** The requests of a type. */
  asked(type) {
    return this.sent.filter((message) => message.type === type);
  }

  /** Answers the last request of a type with `ok`. */
  ok(type, data, which = -1) {
    this.say({ type: "ok", data, meta: { request_id: this.asked(type).at(which).meta.request_id } });
  }

  error(data, request_id = "srv-1") {
    this.say({ type: "error", data: { message: "said", fatal: false, retry: "never", ...data }, meta: { request_id } });
  }

  message(room, offset, { epoch = "e" } = {}) {
    this.say({
      type: "message",
      data: { room, position: at(offset, epoch), from: "bob", body: offset },
      meta: { timestamp: "2026-11-20T12:00:00Z" },
    });
  }
}

export const at = (offset, epoch = "e") => ({ epoch, offset, tag: `${epoch}${offset}` });

/** As Node's are from 22 on: what is closed while it connects has ended before `close()` returns. */
export class HastySocket extends FakeSocket {
  close(...args) {
    super.close(...args);
    if (!this.isOpen && !this.isOver) this.end(1006);
  }
}

/** A client of scripted sockets: `sockets` in the order in which they were made, `said` every event in its order. */
export function start({ Socket = FakeSocket, ...options } = {}, dial = connect) {
  const clock = new FakeClock();
  const sockets = [];
  const online = new Set();
  const network = {
    up: true,
    isOnline: () => network.up,
    onOnline(act) {
      online.add(act);
      return () => online.delete(act);
    },
    comeBack() {
      network.up = true;
      for (const act of [...online]) act();
    },
  };
  const looking = new Set();
  const page = {
    hidden: false,
    isHidden: () => page.hidden,
    onChange(act) {
      looking.add(act);
      return () => looking.delete(act);
    },
    change(hidden) {
      page.hidden = hidden;
      for (const act of [...looking]) act();
    },
    hide: () => page.change(true),
    show: () => page.change(false),
  };
  const WebSocket = class extends Socket {
    constructor(...args) {
      super(...args);
      sockets.push(this);
    }
  };
  const chat = dial("wss://example.com/ws", { clock, random: () => 0.5, WebSocket, network, page, ...options });
  const said = [];
  for (const event of EVENTS) chat.on(event, (info) => said.push({ event, ...info }));
  return {
    chat,
    clock,
    network,
    page,
    sockets,
    /** How many listen to the page and the network. */
    listeners: () => online.size + looking.size,
    said,
    told: (event) => said.filter((one) => one.event === event),
    get socket() {
      return sockets.at(-1);
    },
  };
}

const EVENTS = [
  ...["connecting", "authenticating", "ready", "waiting", "offline", "closed", "goodbye", "error", "history_lost", "rejoined"],
  ...["room_lost", "joined", "left", "room_closed", "room_opened", "degraded", "restored", "other"],
];

/** The next `n` messages. */
export async function take(chat, n) {
  const messages = [];
  if (n === 0) return messages;
  for await (const message of chat) if (messages.push(message) === n) return messages;
  return messages;
}
