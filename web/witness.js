// A plain browser WebSocket, and a record of everything that a page may observe of it.
// No library and no retry: what is not in `events` cannot be known to the page.

const PATIENCE_MS = 20_000;

export class Witness {
  /** @type {{at: number, kind: string}[]} in the order of arrival; `at` in ms since the start */
  events = [];
  #started = 0;
  #waiting = new Set();
  #onEvent;

  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  note(kind, fields = {}) {
    const now = performance.now();
    if (kind === "connect") this.#started = now;
    const event = { at: Math.round(now - this.#started), kind, ...fields };
    this.events.push(event);
    this.#onEvent(event);
    for (const wake of [...this.#waiting]) wake();
    return event;
  }

  /** The first event that fits, past or future; `null` once that has become impossible, or `ms` have passed. */
  until(fits, ms = PATIENCE_MS) {
    return new Promise((resolve) => {
      const settle = (event) => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        resolve(event);
      };
      const look = () => {
        const event = this.events.find(fits);
        if (event) settle(event);
        else if (this.closed) settle(null);
      };
      const timer = setTimeout(settle, ms, null);
      this.#waiting.add(look);
      look();
    });
  }

  /** The next message of one of these types, counted from now; `null` as above. */
  next(...types) {
    const seen = this.events.length;
    return this.until((event) => types.includes(event.message?.type) && this.events.indexOf(event) >= seen);
  }

  close(ms) {
    return this.until((event) => event.kind === "close", ms);
  }

  get closed() {
    return this.events.some((event) => event.kind === "close");
  }
}

/** Opens the socket that is under observation. `signal` takes it down when nobody looks any more. */
export function openSocket(path, protocols, signal, onEvent) {
  const witness = new Witness(onEvent);
  witness.note("connect", { text: asCode(path, protocols) });
  const socket = new WebSocket(socketUrl(path), protocols);
  socket.onopen = () => witness.note("open");
  socket.onmessage = ({ data }) => witness.note("message", received(data));
  socket.onerror = () => witness.note("error");
  socket.onclose = ({ code, reason, wasClean }) => witness.note("close", { code, reason, wasClean });
  witness.send = (frame, label) => {
    const data = typeof frame === "string" || frame instanceof ArrayBuffer ? frame : JSON.stringify(frame);
    if (label !== null) witness.note("sent", { text: label ?? data });
    if (socket.readyState === WebSocket.OPEN) socket.send(data);
  };
  const leave = () => {
    socket.onopen = socket.onmessage = socket.onerror = socket.onclose = null;
    socket.close(1000);
  };
  witness.leave = leave;
  signal.addEventListener("abort", leave, { once: true });
  return witness;
}

/** The same, from a page of a foreign origin: a sandboxed frame, whose origin is `null`, reports by postMessage. */
export function openForeign(path, signal, onEvent) {
  const witness = new Witness(onEvent);
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts");
  frame.title = "A page of a foreign origin";
  frame.tabIndex = -1;
  frame.className = "unseen";
  frame.src = `foreign.html#${encodeURIComponent(path)}`;
  const listen = ({ source, data }) => {
    if (source !== frame.contentWindow) return;
    if (data.kind === "connect") witness.note("connect", { text: asCode(path) });
    else if (data.kind === "message") witness.note("message", received(data.data));
    else witness.note(data.kind, data);
  };
  const leave = () => {
    removeEventListener("message", listen);
    frame.remove();
  };
  witness.leave = leave;
  addEventListener("message", listen);
  signal.addEventListener("abort", leave, { once: true });
  document.body.append(frame);
  return witness;
}

/**
 * Firefox makes a path that refused it wait, longer each time, and whatever else wants to connect to the host waits in
 * the queue behind it, until one attempt succeeds. So refusals take turns, and after each one attempt succeeds unseen.
 */
let turn = Promise.resolve();
export function inTurn(act, path) {
  const done = turn.then(act);
  turn = done.catch(() => {}).then(() => new Promise((resolve) => {
    const socket = new WebSocket(socketUrl(path));
    socket.onopen = () => socket.close();
    socket.onclose = resolve;
    setTimeout(resolve, PATIENCE_MS);
  }));
  return done;
}

export function socketUrl(path) {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;
}

function received(text) {
  if (typeof text !== "string") return { text: "(binary)" };
  try {
    const message = JSON.parse(text);
    return { text, message: message !== null && typeof message === "object" ? message : undefined };
  } catch {
    return { text };
  }
}

function asCode(path, protocols) {
  if (!protocols) return `new WebSocket("${path}")`;
  const offered = protocols.map((name) => JSON.stringify(name.length > 28 ? `${name.slice(0, 27)}…` : name));
  return `new WebSocket("${path}", [${offered.join(", ")}])`;
}
