// What the client has to do wherever it runs: one table, played as it is in browsers, workers, Node, Deno and Bun.
//
// `server` says what the scenario needs of `saywhy serve` (see stage.mjs), `play` is what happens, `only` in which
// runtimes it can, and `todo` where it is known not to hold, and why. In `play`,
// `connect(path, options)` makes a client of that server, `host(command, data)` asks the stage for something, and `network`
// goes away, with the connection that is named, and comes back.
import { connect } from "../../../clients/typescript/dist/index.js";

const DEADLINE_MS = 30_000;
/** No heartbeat while a scenario is played. */
const PATIENT = "[limits]\nheartbeat_ms = 3600000\n";

export const SCENARIOS = {
  "a refusal is final, and says why and by which id": {
    async play({ connect, host }) {
      const chat = connect("/dev/refuse/forbidden");
      const [ready, { cause, close }] = await Promise.all([chat.ready().then(never, (error) => error), chat.closed]);
      same(ready === cause, true);
      const { name, code, source, fatal, retry, closeCode } = cause;
      same({ name, code, source, fatal, retry, closeCode }, { name: "forbidden", code: 4004, source: "server", fatal: true, retry: "never", closeCode: 4004 });
      same(close.reason, cause.message);
      // The operator finds it by the same id.
      same((await host("ending", cause.requestId)).cause, "forbidden");
    },
  },

  "without a token it is told how to be let in, and asks once": {
    async play({ connect, mint }) {
      const reasons = [];
      const token = ({ reason }) => mint("alice", reasons.push(reason) === 1 ? -60 : 3_600);
      same((await connect("/ws", { token }).ready()).user, "alice");
      same(reasons, ["connect", "refused"]);
      const { cause } = await connect("/ws").closed;
      same([cause.name, cause.details], ["unauthorized", { reason: "token_missing" }]);
    },
  },

  "a recoverable error is an answer, and the connection stays": {
    async play({ connect, mint }) {
      const chat = connect("/ws", { token: () => mint("alice") });
      const { connectionId } = await chat.ready();
      const { ok, error } = await chat.request("join", { room: "nowhere" });
      same([ok, error.name, error.code, error.fatal, error.source], [false, "not_found", 4001, false, "server"]);
      same((await chat.request("join", { room: "lobby" })).ok, true);
      const faults = connect("/dev/faults");
      const failed = await faults.request("fail", {});
      same([failed.ok, failed.error.name, failed.error.fatal], [false, "internal_error", false]);
      same([chat.state, (await chat.ready()).connectionId, faults.state], ["ready", connectionId, "ready"]);
    },
  },

  "a fatal error is an answer, the end of the connection, and the reason to come back": {
    async play({ connect, heard }) {
      const chat = connect("/dev/faults", { random: () => 0.1 });
      const first = await chat.ready();
      const waiting = heard(chat, "waiting");
      const { ok, error } = await chat.request("break", {});
      same([ok, error.name, error.fatal], [false, "internal_error", true]);
      const { cause, delayMs, attempt } = await waiting;
      same([cause.name, cause.source, cause.code, cause.closeCode, attempt], ["internal_error", "server", 5000, 1011, 1]);
      // What is left of the 100 ms when it is told.
      same(delayMs > 0 && delayMs <= 100, true);
      const second = await chat.ready();
      same(second.connectionId !== first.connectionId, true);
    },
  },

  "a session that is sent elsewhere resumes its rooms, and misses nothing": {
    async play({ connect, host, mint, heard }) {
      const chat = connect("/ws", { token: () => mint("alice") });
      same((await chat.request("join", { room: "lobby" })).ok, true);
      const { connectionId } = await chat.ready();
      const [goodbye, waiting, rejoined] = ["goodbye", "waiting", "rejoined"].map((event) => heard(chat, event));
      await host("restart", { connection_id: connectionId, retry_after_ms: 300, spread_ms: 100 });
      same((await goodbye).error.name, "service_restart");
      const { cause, delayMs } = await waiting;
      same([cause.name, cause.source, cause.retry, cause.retryAfterMs, cause.closeCode], ["service_restart", "server", "after", 300, 1012]);
      within(delayMs, 300, 400);
      const sending = chat.send("lobby", "me too");
      same(sending.status, "queued");
      await host("say", { room: "lobby", body: "meanwhile" });
      same(await rejoined, { room: "lobby", recovered: true, members: ["alice", "bob"] });
      same((await sending.reply).ok, true);
      same((await bodies(chat, 2)).sort(), ["me too", "meanwhile"]);
    },
  },

  "a server that is replaced says when to come back, and that its history is gone": {
    server: { hasOwnKey: true, config: "[drain]\nwindow_ms = 400\n" },
    async play({ connect, host, mint, heard }) {
      const chat = connect("/ws", { token: () => mint("alice") });
      same((await chat.request("join", { room: "lobby" })).ok, true);
      const [goodbye, waiting, lost, rejoined] = ["goodbye", "waiting", "history_lost", "rejoined"].map((event) => heard(chat, event));
      const replaced = host("replace");
      same((await goodbye).error.name, "service_restart");
      const { cause, delayMs } = await waiting;
      same([cause.name, cause.source, cause.retry], ["service_restart", "server", "after"]);
      within(delayMs, 1_000, 1_400);
      await replaced;
      const { room, reason } = await lost;
      same([room, reason, (await rejoined).recovered], ["lobby", "epoch_changed", false]);
      await host("say", { room: "lobby", body: "anew" });
      same(await bodies(chat, 1), ["anew"]);
    },
  },

  "a server that is gone is told from one that says no": {
    server: { hasOwnKey: true },
    async play({ connect, host, mint, heard }) {
      const chat = connect("/ws", { token: () => mint("alice"), random: () => 0.2 });
      await chat.ready();
      const waiting = heard(chat, "waiting");
      await host("kill");
      for (const [event, words] of [[waiting, "The connection was lost"], [heard(chat, "waiting", 2), "No connection could be made"]]) {
        const { name, source, code, retry, fatal, message } = (await event).cause;
        same([name, source, code, retry, fatal, message], ["connection_lost", "network", 1006, "backoff", true, words]);
      }
      await host("replace");
      same((await chat.ready()).user, "alice");
    },
  },

  "a token that expires is renewed in place": {
    async play({ connect, mint }) {
      const reasons = [];
      const token = ({ reason }) => mint("alice", reasons.push(reason) === 1 ? 6 : 3_600);
      const expiresAt = Date.now() + 7_000;
      const chat = connect("/ws", { token });
      const { connectionId } = await chat.ready();
      await passed(expiresAt - Date.now());
      same((await chat.request("join", { room: "lobby" })).ok, true);
      same([reasons, (await chat.ready()).connectionId === connectionId], [["connect", "expiring"], true]);
    },
  },

  "without a network it waits for one, and comes back with it": {
    // A network that is switched off takes what was said with it.
    server: { config: "[limits]\nheartbeat_ms = 500\n" },
    async play({ connect, mint, heard, network }) {
      const chat = connect("/ws", { token: () => mint("alice"), ...network.options, isElsewhere: true });
      const { connectionId } = await chat.ready();
      const offline = heard(chat, "offline");
      await network.goAway({ connection_id: connectionId, retry_after_ms: 1, spread_ms: 0 });
      const { attempt } = await offline;
      same([chat.state, attempt], ["offline", 1]);
      const connecting = heard(chat, "connecting");
      await network.comeBack();
      await connecting;
      same((await chat.ready()).user, "alice");
    },
  },

  "a server that stands still is noticed, and found again": {
    server: { config: "[limits]\nheartbeat_ms = 500\n" },
    async play({ connect, host, mint, heard }) {
      const chat = connect("/ws", { token: () => mint("alice"), random: () => 0.1 });
      await chat.ready();
      const waiting = heard(chat, "waiting");
      await host("freeze");
      const { cause } = await waiting;
      same([cause.name, cause.source, cause.closeCode], ["connection_lost", "network", undefined]);
      same(/^The connection was given up: nothing was heard from the server for \d+ ms$/.test(cause.message), true);
      await host("thaw");
      same((await chat.ready()).user, "alice");
    },
  },

  "a page that nobody sees comes back when somebody looks": {
    only: ["chromium"],
    server: { config: PATIENT },
    async play({ connect, host, mint, heard, tab }) {
      const clock = skippable();
      const chat = connect("/ws", { token: () => mint("alice"), clock });
      const { connectionId } = await chat.ready();
      await tab("hide");
      clock.skip(61_000);
      const waiting = heard(chat, "waiting");
      await host("restart", { connection_id: connectionId, retry_after_ms: 1, spread_ms: 0 });
      const { cause, delayMs } = await waiting;
      same([cause.name, delayMs === Infinity], ["service_restart", true]);
      const connecting = heard(chat, "connecting");
      await tab("show");
      await connecting;
      same((await chat.ready()).user, "alice");
    },
  },

  "a page that was stopped finds out, as soon as it goes on, whether the server is there": {
    only: ["chromium"],
    // Silence alone would take longer than there is time.
    server: { config: PATIENT },
    async play({ connect, host, mint, heard, tab }) {
      const clock = skippable();
      const chat = connect("/ws", { token: () => mint("alice"), clock, random: () => 0.1 });
      await chat.ready();
      await tab("hide");
      await host("freeze");
      clock.skip(10_000);
      const waiting = heard(chat, "waiting");
      await tab("nap");
      const { cause } = await waiting;
      same([cause.name, cause.source], ["connection_lost", "network"]);
      await host("thaw");
      same((await chat.ready()).user, "alice");
    },
  },

  "aborted while connecting": {
    async play({ connect, hole }) {
      await aborted(connect, hole, {}, async (chat) => same(chat.state, "connecting"));
    },
  },

  "aborted while a token is asked for": {
    async play({ connect }) {
      const asked = {};
      asked.is = new Promise((resolve) => (asked.now = resolve));
      const token = ({ signal }) => {
        asked.signal = signal;
        asked.now();
        return new Promise(() => {});
      };
      await aborted(connect, "/ws", { token }, async () => asked.is);
      same(asked.signal.aborted, true);
    },
  },

  "aborted while authenticating": {
    server: { route: "token_in_first_message = true\n" },
    async play({ connect, heard }) {
      await aborted(connect, "/ws", {}, async (chat) => {
        await heard(chat, "authenticating");
        same(chat.state, "authenticating");
      });
    },
  },

  "aborted when ready": {
    async play({ connect, host, mint }) {
      let id;
      const { close } = await aborted(connect, "/ws", { token: () => mint("alice") }, async (chat) => (id = (await chat.ready()).connectionId));
      same(close.code, 1000);
      // The server was told.
      same((await host("ending", id)).received, 1000);
    },
  },

  "aborted while waiting": {
    async play({ connect, host, mint, heard }) {
      const { close } = await aborted(connect, "/ws", { token: () => mint("alice") }, async (chat) => {
        const { connectionId } = await chat.ready();
        const waiting = heard(chat, "waiting");
        await host("restart", { connection_id: connectionId, retry_after_ms: 3_600_000, spread_ms: 0 });
        await waiting;
        same(chat.state, "waiting");
      });
      same(close, null);
    },
  },
};

