// Made of clients/typescript by `just generate`.


// src/catalogue.ts
var row = (name, code, app, iana, retry, message, retryAfterMs = 0, spreadMs = 0) => ({ name, code, app, iana, retry, retryAfterMs, spreadMs, message });
var ROWS = [
  row("bad_request", 4e3, 4e3, 1008, "never", "The message could not be understood"),
  row("not_found", 4001, 4001, 1008, "never", "There is nothing of that name"),
  row("invalid_action", 4002, 4002, 1008, "never", "That is not possible in the present state"),
  row("unauthorized", 4003, 4003, 3e3, "reauthenticate", "Sign in and try again"),
  row("forbidden", 4004, 4004, 3003, "never", "You may not do that"),
  row("rate_limited", 4005, 4005, 1013, "after", "Too many requests", 1e3, 500),
  row("replaced", 4006, 4006, 1008, "never", "A newer connection took over"),
  row("slow_consumer", 4007, 4007, 1013, "backoff", "You were not reading fast enough"),
  row("kicked", 4008, 4008, 1008, "never", "You were removed"),
  row("history_lost", 4009, null, null, "never", "That position is no longer kept"),
  row("protocol_error", 1002, 1002, 1002, "never", "The WebSocket protocol was broken"),
  row("unsupported_data", 1003, 1003, 1003, "never", "Binary messages are not accepted here"),
  row("invalid_payload", 1007, 1007, 1007, "never", "The text was not UTF-8"),
  row("policy_violation", 1008, 1008, 1008, "never", "Too many errors"),
  row("message_too_big", 1009, 1009, 1009, "never", "The message was too big"),
  row("timeout", 3008, 3008, 3008, "backoff", "Nothing was heard from you in time"),
  row("internal_error", 5e3, 1011, 1011, "backoff", "Something went wrong on our side"),
  row("service_restart", 1012, 1012, 1012, "after", "The service is restarting", 1e3, 5e3),
  row("overloaded", 1013, 1013, 1013, "after", "Too busy at the moment", 5e3, 5e3),
  row("bad_gateway", 1014, 1014, 1014, "backoff", "The service behind this one failed"),
  row("gateway_timeout", 1014, 1014, 1014, "backoff", "The service behind this one did not answer in time"),
  row("going_away", 1001, 1001, 1001, "backoff", "The server is going away")
];

// src/retry.ts
var BACKOFF_BASE_MS = 1e3;
var BACKOFF_CAP_MS = 3e4;
var AFTER_CAP_MS = 36e5;
var LASTING_MS = 5e3;
var AFTER_MS = 1e3;
var RetryMachine = class {
  #state = { is: "waiting" };
  /** Endings since a session lasted. */
  #attempt = 0;
  /** What was granted since then; each is granted once. */
  #spent = /* @__PURE__ */ new Set();
  /** Takes note of an event, and answers when there is something to decide. `random` is in [0, 1), new with each call. */
  handle(nowMs, event, random) {
    const state = this.#state;
    if (state.is === "over") return void 0;
    switch (event.type) {
      case "started":
        this.#state = { is: "live" };
        return void 0;
      case "open":
        return void 0;
      case "ready":
        if (state.is === "live") state.readyAt ??= nowMs;
        return void 0;
      case "error":
      case "goodbye": {
        const isGoodbye = event.type === "goodbye";
        if (state.is !== "live" || !(isGoodbye || event.fatal)) return void 0;
        const asked = understood(isGoodbye ? "goodbye" : "message", event.said);
        if (asked) state[isGoodbye ? "goodbye" : "fatal"] = asked;
        return void 0;
      }
      case "ended":
        if (state.is !== "live") return void 0;
        if (state.readyAt !== void 0 && nowMs - state.readyAt >= LASTING_MS) {
          this.#attempt = 0;
          this.#spent.clear();
        }
        this.#attempt += 1;
        return this.#decide(state.fatal ?? state.goodbye ?? meaning(event.code), random);
      case "token_renewed":
        return state.is === "renewing" ? this.#wait(0, state.because) : void 0;
      case "token_failed":
        return state.is === "renewing" ? this.#wait(this.#backoff(random), state.because) : void 0;
      default:
        return event;
    }
  }
  #decide({ because, delayMs, spreadMs }, random) {
    const { retry } = because;
    const isFirst = !this.#spent.has(retry);
    this.#spent.add(retry);
    const backoff = this.#backoff(random);
    switch (retry) {
      case "never":
        return this.#giveUp(because);
      case "now":
        return this.#wait(isFirst ? 0 : backoff, because);
      case "backoff":
        return this.#wait(backoff, because);
      case "after": {
        const delay = Math.min(delayMs, AFTER_CAP_MS);
        const after = delay + part(Math.min(spreadMs, AFTER_CAP_MS - delay), random);
        return this.#wait(isFirst ? after : Math.max(after, backoff), because);
      }
      case "reauthenticate":
        if (!isFirst) return this.#giveUp(because);
        this.#state = { is: "renewing", because };
        return { do: "reauthenticate", because };
      default:
        return retry;
    }
  }
  #backoff(random) {
    return part(Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** (this.#attempt - 1)), random);
  }
  #wait(delayMs, because) {
    this.#state = { is: "waiting" };
    return { do: "wait", delayMs, attempt: this.#attempt, because };
  }
  #giveUp(because) {
    this.#state = { is: "over" };
    return { do: "give_up", because };
  }
};
function part(ms, random) {
  return Math.floor(random * ms);
}
function understood(source, said) {
  const row2 = rowOf(said);
  const retry = said.retry ?? row2?.retry;
  if (retry === void 0) return void 0;
  const because = { source, code: said.code, row: row2?.name ?? null, retry };
  if (said.retry === void 0 && row2) return { because, delayMs: row2.retryAfterMs, spreadMs: row2.spreadMs };
  if (said.retryAfterMs === void 0) return { because, delayMs: AFTER_MS, spreadMs: AFTER_MS };
  return { because, delayMs: said.retryAfterMs, spreadMs: said.spreadMs ?? 0 };
}
function rowOf({ name, code }) {
  return ROWS.find((row2) => name === void 0 ? row2.code === code : row2.name === name);
}
function rowOfClose(code) {
  return ROWS.find((row2) => row2.app === code) ?? ROWS.find((row2) => row2.iana === code);
}
function meaning(code) {
  const row2 = rowOfClose(code);
  if (row2) {
    const because = { source: "close_code", code, row: row2.name, retry: row2.retry };
    return { because, delayMs: row2.retryAfterMs, spreadMs: row2.spreadMs };
  }
  const isFinal = code === 1e3 || code >= 4e3 && code <= 4999;
  return { because: { source: "class", code, row: null, retry: isFinal ? "never" : "backoff" }, delayMs: 0, spreadMs: 0 };
}

