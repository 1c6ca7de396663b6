// Twenty real clients that talk in rooms, while what is between them and the server, and the server itself, is cut off.
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "../../clients/typescript/dist/index.js";
import WebSocket from "ws";
import { ALL, ROOMY, SECRET, serve, sign } from "../support/client.mjs";
import { startProxy } from "./proxy.mjs";

const CLIENTS = 20;
const ROOMS = ["north", "east", "south", "west"];
const HEARTBEAT_MS = 500;
/** So many of a client's messages wait for their answer at once. */
const OPEN = 8;

const CONFIG = `${ROOMY}heartbeat_ms = ${HEARTBEAT_MS}
[drain]
window_ms = 300
deadline_ms = 1000
[[route]]
path = "/ws"
[route.rooms]
open = ${JSON.stringify(ROOMS)}
history = { entries = 1000000, bytes = 1000000000 }
`;

/** How often each is done: mostly what happens to connections, now and then what happens to a server. */
const WEIGHTS = {
  ...{ rst: 6, fin: 4, silence: 3, inside_frame: 5, inside_request: 4, unanswered: 5 },
  ...{ all_at_once: 1, kill: 1, drain: 1, stop: 2 },
};

/** How often a client is in a room, in all. */
export const SEATS = CLIENTS * 2;

/**
 * Cuts `count` times, with choices from `random`, and waits until all is quiet again. Resolves to `{ history, counts }`, what the
 * checker judges and how often each cut was made. `weights` are for other cuts, and `Socket` for another WebSocket.
 */
export async function endure(t, { count, random, weights = WEIGHTS, Socket = WebSocket }) {
  const start = (port = 0) =>
    serve(t, { port, config: CONFIG, env: { SAYWHY_TOKEN_SECRET: SECRET, SAYWHY_API_KEY: SECRET } });
  let server = await start();
  const { port } = new URL(server.url);
  const proxy = await startProxy(port);
  t.after(proxy.stop);

  const { history, record } = recorder();
  const guests = Array.from({ length: CLIENTS }, (_, at) => guest(`c${at}`, proxy.url, { Socket, random, record }));
  t.after(() => Promise.all(guests.map((one) => one.leave())));
  await Promise.all(guests.map((one, at) => one.join([ROOMS[at % 4], ROOMS[(at + 1 + (at >> 2) % 3) % 4]])));

  const cuts = {
    async all_at_once() {
      for (const pipe of proxy.pipes()) pipe.cut("rst");
    },
    /** What it remembered is gone with it. */
    async kill() {
      await server.stop("SIGKILL");
      server = await start(port);
    },
    /** It says when to come back, but not everybody gets to see its Close. */
    async drain() {
      for (const pipe of proxy.pipes()) if (random() < 0.5) pipe.cut("before_close");
      await server.stop("SIGTERM");
      server = await start(port);
    },
    /** For less than two heartbeats, or for more. */
    async stop() {
      process.kill(server.pid, "SIGSTOP");
      await sleep(random() * 3 * HEARTBEAT_MS);
      process.kill(server.pid, "SIGCONT");
    },
  };
  const counts = {};
  for (const one of guests) one.talk();
  while (Object.values(counts).reduce((sum, one) => sum + one, 0) < count) {
    await record.more(50 + random() * 350);
    const kind = weighted(weights, random);
    const pipes = proxy.pipes();
    if (cuts[kind]) await cuts[kind]();
    else if (pipes.length > 0) pipes[Math.floor(random() * pipes.length)].cut(kind);
    else continue;
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  await Promise.all(guests.map((one) => one.fallSilent()));
  // One more word from everybody: whoever has heard those has heard all.
  const last = (await Promise.all(guests.map((one) => one.lastWords()))).flat();
  await Promise.all(guests.map((one) => one.hears(last)));
  return { history, counts };
}

/** A client that talks, and records what becomes of it. */
function guest(name, url, { Socket, random, record }) {
  const claims = { sub: name, exp: Math.floor(Date.now() / 1_000) + 86_400, rooms: { "*": ALL } };
  const chat = connect(url, { WebSocket: Socket, token: () => sign(claims), random: () => random() * 0.1 });
  for (const event of ["history_lost", "room_lost"]) {
    chat.on(event, ({ room, reason }) => record({ type: event, client: name, room, reason }));
  }
  const heard = new Map();
  const hearing = new Set();
  const listening = (async () => {
    for await (const { room, position, body } of chat) {
      const { from, n } = body;
      record({ type: "received", client: name, room, from, n, position });
      heard.set(`${room} ${from}`, n);
      for (const look of hearing) look();
    }
  })();
  let rooms;
  let n = 0;
  let isTalking = false;
  const open = new Set();
  /** Resolves when it is answered. */
  const say = (room) => {
    n += 1;
    const said = { client: name, room, n };
    record({ type: "sent", ...said });
    const answered = chat.send(room, { from: name, n }).reply.then(({ ok, data, error }) => {
      open.delete(answered);
      if (ok) record({ type: "acknowledged", ...said, position: data.position });
      else throw new Error(`${name} could not say something in ${room}: ${error}`);
    });
    open.add(answered);
    return answered;
  };
  let talking;
  return {
    async join(all) {
      rooms = all;
      for (const room of rooms) {
        const { ok, data, error } = await chat.request("join", { room });
        if (!ok) throw error;
        record({ type: "joined", client: name, room, position: data.position });
      }
    },
    talk() {
      isTalking = true;
      talking = (async () => {
        while (isTalking) {
          if (open.size < OPEN) void say(rooms[Math.floor(random() * rooms.length)]);
          await (open.size < OPEN ? sleep(random() * 60) : Promise.race(open));
        }
      })();
    },
    async fallSilent() {
      isTalking = false;
      await talking;
      await Promise.all(open);
    },
    lastWords: () => Promise.all(rooms.map(async (room) => {
      const mine = n + 1;
      await say(room);
      return { room, from: name, n: mine };
    })),
    /** Resolves when it has heard all of these that were said in its rooms. */
    hears: (words) => new Promise((resolve) => {
      const mine = words.filter(({ room }) => rooms.includes(room));
      const look = () => {
        if (!mine.every(({ room, from, n }) => heard.get(`${room} ${from}`) >= n)) return;
        hearing.delete(look);
        resolve();
      };
      hearing.add(look);
      look();
    }),
    async leave() {
      isTalking = false;
      await chat.close();
      await listening;
    },
  };
}

/** Keeps what it is given, with the turn of the event loop in which it was. `more(count)` waits until so much has come. */
function recorder() {
  const history = [];
  let turn = 0;
  let isSame = false;
  let waiting;
  const record = (one) => {
    if (!isSame) {
      isSame = true;
      turn += 1;
      setImmediate(() => (isSame = false));
    }
    history.push({ ...one, turn });
    if (waiting && history.length >= waiting.length) {
      waiting.resolve();
      waiting = undefined;
    }
  };
  record.more = (count) => new Promise((resolve) => (waiting = { length: history.length + count, resolve }));
  return { history, record };
}

function weighted(weights, random) {
  let left = random() * Object.values(weights).reduce((sum, one) => sum + one, 0);
  return Object.keys(weights).find((kind) => (left -= weights[kind]) < 0);
}