/** What does not hold anywhere, to see that a runtime says so. */
export const WRONG = {
  async play({ connect }) {
    await connect("/dev/refuse/forbidden").ready();
  },
};

/** Aborts a client once it is `there`, and resolves to how it ended. */
async function aborted(connect, path, options, there) {
  const controller = new AbortController();
  const chat = connect(path, { ...options, signal: controller.signal });
  await there(chat);
  const asking = chat.request("members", { room: "lobby" });
  const states = [];
  chat.on("state", ({ state }) => states.push(state));
  const ready = chat.state === "ready" ? undefined : chat.ready().then(never, (error) => error.name);
  controller.abort("enough");
  const ending = await chat.closed;
  same([ending.cause.name, ending.cause.source, ending.cause.cause], ["aborted", "client", "enough"]);
  same([chat.state, states], ["closed", ["closed"]]);
  if (ready) same(await ready, "aborted");
  const { ok, error } = await asking;
  same([ok, error?.name], [false, "aborted"]);
  for await (const message of chat) throw new Error(`a message after the end: ${JSON.stringify(message)}`);
  return ending;
}

/**
 * Plays one; resolves to `undefined` when all of it held, and else to what did not, with what the clients had told by then.
 * `stage` is the URL of the stage, and `options` go to every client. Where the platform's network can be switched off,
 * `cable(command, hint)` does it: `pull` ends a session and takes the network away, `plug` gives it back. `tab(command)` is a
 * hand on the browser: `hide`, `show`, and `nap`, after which the page goes on as if it had not been stopped.
 */