// src/error.ts
var HELP = {
  connection_lost: "The network, a proxy or the server went away without a Close.",
  closed: "No row of the catalogue stands for this code: what it means is up to the server.",
  aborted: "Your signal fired; its reason is the `cause`.",
  no_answer: "Whether it was done is not known. For requests that take long there is `timeoutMs`.",
  queue_full: "Wait for answers, or for `ready`, before there is more to send.",
  token_unavailable: "The token callback failed; its error is the `cause`.",
  cannot_connect: "The platform's own error, if any, is the `cause`. A page that came over https may connect to wss: only.",
  unnamed: "The error has neither a name nor a code of the catalogue. The operator finds it by `requestId`.",
  bad_answer: "The server is none of this protocol, or of a later version."
};
var SaywhyError = class extends Error {
  /** Stable, and what people search for: `unauthorized`, `not_found`, `connection_lost`. */
  name;
  source;
  /** The catalogue's number, or that of the Close; `undefined` where this client speaks. */
  code;
  retry;
  /** With `retry` `after`: how long to wait at least. */
  retryAfterMs;
  /** Whether the connection ended with it. */
  fatal;
  /** What the operator finds it by. */
  requestId;
  /** The close code as the platform reported it, 1006 too, where it did. */
  closeCode;
  details;
  /** For the developer: what to do about it, or the page of the project that says so. */
  help;
  constructor(name, message, source, facts = {}) {
    super(message, facts.cause === void 0 ? void 0 : { cause: facts.cause });
    this.name = name;
    this.source = source;
    this.code = facts.code;
    this.retry = facts.retry ?? "never";
    this.retryAfterMs = facts.retryAfterMs;
    this.fatal = facts.fatal ?? false;
    this.requestId = facts.requestId;
    this.closeCode = facts.closeCode;
    this.details = facts.details ?? {};
    this.help = facts.help ?? HELP[name] ?? helpOnRow(name);
  }
};
function helpOnRow(name) {
  if (ROWS.some((row2) => row2.name === name)) return `catalogue/${name}.md`;
  return "A row of the server's own. The operator finds what led to it by `requestId`.";
}
function saidByServer(said, ending, { source = "server", help } = {}) {
  const row2 = rowOf(said);
  return new SaywhyError(said.name ?? row2?.name ?? "unnamed", said.message || row2?.message || "", source, {
    ...said,
    retry: ending?.retry ?? said.retry ?? row2?.retry,
    fatal: said.fatal || ending !== void 0,
    closeCode: ending?.close?.code,
    help
  });
}
function badAnswer(type) {
  return new SaywhyError("bad_answer", `The server's answer is not what ${type} is answered with`, "client");
}

// src/abort.ts
function onAbort(signal, act) {
  signal?.addEventListener("abort", act, { once: true });
  return () => signal?.removeEventListener("abort", act);
}
function aborted(signal) {
  return new SaywhyError("aborted", "It was aborted here", "client", { cause: signal?.reason });
}

// src/socket.ts
var CLOSE_MS = 5e3;
var TIMEOUT = 3008;
var Socket = class {
  #socket;
  #clock;
  #hearer;
  #isOver = false;
  #isClosing = false;
  #stopTimer = () => {
  };
  /** Throws what the platform throws when it will not even try. */
  constructor({ WebSocket, clock, url, protocols }, hearer) {
    this.#clock = clock;
    this.#hearer = hearer;
    const socket = new WebSocket(url, protocols);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => this.#isOver || hearer.opened());
    socket.addEventListener("message", ({ data }) => this.#isOver || this.#isClosing || hearer.heard(data));
    socket.addEventListener("error", () => {
    });
    socket.addEventListener("close", ({ code, reason, wasClean }) => this.#end({ code: code || 1006, reason, wasClean }));
  }
  /** We have said Close: what still arrives is not heard. */
  get isClosing() {
    return this.#isClosing;
  }
  /** The subprotocol that the server chose. */
  get protocol() {
    return this.#socket.protocol ?? "";
  }
  /** What was sent and has not left yet. */
  get bufferedBytes() {
    return this.#socket.bufferedAmount ?? 0;
  }
  send(data) {
    this.#socket.send(data);
  }
  /**
   * Begins the closing handshake. Throws on a code that the platform forbids. While it connects there is no handshake, and
   * Node from 22 on tells of the end before this returns.
   */
  close(code, reason) {
    this.#socket.close(code, reason);
    this.#isClosing = true;
    this.deadline(CLOSE_MS, "the server did not answer the Close");
  }
  /** Gives up after so long, unless there is another timer by then. */
  deadline(ms, why) {
    this.timer(ms, () => this.giveUp(why));
  }
  /** A socket waits for one thing at a time, and for nothing once it is over: a new timer takes the place of the old one. */
  timer(ms, act) {
    this.#stopTimer();
    if (!this.#isOver) this.#stopTimer = this.#clock.after(ms, act);
  }
  stopTimer() {
    this.#stopTimer();
  }
  giveUp(why) {
    this.#end(null, why);
    if (!this.#isClosing) this.#socket.close(TIMEOUT, why);
  }
  #end(close, gaveUp) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stopTimer();
    this.#hearer.ended(close, gaveUp);
  }
};

// src/wire.ts
function read(received) {
  const envelope = isText(received) ? parsed(received) : received;
  const other = (name, data2 = received) => ({ type: "other", name, data: data2 });
  if (!isFields(envelope) || !isText(envelope.type)) return other();
  const { type, data: anyData } = envelope;
  const data = isFields(anyData) ? anyData : {};
  const meta = isFields(envelope.meta) ? envelope.meta : {};
  const requestId = text(meta.request_id);
  const { room } = data;
  switch (type) {
    case "ready":
      return { type, ready: readReady(data) };
    case "ok":
      return requestId === void 0 ? other(type, anyData) : { type, requestId, data: anyData ?? null };
    case "error":
    case "goodbye":
      return { type, said: readError(data, requestId) };
    case "pong":
      return requestId === void 0 ? { type } : { type: "ok", requestId, data };
    case "message": {
      const message = readMessage(data, text(meta.timestamp));
      return message ? { type, message } : other(type, anyData);
    }
    case "joined":
    case "left": {
      const { member } = data;
      return isText(room) && isText(member) ? { type, room, member } : other(type, anyData);
    }
    case "room_closed":
    case "room_opened":
    case "degraded":
    case "restored":
      return isText(room) ? { type, room } : other(type, anyData);
    case "auth_expiring":
      return { type, expiresInMs: count(data.expires_in_ms) ?? 0 };
    default:
      return other(type, anyData);
  }
}
function readAnswer(type, data) {
  const { room, messages, members, recovered, expires_at, position: place } = isFields(data) ? data : {};
  const position = readPosition(place);
  switch (type) {
    case "join":
      if (!isText(room) || !position) return void 0;
      return { room, position, recovered: recovered === true, ...isTexts(members) ? { members } : {} };
    case "leave":
    case "open_room":
    case "close_room":
      return isText(room) ? { room } : void 0;
    case "send":
      return position && { position };
    case "history": {
      const all = Array.isArray(messages) ? messages.map((one) => isFields(one) ? readMessage(one) : void 0) : [void 0];
      return position && all.every((one) => one !== void 0) ? { messages: all, position } : void 0;
    }
    case "members":
      return isTexts(members) ? { members } : void 0;
    case "authenticate":
      return isText(expires_at) ? { expires_at } : void 0;
    default:
      return data;
  }
}
function write(type, data, requestId) {
  const meta = requestId === void 0 ? "" : `,"meta":${JSON.stringify({ request_id: requestId })}`;
  return `{"type":${JSON.stringify(type)},"data":${data}${meta}}`;
}
function isFields(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
function readPosition(value) {
  if (!isFields(value)) return void 0;
  const { epoch, tag } = value;
  const offset = count(value["offset"]);
  return isText(epoch) && isText(tag) && offset !== void 0 ? { epoch, offset, tag } : void 0;
}
function readError(data, requestId) {
  const { code, message, fatal, retry, details } = data;
  return {
    code: count(code),
    name: text(data.name),
    message: text(message) ?? "",
    fatal: fatal === true,
    retry: isRetry(retry) ? retry : void 0,
    retryAfterMs: count(data.retry_after_ms),
    spreadMs: count(data.spread_ms),
    details: isFields(details) ? details : {},
    requestId
  };
}
function readReady(data) {
  const limits = isFields(data.limits) ? data.limits : {};
  return {
    connectionId: text(data.connection_id),
    user: text(data.user),
    heartbeatMs: count(data.heartbeat_ms) ?? 0,
    limits: {
      messageBytes: count(limits.message_bytes) ?? 0,
      messagesPerS: count(limits.messages_per_s) ?? 0,
      messageBurst: count(limits.message_burst) ?? 0
    }
  };
}
function readMessage(data, timestamp = text(data.timestamp)) {
  const { room, from, body } = data;
  const position = readPosition(data.position);
  return isText(room) && isText(from) && position ? { room, position, from, body, timestamp } : void 0;
}
function parsed(json) {
  try {
    return JSON.parse(json);
  } catch {
    return void 0;
  }
}
function isRetry(value) {
  switch (value) {
    case "never":
    case "now":
    case "backoff":
    case "after":
    case "reauthenticate":
      return true;
    default:
      return false;
  }
}
function isText(value) {
  return typeof value === "string";
}
function isTexts(value) {
  return Array.isArray(value) && value.every(isText);
}
function text(value) {
  return isText(value) ? value : void 0;
}
function count(value) {
  return Number.isSafeInteger(value) && value >= 0 ? value : void 0;
}

// src/connection.ts
var READY_MS = 3e4;
var PROBE_MS = 5e3;
var Connection = class {
  #socket;
  #clock;
  #report;
  #asked = /* @__PURE__ */ new Map();
  #isOpen = false;
  #ready;
  #fatal;
  #goodbye;
  #heardAt = 0;
  #hasPinged = false;
  #probedAt = -Infinity;
  /** How many messages may be sent at once, as of `#countedAt`. */
  #allowance = 0;
  #countedAt = 0;
  /** Throws what the platform throws when it will not even try. */
  constructor(address, report) {
    this.#clock = address.clock;
    this.#report = report;
    this.#socket = new Socket(address, {
      opened: () => {
        this.#isOpen = true;
        report({ type: "open" });
      },
      heard: (data) => this.#receive(read(data)),
      ended: (close, gaveUp) => this.#end(close, gaveUp)
    });
    this.#socket.deadline(READY_MS, "the server was not ready in time");
  }
  /** A last word was said, by either side: nothing that is sent now will be answered. */
  get isEnding() {
    return this.#socket.isClosing || this.#fatal !== void 0 || this.#goodbye !== void 0;
  }
  /** What the server can take in one message, in bytes; 0 where it did not say. */
  get messageBytes() {
    return this.#ready?.limits.messageBytes ?? 0;
  }
  /** How long to wait before the next message, so that the server's rate limit is not met; 0 for not at all. */
  pauseMs() {
    const { messagesPerS = 0, messageBurst = 0 } = this.#ready?.limits ?? {};
    if (messagesPerS === 0) return 0;
    const now = this.#now();
    const earned = (now - this.#countedAt) * messagesPerS / 1e3;
    this.#allowance = Math.min(Math.max(1, messageBurst / 2), this.#allowance + earned);
    this.#countedAt = now;
    return this.#allowance >= 1 ? 0 : Math.ceil((1 - this.#allowance) * 1e3 / messagesPerS);
  }
  /** Sends a request, as text with that id in it. `answered` is called once, however it ends. */
  ask(id, text2, answered) {
    this.#asked.set(id, answered);
    this.#send(text2);
  }
  /** The answer to that request is no longer waited for. */
  forget(id) {
    this.#asked.delete(id);
  }
  close(code, reason) {
    this.#socket.close(code, reason);
  }
  /** Asks whether anybody is there. Even who was heard a moment ago: a clock may stand still while a computer sleeps. */
  probe() {
    if (!this.#ready || this.isEnding || this.#now() - this.#probedAt < PROBE_MS) return;
    this.#probedAt = this.#now();
    const isBusy = this.#asked.size > 0;
    this.#ping(isBusy ? Math.max(PROBE_MS, this.#ready.heartbeatMs) : PROBE_MS);
  }
  #send(text2) {
    this.#allowance -= 1;
    this.#socket.send(text2);
  }
  #receive(incoming) {
    this.#heardAt = this.#now();
    this.#hasPinged = false;
    switch (incoming.type) {
      case "ready":
        if (this.#ready) return;
        this.#open(incoming.ready);
        return this.#report(incoming);
      case "ok":
        return this.#answer(incoming.requestId, { ok: true, data: incoming.data });
      case "error": {
        const { said } = incoming;
        const isAnswer = said.requestId !== void 0 && this.#asked.has(said.requestId);
        if (said.fatal) {
          this.#fatal = said;
          this.#socket.deadline(CLOSE_MS, "no Close came after the last word");
        }
        if (isAnswer) this.#answer(said.requestId, { ok: false, said });
        if (!isAnswer || said.fatal) this.#report(incoming);
        return;
      }
      case "goodbye":
        this.#goodbye = incoming.said;
        return this.#report(incoming);
      case "pong":
        return;
      default:
        return this.#report(incoming);
    }
  }
  #open(ready) {
    this.#ready = ready;
    this.#allowance = ready.limits.messageBurst;
    this.#countedAt = this.#now();
    this.#socket.stopTimer();
    this.#listen();
  }
  #answer(id, answer) {
    const answered = id === void 0 ? void 0 : this.#asked.get(id);
    if (id === void 0 || !answered) return;
    this.#asked.delete(id);
    answered(answer);
  }
  /** A script does not see the server's Pings, so a quiet connection is asked whether it lives, and once only. */
  #listen() {
    const heartbeatMs = this.#ready?.heartbeatMs ?? 0;
    if (heartbeatMs === 0) return;
    const leftMs = heartbeatMs - (this.#now() - this.#heardAt);
    if (leftMs <= 0) return this.#ping(heartbeatMs);
    this.#socket.timer(leftMs, () => this.#listen());
  }
  #ping(patienceMs) {
    this.#hasPinged = true;
    this.#send(write("ping", "{}"));
    this.#socket.timer(patienceMs, () => {
      const quietMs = Math.round(this.#now() - this.#heardAt);
      if (this.#hasPinged) this.#socket.giveUp(`nothing was heard from the server for ${quietMs} ms`);
      else this.#listen();
    });
  }
  #end(close, gaveUp) {
    for (const id of [...this.#asked.keys()]) this.#answer(id, null);
    const said = this.#fatal ?? this.#goodbye;
    this.#report({ type: "ended", close, said, wasOpen: this.#isOpen, wasReady: this.#ready !== void 0, gaveUp });
  }
  #now() {
    return this.#clock.now();
  }
};

