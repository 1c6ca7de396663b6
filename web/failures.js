// Every failure that a browser can meet: how it is brought about, here and on a server of the usual kind.
//
// `usual` and `saywhy` get a trial: `info`, `token`, `offer`, `open`, `foreign`, `aside`, `pause`, `over`. `expect` is what
// Saywhy promises for it: `code` and `name` of the message, and the code of the Close (`null`: the session goes on).

import { kick, restart } from "./server.js";
import { inTurn } from "./witness.js";

export const GROUPS = ["Opening", "Messages", "During the session"];

const QUIET_MS = 1500;
const STATUS = {
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  429: "Too Many Requests",
  500: "Internal Server Error",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

// The usual way

const answersWith = (status) => ({
  did: `answers HTTP ${status} ${STATUS[status]}`,
  run: (trial, open = trial.open) =>
    inTurn(() => !trial.over() && open(`/usual?refuse=${status}`).close(), "/usual?then=silence"),
});

const says = (then, did, { frames = hello, after_ms = 0 } = {}) => ({
  did,
  async run(trial) {
    const socket = trial.open(`/usual?then=${then}`);
    await opened(socket);
    await trial.pause(after_ms);
    for (const { frame, label } of frames().map(labelled)) socket.send(frame, label);
    if (then !== "silence") return socket.close();
    const heard = await socket.until(({ kind }) => kind === "message" || kind === "close", QUIET_MS);
    if (!heard) socket.note("silence", { ms: QUIET_MS });
  },
});

async function opened(socket) {
  if (!(await socket.until((event) => event.kind === "open"))) throw new Error("the connection never opened");
}

const ignores = (frames) => says("silence", "ignores the message", { frames });
const drops = (did, options) => says("drop", did, options);

// Saywhy

const refuses = (path, protocols = async () => undefined) => async (trial) =>
  trial.open(path(trial.info), await protocols(trial)).close();

const rooms = ({ rooms }) => rooms;
const at = (path) => () => path;

/**
 * Sends frames on a session that is ready, each after the answer to the one before, until one is answered with an error.
 * A session that goes on after that proves it by answering a ping.
 */
const replies = (path, frames, { fatal = false } = {}) => async (trial) => {
  const socket = await session(trial, path);
  for (const { frame, label } of frames().map(labelled)) {
    if ((await ask(socket, frame, label))?.message.type !== "ok") break;
  }
  return fatal ? socket.close() : prove(socket);
};

function ask(socket, frame, label) {
  const answer = socket.next("ok", "error");
  socket.send(frame, label);
  return answer;
}

async function prove(socket) {
  const pong = socket.next("pong");
  socket.send(message("ping", {}));
  if (await pong) socket.note("alive");
}

async function session(trial, path, token) {
  const socket = trial.open(path(trial.info), trial.offer(token ?? (await trial.token())));
  if (!(await socket.next("ready"))) throw new Error("the server was never ready");
  return socket;
}

const connectionOf = (socket) => socket.events.find((event) => event.message?.type === "ready")?.message.data.connection_id;

// What is sent: made anew for each trial, because a request id is to be found again in the server's log.

const mark = () => crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
const message = (type, data) => ({ type, data, meta: { request_id: `${type}-${mark()}` } });
const labelled = (frame) => (frame.frame === undefined ? { frame } : frame);

const hello = () => [message("join", { room: "lobby" })];
const malformed = () => [`{"meta":{"request_id":"typo-${mark()}"},"type":"join","data":{"room":`];
const binary = () => [{ frame: new Uint8Array([1, 2, 3, 4]).buffer, label: "ArrayBuffer, 4 bytes" }];
const oversize = () => [
  { frame: message("send", { room: "lobby", body: "x".repeat(70 * 1024) }), label: '{"type":"send", … }, 70 KiB' },
];
const flood = () =>
  Array.from({ length: 200 }, (_, index) => ({
    frame: message("ping", {}),
    label: index === 0 ? '{"type":"ping", … } × 200, at once' : null,
  }));

/** A position in a log that never was. */
const longAgo = { epoch: "0".repeat(16), offset: 1, tag: "0".repeat(16) };

const talkInClosedRoom = () => [
  message("join", { room: "closed" }),
  message("send", { room: "closed", body: "Anyone here?" }),
];

/** A failure in which the client's message is at fault and the session goes on. */
const mistake = (slug, title, story, expect, frames) => ({
  slug,
  title,
  story,
  group: "Messages",
  usual: ignores(frames),
  saywhy: replies(rooms, frames),
  expect: { ...expect, close: null },
});

const opening = (slug, title, story, status, saywhy, expect) => ({
  slug,
  title,
  story,
  group: "Opening",
  usual: answersWith(status),
  saywhy,
  expect,
});

export const FAILURES = [
  opening("no-token", "No token", "Someone who has not signed in opens the socket.", 401, refuses(rooms), {
    code: 4003, name: "unauthorized", close: 4003,
  }),
  opening("bad-token", "Bad token", "The token is garbage.", 401,
    refuses(rooms, async (trial) => trial.offer("not-a-token")),
    { code: 4003, name: "unauthorized", close: 4003 }),
  opening("expired-token", "Expired token", "The token was good until a minute ago.", 401,
    refuses(rooms, async (trial) => trial.offer(await trial.token({ expires_in_s: -60 }))),
    { code: 4003, name: "unauthorized", close: 4003 }),
  {
    ...opening("foreign-origin", "Foreign origin", "A page of another origin opens the socket.", 403,
      (trial) => trial.foreign(trial.info.rooms).close(),
      { code: 4004, name: "forbidden", close: 4004 }),
    usual: { did: answersWith(403).did, run: (trial) => answersWith(403).run(trial, trial.foreign) },
  },
  opening("unknown-path", "Unknown path", "The address is wrong: nothing listens at /nowhere.", 404,
    refuses(at("/nowhere")),
    { code: 4001, name: "not_found", close: 4001 }),
  opening("rate-limited-refusal", "Too many attempts", "The client connects more often than it may.", 429,
    refuses(at("/dev/refuse/rate_limited")),
    { code: 4005, name: "rate_limited", close: 4005 }),
  opening("overloaded", "Server full", "There is no room for one more connection.", 503,
    refuses(at("/dev/refuse/overloaded")),
    { code: 1013, name: "overloaded", close: 1013 }),
  opening("draining", "Deploy under way", "The server is on its way out and takes no new connections.", 503,
    refuses(at("/dev/refuse/service_restart")),
    { code: 1012, name: "service_restart", close: 1012 }),
  opening("upstream-down", "Upstream down", "The service behind the server cannot be reached.", 502,
    refuses(at("/dev/refuse/bad_gateway")),
    { code: 1014, name: "bad_gateway", close: 1014 }),
  opening("upstream-timeout", "Upstream too slow", "The service behind the server does not answer in time.", 504,
    refuses(at("/dev/refuse/gateway_timeout")),
    { code: 1014, name: "gateway_timeout", close: 1014 }),
  opening("refusal-panic", "Crash while deciding", "The handler panics before it has said yes or no.", 500,
    refuses(at("/dev/panic")),
    { code: 5000, name: "internal_error", close: 1011 }),

  mistake("malformed-json", "Malformed JSON", "The message breaks off in the middle.",
    { code: 4000, name: "bad_request" }, malformed),
  mistake("unknown-type", "Unknown type", "The message has a type that nobody handles.",
    { code: 4000, name: "bad_request" }, () => [message("shout", { room: "lobby" })]),
  mistake("missing-field", "Missing field", "A join that does not say which room.",
    { code: 4000, name: "bad_request" }, () => [message("join", {})]),
  mistake("unknown-room", "No such room", "A join to a room that does not exist.",
    { code: 4001, name: "not_found" }, () => [message("join", { room: "no-such-room" })]),
  mistake("closed-room", "Closed room", "A message to a room that takes none any more.",
    { code: 4002, name: "invalid_action" }, talkInClosedRoom),
  mistake("not-joined", "Room not joined", "A message to a room that was never joined.",
    { code: 4002, name: "invalid_action" }, () => [message("send", { room: "lobby", body: "Anyone here?" })]),
  mistake("forbidden", "Not permitted", "A join to a room for the staff.",
    { code: 4004, name: "forbidden" }, () => [message("join", { room: "staff" })]),
  mistake("history-lost", "History gone", "A resume from a position that is no longer kept.",
    { code: 4009, name: "history_lost" }, () => [message("join", { room: "lobby", since: longAgo })]),
  {
    slug: "binary", title: "Binary message", group: "Messages",
    story: "An ArrayBuffer, sent where JSON is spoken.",
    usual: says("1003", "closes with 1003 and no reason", { frames: binary }),
    saywhy: replies(rooms, binary, { fatal: true }),
    expect: { code: 1003, name: "unsupported_data", close: 1003 },
  },
  {
    slug: "oversize", title: "Message too big", group: "Messages",
    story: "70 KiB in one message.",
    usual: says("1009", "closes with 1009 and no reason", { frames: oversize }),
    saywhy: replies(rooms, oversize, { fatal: true }),
    expect: { code: 1009, name: "message_too_big", close: 1009 },
  },
  {
    slug: "flood", title: "Flood", group: "Messages",
    story: "200 messages at once: slowed down first, then shown the door.",
    usual: drops("drops the connection", { frames: flood }),
    async saywhy(trial) {
      const socket = await session(trial, rooms);
      for (const { frame, label } of flood()) socket.send(frame, label);
      await socket.close();
    },
    expect: { code: 1008, name: "policy_violation", close: 1008 },
  },

  {
    slug: "handler-error", title: "Handler fails", group: "During the session",
    story: "The application’s own code fails on one message.",
    usual: ignores(() => [message("fail", {})]),
    saywhy: replies(at("/dev/faults"), () => [message("fail", {})]),
    expect: { code: 5000, name: "internal_error", close: null },
  },
  {
    slug: "handler-panic", title: "Handler crashes", group: "During the session",
    story: "The application’s own code panics.",
    usual: drops("crashes, and the connection with it", { frames: () => [message("panic", {})] }),
    saywhy: replies(at("/dev/faults"), () => [message("panic", {})], { fatal: true }),
    expect: { code: 5000, name: "internal_error", close: 1011 },
  },
  {
    slug: "kicked", title: "Kicked", group: "During the session",
    story: "A moderator removes someone.",
    usual: says("empty", "closes without a code"),
    async saywhy(trial) {
      const socket = await session(trial, rooms);
      socket.note("act", { text: "a moderator: DELETE …/connections/{id}" });
      await kick(trial.info, connectionOf(socket), "Be kind, or be elsewhere");
      await socket.close();
    },
    expect: { code: 4008, name: "kicked", close: 4008 },
  },
  {
    slug: "replaced", title: "Opened in another tab", group: "During the session",
    story: "One connection per person, and a newer one arrives.",
    usual: says("empty", "closes without a code"),
    async saywhy(trial) {
      const token = await trial.token();
      const socket = await session(trial, at("/dev/single"), token);
      socket.note("act", { text: "the same person connects again" });
      const newer = trial.aside("/dev/single", trial.offer(token));
      await socket.close();
      await newer.until(({ message }) => message?.type === "ready");
    },
    expect: { code: 4006, name: "replaced", close: 4006 },
  },
  {
    slug: "restart", title: "Server restarts", group: "During the session",
    story: "A deploy, in the middle of a session.",
    usual: drops("exits without a word"),
    async saywhy(trial) {
      const socket = await session(trial, rooms);
      socket.note("act", { text: "an operator: restart" });
      await restart(connectionOf(socket), 800, 400);
      await socket.close();
    },
    expect: { code: 1012, name: "service_restart", close: 1012 },
  },
  {
    slug: "token-expires", title: "Token runs out", group: "During the session",
    story: "The token is good for two seconds; the session is longer.",
    usual: drops("drops the connection", { after_ms: 2000 }),
    async saywhy(trial) {
      const socket = await session(trial, rooms, await trial.token({ expires_in_s: 2 }));
      await socket.close();
    },
    expect: { code: 4003, name: "unauthorized", close: 4003 },
  },
  {
    slug: "slow-reader", title: "Reads too slowly", group: "During the session",
    story: "The client does not keep up with what it is sent.",
    usual: drops("drops the connection", { frames: () => [message("slow", {})] }),
    async saywhy(trial) {
      const socket = await session(trial, at("/dev/faults"));
      socket.send(message("slow", {}));
      await socket.close();
    },
    expect: { code: 4007, name: "slow_consumer", close: 4007 },
  },
  {
    slug: "idle-timeout", title: "Not a sign of life", group: "During the session",
    story: "Nothing was heard from the client for too long.",
    usual: drops("drops the connection"),
    saywhy: refuses(at("/dev/refuse/timeout")),
    expect: { code: 3008, name: "timeout", close: 3008 },
  },
];