export async function play(name, stage, { options = {}, cable, tab } = {}) {
  const { server, hole } = await (await fetch(new URL("/server", stage))).json();
  const clients = [];
  const told = [];
  const host = async (command, data = null) => {
    const response = await fetch(new URL(`/host/${command}`, stage), { method: "POST", body: JSON.stringify(data) });
    if (!response.ok) throw new Error(`${command}: ${await response.text()}`);
    return response.json();
  };
  const world = {
    host,
    hole,
    tab,
    network: cable ? { options: {}, goAway: (hint) => cable("pull", hint), comeBack: () => cable("plug") } : madeUp(host),
    mint: (sub, expires_in_s = 3_600) => host("mint", { sub, expires_in_s }),
    heard: (chat, event, count = 1) => new Promise((resolve) => chat.on(event, (info) => --count || resolve(info))),
    connect(path, { isElsewhere, ...own } = {}) {
      const url = new URL(path, server);
      // This machine can be reached without a network, but for names of it that the client does not know.
      if (isElsewhere && cable) url.hostname = "elsewhere.localhost";
      const chat = connect(url, { ...options, ...own });
      chat.on("state", ({ state }) => told.push(state));
      chat.on("error", ({ error }) => told.push(String(error)));
      clients.push(chat);
      return chat;
    },
  };
  let stop;
  const late = new Promise((_, reject) => {
    const timer = setTimeout(() => reject(new Error(`not done after ${DEADLINE_MS} ms`)), DEADLINE_MS);
    stop = () => clearTimeout(timer);
  });
  try {
    await Promise.race([(SCENARIOS[name] ?? WRONG).play(world), late]);
    return undefined;
  } catch (error) {
    return `${error}\n${error.stack}\ntold: ${told.join(", ")}`;
  } finally {
    stop();
    await Promise.all(clients.map((chat) => chat.close()));
  }
}