// src/events.ts
var Listeners = class {
  #all = /* @__PURE__ */ new Map();
  /** Returns what takes the listener away again. */
  add(event, listener) {
    const own = (info) => listener(info);
    const listeners = this.#all.get(event) ?? /* @__PURE__ */ new Set();
    this.#all.set(event, listeners);
    listeners.add(own);
    return () => void listeners.delete(own);
  }
  tell(event, info) {
    for (const listener of [...this.#all.get(event) ?? []]) {
      try {
        listener(info);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
};

// src/explain.ts
function explain(ended, retry, circumstances) {
  const { said, close, wasReady, gaveUp } = ended;
  const { diagnosis } = circumstances;
  if (said) return saidByServer(said, { close, retry });
  if (diagnosis?.said) return saidByServer(diagnosis.said, { close, retry }, { source: "http", help: diagnosis.help });
  if (close && close.code !== 1006 && close.code !== 1015) return saidByClose(close.code, close.reason, retry);
  const message = gaveUp ? `The connection was given up: ${gaveUp}` : wasReady ? "The connection was lost" : "No connection could be made";
  const code = close?.code ?? 1006;
  const help = helpOn(ended, circumstances);
  return new SaywhyError("connection_lost", message, "network", { code, retry, fatal: true, closeCode: close?.code, help });
}
function saidByClose(code, reason, retry) {
  const row2 = rowOfClose(code);
  const message = reason || row2?.message || `The server closed the connection (${code})`;
  const retryAfterMs = retry === "after" ? row2?.retryAfterMs : void 0;
  return new SaywhyError(row2?.name ?? "closed", message, "close", { code, retry, retryAfterMs, fatal: true, closeCode: code });
}
function helpOn({ wasOpen, wasReady }, { url, isOnline, diagnosis }) {
  if (wasReady) return void 0;
  if (wasOpen) return "The handshake was answered, but nobody said `ready`. If the server does not speak saywhy.v1: connectPlain().";
  const { protocol, origin } = globalThis.location ?? {};
  const hints = [
    diagnosis?.help ?? "To a script a refused handshake, a server that is down and a cable that was cut look the same. Look at the network panel and the server's log, or pass `diagnose`. A server that does not know saywhy.v1 needs connectPlain()."
  ];
  if (!isOnline) hints.push("The platform says that it is offline.");
  if (protocol === "https:" && url.startsWith("ws:")) hints.push("The page came over https: it may connect to wss: only.");
  if (origin === "null") hints.push("The page is a file or in a sandbox: its origin is null, which servers refuse.");
  return hints.join(" ");
}

// src/lifeline.ts
var TOKEN_MS = 3e4;
var DIAGNOSIS_MS = 5e3;
var HIDDEN_MS = 6e4;
var WAKE_MS = 100;
var WAKE_SPREAD_MS = 1e3;
var WAKE_EVERY_MS = 1e4;
var SUBPROTOCOL = /^[\w!#$%&'*+.^`|~-]+$/;
var Lifeline = class {
  closed;
  /** Fires at the end. */
  signal;
  #line;
  #speaker;
  #listeners = new Listeners();
  #retry = new RetryMachine();
  #abort = new AbortController();
  #state = "connecting";
  #link;
  #session;
  #waiting;
  #stopTimer = () => {
  };
  #token;
  #hiddenAtMs;
  #wokeAtMs = -Infinity;
  /** Of the attempts in a row that never opened, the first is looked into. */
  #mayDiagnose = true;
  /** Why it ends: set by `close()`, while the closing handshake is under way. */
  #farewell;
  #ending;
  #readers = [];
  #resolveClosed;
  constructor(line2, speaker) {
    this.#line = line2;
    this.#speaker = speaker;
    this.signal = this.#abort.signal;
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
  }
  /** Makes the first connection. */
  begin() {
    const { signal, platform } = this.#line;
    const leave = () => this.#leave(aborted(signal), 1e3, "");
    if (signal?.aborted) return leave();
    const undo = [
      onAbort(signal, leave),
      platform.network.onOnline(() => this.#wake()),
      platform.page.onChange(() => this.#pageChanged())
    ];
    onAbort(this.signal, () => undo.forEach((act) => act()));
    if (platform.page.isHidden()) this.#hiddenAtMs = this.#now();
    void this.#connect();
  }
  get state() {
    return this.#state;
  }
  /** Why nothing can be said any more, once it is so. */
  get farewell() {
    return this.#farewell;
  }
  ready(signal) {
    if (this.#session) return Promise.resolve(this.#session);
    if (this.#ending) return Promise.reject(this.#ending.cause);
    if (signal?.aborted) return Promise.reject(aborted(signal));
    let undo = () => {
    };
    const ready = new Promise((resolve, reject) => {
      const reader = { resolve, reject };
      this.#readers.push(reader);
      undo = onAbort(signal, () => {
        this.#readers = this.#readers.filter((other) => other !== reader);
        reject(aborted(signal));
      });
    });
    return ready.finally(() => undo());
  }
  on(event, listener, signal) {
    if (signal?.aborted) return () => {
    };
    const undo = this.#listeners.add(event, listener);
    onAbort(signal, undo);
    return undo;
  }
  tell(event, info) {
    this.#listeners.tell(event, info);
  }
  close(code, reason) {
    const help = "Nothing is wrong: close() was called.";
    this.#leave(new SaywhyError("closed", "The connection was closed here", "client", { fatal: true, help }), code, reason);
    return this.closed;
  }
  // ---- what the speaker reports ------------------------------------------------------------------------------------
  opened() {
    this.#note({ type: "open" });
    this.#become("authenticating", {});
  }
  isReady(ready) {
    this.#session = ready;
    this.#note({ type: "ready" });
    for (const { resolve } of this.#readers.splice(0)) resolve(ready);
    this.#become("ready", ready);
    if (this.#session === ready && !this.#farewell) this.#speaker.arrived(ready);
  }
  /** The server has said what its end of the connection means. */
  said(type, said) {
    this.#note({ type, said, fatal: said.fatal });
  }
  ended(ended) {
    this.#link = void 0;
    this.#session = void 0;
    this.#speaker.gone();
    const { diagnose: diagnose2 } = this.#line;
    const mayDiagnose = this.#mayDiagnose;
    this.#mayDiagnose = ended.wasOpen;
    if (this.#farewell || ended.wasOpen || !diagnose2 || !mayDiagnose) return this.#afterwards(ended);
    void this.#look(diagnose2, ended);
  }
  // ---- one connection after the other ------------------------------------------------------------------------------
  async #connect() {
    this.#waiting = void 0;
    this.#note({ type: "started" });
    this.#become("connecting", {});
    if (this.#farewell) return;
    if (this.#line.token && this.#token === void 0) {
      const failure = await this.renewToken("connect");
      if (this.#farewell) return;
      if (failure) return this.#decide({ type: "ended", code: 1006 }, () => failure, null);
    }
    const { url, platform } = this.#line;
    const { WebSocket, clock } = platform;
    if (!WebSocket) return this.#cannotConnect("There is no WebSocket on this platform: pass one as an option");
    const token = this.#token;
    if (token && !SUBPROTOCOL.test(token)) return this.#cannotConnect("The token has characters that no token may have");
    const protocols = [...this.#line.protocols, ...token ? [`saywhy.bearer.${token}`] : []];
    try {
      this.#link = this.#speaker.dial({ url, protocols, WebSocket, clock });
    } catch (cause) {
      this.#cannotConnect("The platform refuses to make this connection", cause);
    }
  }
  /** The same again would fail in the same way. */
  #cannotConnect(message, cause) {
    this.#finish(new SaywhyError("cannot_connect", message, "client", { fatal: true, cause }), null);
  }
  /** Asks the same address over HTTP why it could not be connected to, where somebody wants to know. */
  async #look(diagnose2, ended) {
    const { url } = this.#line;
    const diagnosis = await this.#within(DIAGNOSIS_MS, (signal) => diagnose2(url, signal)).catch(() => void 0);
    if (diagnosis?.said && !this.#farewell) this.#note({ type: "error", said: diagnosis.said, fatal: true });
    this.#afterwards(ended, diagnosis);
  }
  #afterwards(ended, diagnosis) {
    const { close } = ended;
    if (this.#farewell) return this.#finish(this.#farewell, close);
    const { url, platform } = this.#line;
    const isOnline = platform.network.isOnline();
    const explained = (retry) => explain(ended, retry, { url, isOnline, diagnosis });
    this.#decide({ type: "ended", code: close?.code ?? 1006 }, explained, close);
  }
  #decide(event, explained, close) {
    const decision = this.#retry.handle(this.#now(), event, this.#line.platform.random());
    if (!decision) return;
    const { because } = decision;
    const cause = explained(because.retry);
    switch (decision.do) {
      case "wait": {
        const { attempt, delayMs } = decision;
        this.#waiting = { because, cause, attempt, untilMs: this.#now() + delayMs };
        return this.#hold();
      }
      case "reauthenticate":
        return void this.#reauthenticate(cause, close);
      case "give_up":
        return this.#finish(cause, close);
      default:
        decision;
    }
  }
  async #reauthenticate(cause, close) {
    if (!this.#line.token) return this.#finish(cause, close);
    this.#become("authenticating", {});
    const failure = await this.renewToken("refused");
    if (this.#farewell) return;
    this.#decide({ type: failure ? "token_failed" : "token_renewed" }, () => failure ?? cause, close);
  }
  // ---- waiting, and waking -----------------------------------------------------------------------------------------
  /** Connects as soon as it is time, there is a network, and somebody looks. */
  #hold() {
    const waiting = this.#waiting;
    if (!waiting) return;
    this.#stopTimer();
    const { cause, attempt, untilMs } = waiting;
    if (!this.#line.platform.network.isOnline()) {
      if (this.#state !== "offline") this.#become("offline", { cause, attempt });
      return;
    }
    const delayMs = this.#isUnseen ? Infinity : Math.max(0, Math.round(untilMs - this.#now()));
    if (delayMs < Infinity) {
      this.#stopTimer = this.#after(delayMs, () => this.#isHeld ? this.#hold() : void this.#connect());
    }
    this.#become("waiting", { cause, delayMs, attempt });
  }
  get #isUnseen() {
    return this.#now() - (this.#hiddenAtMs ?? Infinity) >= HIDDEN_MS;
  }
  /** No timer runs, or it would lead to nothing. */
  get #isHeld() {
    return this.#isUnseen || !this.#line.platform.network.isOnline();
  }
  #pageChanged() {
    if (this.#line.platform.page.isHidden()) this.#hiddenAtMs ??= this.#now();
    else this.#wake();
  }
  /** The network is back, or somebody looks again. */
  #wake() {
    const wasHeld = this.#state === "offline" || this.#isUnseen;
    if (!this.#line.platform.page.isHidden()) this.#hiddenAtMs = void 0;
    const waiting = this.#waiting;
    if (!waiting) return this.#link?.probe();
    if (this.#isHeld) return this.#hold();
    const now = this.#now();
    const soonMs = now + WAKE_MS + Math.floor(this.#line.platform.random() * WAKE_SPREAD_MS);
    const mayHurry = waiting.because.retry !== "after" && now - this.#wokeAtMs >= WAKE_EVERY_MS;
    if (mayHurry && soonMs < waiting.untilMs) {
      this.#wokeAtMs = now;
      waiting.untilMs = soonMs;
    } else if (!wasHeld) return;
    if (wasHeld) waiting.untilMs = Math.max(waiting.untilMs, soonMs);
    this.#hold();
  }
  // ---- the end -----------------------------------------------------------------------------------------------------
  /** The polite end. It is over when the server has confirmed it, or has had its time. */
  #leave(cause, code, reason) {
    if (this.#farewell) return;
    this.#farewell = cause;
    try {
      this.#link?.close(code, reason);
    } catch (refusal) {
      this.#farewell = void 0;
      throw refusal;
    }
    this.#bid(cause);
    if (!this.#link) this.#finish(cause, null);
  }
  #finish(cause, close) {
    if (this.#ending) return;
    const ending = { cause, close };
    this.#ending = ending;
    this.#bid(cause);
    for (const { reject } of this.#readers.splice(0)) reject(cause);
    this.#resolveClosed(ending);
    this.#become("closed", ending);
  }
  #bid(cause) {
    if (this.signal.aborted) return;
    this.#farewell = cause;
    this.#stopTimer();
    this.#abort.abort(cause);
    this.#speaker.over(cause);
  }
  // ---- what it all needs -------------------------------------------------------------------------------------------
  /** Returns what went wrong; the old token is kept then. */
  async renewToken(reason) {
    try {
      this.#token = await this.#within(TOKEN_MS, (signal) => this.#line.token?.({ reason, signal }));
      return void 0;
    } catch (cause) {
      return new SaywhyError("token_unavailable", "There is no token to connect with", "client", { retry: "backoff", cause });
    }
  }
  /** The token that the next connection is made with. */
  get token() {
    return this.#token;
  }
  /** What somebody else answers, as long as this client is not closed. */
  async #within(ms, ask) {
    this.signal.throwIfAborted();
    const controller = new AbortController();
    const { signal } = controller;
    const undo = onAbort(this.signal, () => controller.abort(this.signal.reason));
    const stopTimer = this.#after(ms, () => controller.abort(new Error(`no answer came within ${ms} ms`)));
    try {
      return await new Promise((resolve, reject) => {
        onAbort(signal, () => reject(signal.reason));
        Promise.resolve(ask(signal)).then(resolve, reject);
      });
    } finally {
      undo();
      stopTimer();
    }
  }
  #note(event) {
    this.#retry.handle(this.#now(), event, 0);
  }
  #become(state, info) {
    const previous = this.#state;
    this.#state = state;
    const listeners = this.#listeners;
    if (state !== previous) listeners.tell("state", { state, previous });
    if (this.#state === state) listeners.tell(state, info);
  }
  #after(ms, act) {
    return this.#line.platform.clock.after(ms, act);
  }
  #now() {
    return this.#line.platform.clock.now();
  }
};

// src/outgoing.ts
var LIMIT = 256;
var LIMIT_BYTES = 1048576;
var KEY_MS = 3e5;
var Request = class {
  /** Throws a `TypeError` on data that is no JSON. What the caller does to `data` afterwards changes nothing. */
  constructor(id, type, data) {
    this.id = id;
    this.type = type;
    const fields = isFields(data) ? data : {};
    const isKeyed = type === "send" && fields.idempotency_key === void 0;
    const json = JSON.stringify(isKeyed ? { ...fields, idempotency_key: id } : data) ?? "{}";
    this.text = write(type, json, id);
    this.bytes = new TextEncoder().encode(this.text).length;
    this.room = typeof fields.room === "string" ? fields.room : void 0;
    this.since = readPosition(fields.since);
    this.reply = new Promise((resolve) => this.#resolve = resolve);
  }
  id;
  type;
  text;
  bytes;
  /** The room, and the place in it, that a `join`, `leave` or `send` names. */
  room;
  since;
  reply;
  sentAtMs;
  isSettled = false;
  #resolve;
  settle(reply) {
    this.isSettled = true;
    this.#resolve(reply);
  }
  fail(error) {
    this.settle({ ok: false, error });
  }
  /** Whether it does no harm to send it a second time. */
  mayRepeat(nowMs) {
    if (this.type === "send") return nowMs - (this.sentAtMs ?? nowMs) < KEY_MS;
    return this.type === "join";
  }
};
var Outgoing = class {
  #waiting = [];
  #sent = /* @__PURE__ */ new Set();
  #bytes = 0;
  /** False when there is no place for it. */
  add(request) {
    if (this.#waiting.length + this.#sent.size >= LIMIT || this.#bytes + request.bytes > LIMIT_BYTES) return false;
    this.#bytes += request.bytes;
    this.#waiting.push(request);
    return true;
  }
  /** The next one to send. */
  get next() {
    return this.#waiting[0];
  }
  /** The next one is being sent. */
  sent(nowMs) {
    const request = this.#waiting.shift();
    if (!request) return;
    request.sentAtMs ??= nowMs;
    this.#sent.add(request);
  }
  /** It was answered, or nobody waits for it any more. */
  remove(request) {
    const before = this.#waiting.length + this.#sent.size;
    this.#sent.delete(request);
    this.#waiting = this.#waiting.filter((other) => other !== request);
    if (this.#waiting.length + this.#sent.size < before) this.#bytes -= request.bytes;
  }
  /** The connection is gone: what may be sent again waits in front, in its old order. Returns what may not. */
  rewind(nowMs) {
    const sent = [...this.#sent];
    this.#waiting.unshift(...sent.filter((request) => request.mayRepeat(nowMs)));
    this.#sent.clear();
    const lost = sent.filter((request) => !request.mayRepeat(nowMs));
    for (const request of lost) this.#bytes -= request.bytes;
    return lost;
  }
  /** Empties it. */
  takeAll() {
    const all = [...this.#sent, ...this.#waiting];
    this.#waiting = [];
    this.#sent.clear();
    this.#bytes = 0;
    return all;
  }
};

// src/inbox.ts
var LIMIT2 = 1024;
var Inbox = class {
  #messages = [];
  #readers = [];
  #isOver = false;
  #onSpace;
  /** `onSpace` runs when an inbox that was full is half empty again. */
  constructor(onSpace) {
    this.#onSpace = onSpace;
  }
  get hasSpace() {
    return this.#messages.length < LIMIT2;
  }
  push(message) {
    const reader = this.#readers.shift();
    if (reader) reader({ done: false, value: message });
    else this.#messages.push(message);
  }
  next() {
    const value = this.#messages.shift();
    if (value) {
      if (this.#messages.length === LIMIT2 / 2) this.#onSpace();
      return Promise.resolve({ done: false, value });
    }
    if (this.#isOver) return Promise.resolve({ done: true, value: void 0 });
    return new Promise((resolve) => this.#readers.push(resolve));
  }
  /** What is here can still be read; then it is over. */
  end() {
    this.#isOver = true;
    for (const reader of this.#readers.splice(0)) reader({ done: true, value: void 0 });
  }
};

// src/seat.ts
var Seat = class {
  /** Of the last message that was taken; `undefined` until there is a place to go on from. */
  position;
  /** Whether a join was ever answered with `ok`: only then is it this client's business to come back. */
  isGranted = false;
  /** The join that is under way: from now on, or from `position`. */
  #join;
  /** Where the log was when the last resume was granted: up to there messages are on their way. */
  #top;
  /** Messages had to be passed over because nobody reads. */
  #isBehind = false;
  /** The server has said that it lost entries, so the next message need not follow. */
  #mayJump = false;
  /** Where a gap was found last. A server that leaves it when asked again has lost what was there. */
  #gapAt;
  /** A join is being sent. */
  joining(since) {
    this.#join = since ? "resume" : "fresh";
    this.position = since ?? this.position;
    this.#top = void 0;
    this.#isBehind = false;
  }
  joined(position) {
    if (this.#join === "resume") this.#top = position;
    else if (this.position?.epoch !== position.epoch || this.position.offset < position.offset) this.position = position;
    this.#join = void 0;
    this.isGranted = true;
  }
  /** The join was not even looked at, which changes nothing. */
  notJoined() {
    this.#join = void 0;
  }
  /** The server lost entries, and one is still in the room. */
  mayJump() {
    this.#mayJump = true;
  }
  /** Messages were passed over, and can be asked for now. */
  get isBehind() {
    return this.#isBehind && this.#join === void 0;
  }
  /** Decides about the message at a position. Without space for it, it is asked for again later. */
  receive(position, hasSpace) {
    if (this.#isBehind) return "skip";
    const verdict = this.#judge(position);
    if (verdict === "repair") this.#gapAt = this.position;
    if (verdict === "skip" || verdict === "repair") return verdict;
    if (!hasSpace) {
      this.#isBehind = true;
      return "skip";
    }
    this.position = position;
    this.#mayJump = false;
    return verdict;
  }
  #judge({ epoch, offset }) {
    const last = this.position;
    const mayBeAnything = last === void 0 || this.#join === "fresh" || this.#mayJump;
    if (last?.epoch !== epoch) return mayBeAnything ? "take" : "lost";
    if (offset <= last.offset) return "skip";
    if (offset === last.offset + 1 || mayBeAnything) return "take";
    const comesAgain = this.#join === "resume" || this.#top?.epoch === epoch && offset <= this.#top.offset;
    if (comesAgain) return "skip";
    return this.#gapAt === last ? "lost" : "repair";
  }
};

// src/rooms.ts
var REJOIN_MS = 1e3;
var Rooms = class {
  inbox = new Inbox(() => this.#catchUp());
  #host;
  #seats = /* @__PURE__ */ new Map();
  /** Of the joins that are to be tried again. */
  #timers = /* @__PURE__ */ new Set();
  constructor(host) {
    this.#host = host;
  }
  /** Somebody's join is being sent. */
  joining(room, since) {
    const seat = this.#seats.get(room) ?? new Seat();
    this.#seats.set(room, seat);
    seat.joining(since);
  }
  joined(room, position) {
    this.#seats.get(room)?.joined(position);
    this.#catchUp();
  }
  /** Somebody's join was answered with an error. Where one was, one still is, unless the server had begun. */
  refused(room, name) {
    const seat = this.#seats.get(room);
    const hadNotBegun = name === "bad_request" || name === "forbidden" || name === "rate_limited";
    if (seat?.isGranted && hadNotBegun) seat.notJoined();
    else this.#seats.delete(room);
  }
  left(room) {
    this.#seats.delete(room);
  }
  /** Entries of a room were lost to the server; one is still in it. */
  lost(room, error) {
    this.#seats.get(room)?.mayJump();
    this.#tellLost(room, error);
  }
  receive(message) {
    const { room, position } = message;
    const verdict = this.#seats.get(room)?.receive(position, this.inbox.hasSpace) ?? "skip";
    switch (verdict) {
      case "take":
        return this.inbox.push(message);
      case "skip":
        return;
      case "repair":
        return this.#rejoin(room);
      case "lost": {
        const words = "Messages are missing: the server went on without them";
        this.#tellLost(room, new SaywhyError("history_lost", words, "client", { code: 4009 }));
        return this.inbox.push(message);
      }
      default:
        verdict;
    }
  }
  /** Comes back to every room over a new connection, each from where one was; then calls `done`. */
  comeBack(done) {
    for (const [room, seat] of this.#seats) if (!seat.isGranted) this.#seats.delete(room);
    let left = this.#seats.size;
    if (left === 0) return done();
    for (const room of [...this.#seats.keys()]) this.#rejoin(room, () => --left || done());
  }
  /** The connection is gone. */
  gone() {
    for (const stop of this.#timers) stop();
    this.#timers.clear();
  }
  /** `done` is called when the server has said yes, or no for now. */
  #rejoin(room, done) {
    const seat = this.#seats.get(room);
    const since = seat?.position;
    seat?.joining(since);
    this.#host.ask("join", { room, since }, (answer) => {
      if (!answer) return;
      if (answer.ok) this.#isBack(room, answer.data, done !== void 0);
      else if (answer.said.name === "history_lost" && seat && since) {
        seat.position = void 0;
        this.#tellLost(room, saidByServer(answer.said));
        return this.#rejoin(room, done);
      } else this.#isNotBack(room, saidByServer(answer.said));
      done?.();
    });
  }
  #isBack(room, data, isNews) {
    const answer = readAnswer("join", data);
    if (!answer) return this.#lose(room, badAnswer("join"));
    this.joined(room, answer.position);
    if (isNews) this.#host.tell("rejoined", { room, recovered: answer.recovered, members: answer.members });
  }
  #isNotBack(room, error) {
    if (error.retry === "never" || error.retry === "reauthenticate") return this.#lose(room, error);
    const delayMs = (error.retryAfterMs ?? REJOIN_MS) + this.#host.random() * REJOIN_MS;
    const stop = this.#host.after(delayMs, () => {
      this.#timers.delete(stop);
      if (this.#seats.has(room)) this.#rejoin(room, () => {
      });
    });
    this.#timers.add(stop);
  }
  #lose(room, error) {
    this.#seats.delete(room);
    this.#host.tell("room_lost", { room, error });
  }
  #tellLost(room, error) {
    const { reason } = error.details;
    this.#host.tell("history_lost", { room, reason: typeof reason === "string" ? reason : void 0, error });
  }
  /** Asks for what was passed over while nobody read. */
  #catchUp() {
    if (!this.inbox.hasSpace) return;
    for (const [room, seat] of this.#seats) if (seat.isBehind) this.#rejoin(room);
  }
};

// src/client.ts
var REQUEST_MS = 3e4;
var Client = class {
  #platform;
  #life;
  #rooms;
  #outgoing = new Outgoing();
  /** So that ids of different clients differ in the server's log. */
  #prefix;
  #connection;
  /** What sends requests of this client's own: they go ahead of what waits, and are never sent twice. */
  #own = [];
  /** Whether what waits goes out: the session is ready, and the rooms are joined again. */
  #isFlowing = false;
  #lastId = 0;
  /** Of the next message that the rate limit permits. */
  #stopPause;
  constructor(line2) {
    const { clock, random } = line2.platform;
    this.#platform = line2.platform;
    this.#prefix = Math.floor(random() * 36 ** 8).toString(36);
    this.#life = new Lifeline(line2, {
      dial: (address) => this.#connection = new Connection(address, (report) => this.#hear(report)),
      arrived: () => this.#arrived(),
      gone: () => this.#gone(),
      over: (cause) => this.#over(cause)
    });
    this.#rooms = new Rooms({
      ask: (type, data, answered) => this.#ask(type, data, answered),
      tell: (event, info) => this.#life.tell(event, info),
      after: (ms, act) => clock.after(ms, act),
      random
    });
    this.#life.begin();
  }
  /** Resolves when it is over for good, and never rejects. */
  get closed() {
    return this.#life.closed;
  }
  get state() {
    return this.#life.state;
  }
  /**
   * Resolves as soon as the server says `ready`, at once when it has. Rejects with a `SaywhyError` when the connection is
   * refused for good; while there will be another attempt it waits, and `waiting` says why.
   */
  ready({ signal } = {}) {
    return this.#life.ready(signal);
  }
  /**
   * Asks the server for something; without a connection it waits for one. Whatever the answer is, the promise resolves; it
   * rejects only with a `TypeError`, on data that is no JSON.
   *
   * A `join` or a `send` whose answer was lost with the connection is sent again. Of any other request nobody knows then
   * whether it was done, and it is answered with `connection_lost`.
   */
  async request(type, ...[data, options = {}]) {
    const request = this.#submit(type, data, { timeoutMs: REQUEST_MS, ...options });
    const reply = request instanceof SaywhyError ? { ok: false, error: request } : await request.reply;
    return reply;
  }
  /**
   * Says something in a room, once: it waits for a connection as long as it takes, and is sent again when its answer was
   * lost. Throws a `SaywhyError` when it cannot even be queued, so that nothing is dropped in silence.
   */
  send(room, body, options = {}) {
    const request = this.#submit("send", { room, body }, options);
    if (request instanceof SaywhyError) throw request;
    const status = request.sentAtMs === void 0 ? "queued" : "sent";
    return { status, reply: request.reply };
  }
  /** Calls `listener` with every `event` until the function that this returns is called, or `signal` fires. */
  on(event, listener, { signal } = {}) {
    return this.#life.on(event, listener, signal);
  }
  /**
   * Ends the connection for good. `code` is 1000 or 3000–4999 and `reason` at most 123 bytes; the platform throws at
   * anything else.
   */
  close(code = 1e3, reason = "") {
    return this.#life.close(code, reason);
  }
  /**
   * Messages of all rooms, across reconnects, each room's in order and once. Ends when the client is closed. There is one
   * queue: of two loops, each gets a part. When nobody reads, the rest stays with the server and is asked for later.
   */
  async *[Symbol.asyncIterator]() {
    for (; ; ) {
      const { done, value } = await this.#rooms.inbox.next();
      if (done) return void 0;
      yield value;
    }
  }
  // ---- one connection after the other ------------------------------------------------------------------------------
  #hear(report) {
    const life = this.#life;
    switch (report.type) {
      case "open":
        return life.opened();
      case "ready":
        return life.isReady(report.ready);
      case "error": {
        const { said } = report;
        life.said("error", said);
        if (said.fatal) return;
        const error = saidByServer(said);
        const { room } = said.details;
        if (said.name === "history_lost" && typeof room === "string") return this.#rooms.lost(room, error);
        return life.tell("error", { error });
      }
      case "goodbye":
        life.said("goodbye", report.said);
        return life.tell("goodbye", { error: saidByServer(report.said) });
      case "ended":
        return life.ended(report);
      case "message":
        return this.#rooms.receive(report.message);
      case "joined":
      case "left":
        return life.tell(report.type, { room: report.room, member: report.member });
      case "room_closed":
      case "room_opened":
      case "degraded":
      case "restored":
        return life.tell(report.type, { room: report.room });
      case "auth_expiring":
        return void this.#renewInPlace();
      case "other":
        return life.tell("other", { type: report.name, data: report.data });
      default:
        report;
    }
  }
  #arrived() {
    this.#rooms.comeBack(() => {
      this.#isFlowing = true;
      this.#flush();
    });
  }
  #gone() {
    this.#connection = void 0;
    this.#own = [];
    this.#isFlowing = false;
    this.#rooms.gone();
    this.#stopPause?.();
    this.#stopPause = void 0;
    for (const request of this.#outgoing.rewind(this.#platform.clock.now())) this.#lost(request);
  }
  #lost(request) {
    if (request.type === "leave") return request.settle({ ok: true, data: { room: request.room } });
    const message = "The connection was lost before the answer came: nobody knows whether it was done";
    request.fail(new SaywhyError("connection_lost", message, "network", { code: 1006, retry: "backoff" }));
  }
  #over(cause) {
    for (const request of this.#outgoing.takeAll()) request.fail(cause);
    this.#rooms.inbox.end();
  }
  async #renewInPlace() {
    const failure = await this.#life.renewToken("expiring");
    if (this.#life.farewell) return;
    if (failure) return this.#life.tell("error", { error: failure });
    this.#ask("authenticate", { token: this.#life.token }, (answer) => {
      if (answer && !answer.ok && !answer.said.fatal) this.#life.tell("error", { error: saidByServer(answer.said) });
    });
  }
  // ---- requests ------------------------------------------------------------------------------------------------------
  #submit(type, data, { signal, timeoutMs }) {
    const { farewell } = this.#life;
    if (farewell) return farewell;
    if (signal?.aborted) return aborted(signal);
    const request = new Request(this.#id(), type, data);
    if (this.#isTooBig(request)) return tooBig(request);
    if (!this.#outgoing.add(request)) {
      return new SaywhyError("queue_full", "Too much is waiting to be sent", "client", { retry: "backoff" });
    }
    const giveUp = (error) => {
      if (request.isSettled) return;
      this.#outgoing.remove(request);
      if (type !== "join") this.#connection?.forget(request.id);
      request.fail(error);
    };
    const undo = onAbort(signal, () => giveUp(aborted(signal)));
    const stopTimer = timeoutMs === void 0 ? void 0 : this.#platform.clock.after(timeoutMs, () => {
      giveUp(new SaywhyError("no_answer", `No answer came within ${timeoutMs} ms`, "client", { retry: "backoff" }));
    });
    void request.reply.then(() => {
      stopTimer?.();
      undo();
    });
    this.#flush();
    return request;
  }
  /** Sends what this client needs itself, then what waits, as fast as the server permits. */
  #flush() {
    const connection = this.#connection;
    while (connection && !connection.isEnding && !this.#stopPause) {
      const hasOwn = this.#own.length > 0;
      const request = this.#isFlowing && !hasOwn ? this.#outgoing.next : void 0;
      if (!hasOwn && !request) return;
      if (request && this.#isTooBig(request)) {
        this.#outgoing.remove(request);
        request.fail(tooBig(request));
        continue;
      }
      const pauseMs = connection.pauseMs();
      if (pauseMs > 0) {
        this.#stopPause = this.#platform.clock.after(pauseMs, () => {
          this.#stopPause = void 0;
          this.#flush();
        });
        return;
      }
      if (request) this.#send(connection, request);
      else this.#own.shift()?.(connection);
    }
  }
  #send(connection, request) {
    this.#outgoing.sent(this.#platform.clock.now());
    const { id, type, text: text2, room, since } = request;
    if (type === "join" && room !== void 0) this.#rooms.joining(room, since);
    if (type === "leave" && room !== void 0) this.#rooms.left(room);
    connection.ask(id, text2, (answer) => answer && this.#answered(request, answer));
  }
  #answered(request, answer) {
    this.#outgoing.remove(request);
    const { type, room } = request;
    if (!answer.ok) {
      if (type === "join" && room !== void 0) this.#rooms.refused(room, answer.said.name);
      return request.fail(saidByServer(answer.said));
    }
    const data = readAnswer(type, answer.data);
    if (data === void 0) return request.fail(badAnswer(type));
    if (type === "join") {
      const { room: room2, position } = data;
      this.#rooms.joined(room2, position);
    }
    request.settle({ ok: true, data });
  }
  /** A request of this client's own. */
  #ask(type, data, answered) {
    if (this.state !== "ready") return;
    const id = this.#id();
    const text2 = write(type, JSON.stringify(data), id);
    this.#own.push((connection) => connection.ask(id, text2, answered));
    this.#flush();
  }
  #isTooBig({ bytes }) {
    const limit = this.#connection?.messageBytes ?? 0;
    return limit > 0 && bytes > limit;
  }
  #id() {
    return `${this.#prefix}-${++this.#lastId}`;
  }
};
function tooBig({ bytes }) {
  const message = `The message has ${bytes} bytes, and the server takes fewer`;
  return new SaywhyError("message_too_big", message, "client", { code: 1009 });
}