/** A network that comes and goes as it is told. */
function madeUp(host) {
  const acts = new Set();
  let isOnline = true;
  const network = {
    isOnline: () => isOnline,
    onOnline(act) {
      acts.add(act);
      return () => acts.delete(act);
    },
  };
  return {
    options: { network },
    async goAway(hint) {
      isOnline = false;
      await host("restart", hint);
    },
    comeBack() {
      isOnline = true;
      for (const act of [...acts]) act();
    },
  };
}

async function bodies(chat, count) {
  const all = [];
  for await (const { body } of chat) if (all.push(body) === count) break;
  return all;
}

/** The real clock, but for what it is told to skip, as one does that was asleep. */
function skippable() {
  let skippedMs = 0;
  return {
    now: () => performance.now() + skippedMs,
    after(ms, act) {
      const timer = setTimeout(act, ms);
      return () => clearTimeout(timer);
    },
    skip: (ms) => void (skippedMs += ms),
  };
}

const passed = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const never = (value) => {
  throw new Error(`this was not to be: ${JSON.stringify(value)}`);
};

function same(actual, expected) {
  const [is, has] = [actual, expected].map((value) => JSON.stringify(value, (_, one) => (one === undefined ? "undefined" : one)));
  if (is !== has) throw new Error(`${is} is not ${has}`);
}

function within(ms, least, most) {
  if (!(ms >= least && ms <= most)) throw new Error(`${ms} is not from ${least} to ${most}`);
}