// src/plain.ts
var OPEN_MS = 3e4;
var LIMIT3 = 256;
var LIMIT_BYTES2 = 1048576;
var PlainClient = class {
  #life;
  #socket;
  #isReady = false;
  #queue = [];
  #queuedBytes = 0;
  /** The last message, if it is a fatal error in the words of this protocol: a gateway's, in front of the server. */
  #lastWord;
  constructor(line2) {
    this.#life = new Lifeline(line2, {
      dial: (address) => this.#dial(address),
      arrived: () => this.#flush(),
      gone: () => this.#gone(),
      over: () => this.#queue = []
    });
    this.#life.begin();
  }
  /** Resolves when it is over for good, and never rejects. */
  get closed() {
    return this.#life.closed;
  }
  get state() {
    return this.#life.state;
  }
  /**
   * Resolves as soon as the connection is open, at once when it is. Rejects with a `SaywhyError` when it is refused for
   * good; while there will be another attempt it waits, and `waiting` says why.
   */
  ready({ signal } = {}) {
    return this.#life.ready(signal);
  }
  /** Calls `listener` with every `event` until the function that this returns is called, or `signal` fires. */
  on(event, listener, { signal } = {}) {
    return this.#life.on(event, listener, signal);
  }
  /**
   * Hands data to the platform, or keeps it for the next connection: what listeners of `ready` write goes ahead of it.
   * Nobody knows whether what was sent has arrived. Throws a `SaywhyError` when there is no place left for it.
   */
  write(data) {
    const { farewell } = this.#life;
    if (farewell) throw farewell;
    const bytes = sizeOf(data);
    const socket = this.#isReady ? this.#socket : void 0;
    const isFull = socket ? socket.bufferedBytes + bytes > LIMIT_BYTES2 : this.#queue.length >= LIMIT3 || this.#queuedBytes + bytes > LIMIT_BYTES2;
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
  close(code = 1e3, reason = "") {
    return this.#life.close(code, reason);
  }
  #dial(address) {
    const socket = new Socket(address, {
      opened: () => this.#opened(socket),
      heard: (data) => this.#hear(data),
      ended: (close, gaveUp) => this.#ended(close, gaveUp)
    });
    this.#socket = socket;
    socket.deadline(OPEN_MS, "the server did not answer the handshake in time");
    return { close: (code, reason) => socket.close(code, reason), probe: () => {
    } };
  }
  #opened(socket) {
    socket.stopTimer();
    this.#isReady = true;
    this.#life.isReady({ protocol: socket.protocol });
  }
  #hear(data) {
    const incoming = read(data);
    const said = incoming.type === "error" && incoming.said.fatal ? incoming.said : void 0;
    this.#lastWord = said?.code !== void 0 && said.requestId !== void 0 ? said : void 0;
    this.#life.tell("data", data);
  }
  #ended(close, gaveUp) {
    const said = close && close.code !== 1006 ? this.#lastWord : void 0;
    const wasReady = this.#isReady;
    if (said) this.#life.said("error", said);
    this.#life.ended({ type: "ended", close, said, wasOpen: wasReady, wasReady, gaveUp });
  }
  #gone() {
    this.#socket = void 0;
    this.#isReady = false;
    this.#lastWord = void 0;
  }
  #flush() {
    const queue = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    for (const data of queue) this.#socket?.send(data);
  }
};
function sizeOf(data) {
  return typeof data === "string" ? new TextEncoder().encode(data).length : data.byteLength;
}

// src/platform.ts
var systemClock = {
  now: () => performance.now(),
  after(ms, act) {
    const timer = setTimeout(act, ms);
    return () => clearTimeout(timer);
  }
};
var systemNetwork = {
  isOnline: () => globalThis.navigator?.onLine !== false,
  onOnline: (act) => onGlobal(["online"], act)
};
var systemPage = {
  isHidden: () => globalThis.document?.visibilityState === "hidden",
  onChange: (act) => onGlobal(["visibilitychange", "pageshow", "resume"], act)
};
function onGlobal(types, act) {
  for (const type of types) globalThis.addEventListener?.(type, act, { capture: true });
  return () => {
    for (const type of types) globalThis.removeEventListener?.(type, act, { capture: true });
  };
}

// src/diagnose.ts
var NAMES = { 429: "rate_limited", 502: "bad_gateway", 503: "overloaded", 504: "gateway_timeout" };
async function diagnose(url, signal, fetch = globalThis.fetch) {
  const options = { signal, cache: "no-store", credentials: "omit", redirect: "manual" };
  let response;
  try {
    response = await fetch(url.replace(/^ws/, "http"), options);
  } catch (error) {
    if (signal.aborted) throw error;
    return { help: "A plain GET fails as well: nobody answers there, or the answer is kept from this page by CORS." };
  }
  const { status } = response;
  const answer = `A plain GET is answered with ${status || "a redirect"}`;
  if (status === 426) {
    void response.body?.cancel();
    return { help: `${answer}: there is a WebSocket server, and it refused the handshake, or the way to it cannot be upgraded.` };
  }
  const problem = await readProblem(response);
  const isAboutWho = status === 401 || status === 403;
  if (isAboutWho) return { help: `${answer}. It had neither token nor cookies, so this need not be why.` };
  const said = problem ?? (status === 429 || status >= 500 ? readStatus(response) : void 0);
  if (said) return { said, help: `${answer}.` };
  return { help: `${answer}: is there a WebSocket server at this address?` };
}
async function readProblem(response) {
  if (!response.headers.get("content-type")?.startsWith("application/problem+json")) {
    void response.body?.cancel();
    return void 0;
  }
  const problem = await response.json().catch(() => void 0);
  if (!isFields(problem)) return void 0;
  const { detail, title, request_id } = problem;
  const said = readError({ ...problem, message: detail ?? title }, typeof request_id === "string" ? request_id : void 0);
  return said.name === void 0 && said.code === void 0 ? void 0 : said;
}
function readStatus({ status, headers }) {
  const name = NAMES[status] ?? "internal_error";
  const row2 = ROWS.find((row3) => row3.name === name);
  const seconds = headers.get("retry-after") ?? "";
  const isAfter = /^\d+$/.test(seconds);
  return {
    ...readError({ code: row2?.code, name }),
    ...isAfter ? { retry: "after", retryAfterMs: Number(seconds) * 1e3, spreadMs: 1e3 } : {},
    details: { http_status: status }
  };
}

// src/index.ts
function connect(url, options = {}) {
  return new Client(line(url, ["saywhy.v1"], options));
}
function connectPlain(url, options = {}) {
  const { protocols = [] } = options;
  return new PlainClient(line(url, typeof protocols === "string" ? [protocols] : protocols, options));
}
function line(url, protocols, options) {
  const { href, hostname } = socketUrl(url);
  const { token, signal, diagnose: diagnose2, clock = systemClock, random = Math.random, page = systemPage } = options;
  const WebSocket = options.WebSocket ?? globalThis.WebSocket;
  const isHere = /^(localhost|127\..*|\[::1\])$/.test(hostname);
  const network = options.network ?? (isHere ? { ...systemNetwork, isOnline: () => true } : systemNetwork);
  return { url: href, protocols, token, signal, diagnose: diagnose2, platform: { clock, random, network, page, WebSocket } };
}
function socketUrl(url) {
  const base = globalThis.location?.href;
  const resolved = new URL(url, base);
  resolved.protocol = resolved.protocol.replace(/^http/, "ws");
  if (!/^wss?:$/.test(resolved.protocol)) throw new TypeError(`not the URL of a WebSocket: ${resolved.href}`);
  resolved.hash = "";
  return resolved;
}
export {
  SaywhyError,
  connect,
  connectPlain,
  diagnose
};
