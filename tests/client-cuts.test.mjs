// Nothing that was acknowledged is lost, doubled or out of order, however often everything is cut, unless that was said.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import WebSocket from "ws";
import { seeded } from "../clients/typescript/tests/support/generator.mjs";
import { SEATS, endure } from "./cuts/chaos.mjs";
import { check } from "./cuts/checker.mjs";

const COUNT = Number(process.env.SAYWHY_CUTS ?? 40);
const SEED = Number(process.env.SAYWHY_SEED ?? Math.floor(Math.random() * 2 ** 32));

test(`${COUNT} cuts, SAYWHY_SEED=${SEED}`, { timeout: 60_000 + COUNT * 2_000 }, async (t) => {
  const { history, counts } = await endure(t, { count: COUNT, random: seeded(SEED) });
  const of = (type) => history.filter((record) => record.type === type).length;
  t.diagnostic(`cuts: ${JSON.stringify(counts)}`);
  t.diagnostic(`sent ${of("sent")}, acknowledged ${of("acknowledged")}, received ${of("received")}, history lost ${of("history_lost")}`);
  assert.deepEqual(check(history), []);
  assert.equal(of("acknowledged"), of("sent"));
  assert.equal(of("room_lost"), 0);
  // A connection that is cut costs nothing; only a server that forgets does.
  const { kill = 0, drain = 0 } = counts;
  assert.ok(of("history_lost") <= (kill + drain) * SEATS, of("history_lost"));
});

test("a client that does not say what it repeats is found", { timeout: 60_000 }, async (t) => {
  class Forgetful extends WebSocket {
    send(text) {
      super.send(text.replace(/,"idempotency_key":"[^"]*"/, ""));
    }
  }
  const { history } = await endure(t, { count: 20, random: seeded(SEED), weights: { unanswered: 1 }, Socket: Forgetful });
  assert.match(check(history).join("\n"), /^after \d+ of that sender/m);
});

describe("the checker", () => {
  const SEEDS = 50;

  for (const [name, fault] of Object.entries(faults())) {
    test(`finds ${name}`, () => {
      for (let seed = 0; seed < SEEDS; seed += 1) {
        const random = seeded(seed);
        assert.notDeepEqual(check(fault(right(random), random)), [], `seed ${seed}`);
      }
    });
  }

  test("finds nothing where nothing is", () => {
    for (let seed = 0; seed < SEEDS; seed += 1) assert.deepEqual(check(right(seeded(seed))), [], `seed ${seed}`);
  });
});

/** Four in two rooms, on three servers after each other. Each forgets all, sometimes in the midst of what was said. */
function right(random) {
  const history = [];
  const clients = ["c0", "c1", "c2", "c3"];
  let turn = 0;
  const said = { c0: 0, c1: 0, c2: 0, c3: 0 };
  const away = new Set();
  for (const epoch of ["e0", "e1", "e2"]) {
    const tops = { red: 0, blue: 0 };
    for (const client of clients) {
      for (const room of Object.keys(tops)) {
        if (epoch === "e0") history.push({ type: "joined", client, room, position: { epoch, offset: 0 }, turn: ++turn });
        else history.push({ type: "history_lost", client, room, turn: ++turn });
      }
    }
    for (let count = 0; count < 20; count += 1) {
      const client = clients[Math.floor(random() * 4)];
      const room = random() < 0.5 ? "red" : "blue";
      const n = (said[client] += 1);
      const position = { epoch, offset: (tops[room] += 1) };
      turn += 1;
      history.push({ type: "sent", client, room, n, turn });
      for (const other of clients) {
        const seat = `${other} ${room}`;
        // Whoever is away when a server is killed does not hear the end of it.
        if (epoch !== "e2" && count > 14 && random() < 0.5) away.add(seat);
        if (!away.has(seat)) history.push({ type: "received", client: other, room, from: client, n, position, turn });
      }
      history.push({ type: "acknowledged", client, room, n, position, turn });
    }
    away.clear();
  }
  return history;
}

/** What must not happen, by name: how it is done to a history. */
function faults() {
  const seatOf = ({ client, room }) => `${client} ${room}`;
  const isSame = (one, other) => one.type === other.type && seatOf(one) === seatOf(other);
  const nextOf = (history, at) => history.findIndex((other, index) => index > at && isSame(history[at], other));
  const without = (history, at) => history.toSpliced(at, 1);
  /** The place of a record that fits. */
  const one = (history, random, fits) => {
    const places = history.flatMap((record, at) => (fits(record, at) ? [at] : []));
    assert.ok(places.length > 0);
    return places[Math.floor(random() * places.length)];
  };
  const received = (history, random, fits = () => true) => one(history, random, (record, at) => record.type === "received" && fits(record, at));
  /** A message after which another of its epoch was heard, which fits. */
  const followed = (history, random, fits = () => true) =>
    received(history, random, ({ position }, at) => {
      const next = nextOf(history, at);
      return history[next]?.position.epoch === position.epoch && fits(next);
    });
  const changed = (history, at, change) => history.with(at, { ...history[at], ...change });

  return {
    "one that is dropped": (history, random) => {
      const between = followed(history, random, (next) => history[nextOf(history, next)]?.position.epoch === history[next].position.epoch);
      return without(history, nextOf(history, between));
    },
    "the last one that is dropped": (history, random) => without(history, received(history, random, (_, at) => nextOf(history, at) < 0)),
    "one that is doubled": (history, random) => {
      const at = received(history, random);
      return history.toSpliced(at, 0, history[at]);
    },
    "one that comes again later": (history, random) => {
      const at = followed(history, random);
      return history.toSpliced(nextOf(history, at) + 1, 0, history[at]);
    },
    "one that was said twice": (history, random) => {
      const last = received(history, random, (_, at) => nextOf(history, at) < 0);
      const { epoch, offset } = history[last].position;
      return [...history, { ...history[last], position: { epoch, offset: offset + 1 }, turn: Infinity }];
    },
    "two that are swapped": (history, random) => {
      const at = followed(history, random);
      const next = nextOf(history, at);
      return history.with(at, history[next]).with(next, history[at]);
    },
    "one in the wrong room": (history, random) => {
      const at = received(history, random);
      return changed(history, at, { room: history[at].room === "red" ? "blue" : "red" });
    },
    "one that nobody said": (history, random) => changed(history, received(history, random), { n: 1_000 }),
    "one that others heard otherwise": (history, random) => {
      const at = received(history, random, ({ n }) => n > 1);
      return changed(history, at, { n: history[at].n - 1 });
    },
    "an answer with another's place": (history, random) => {
      const at = one(history, random, ({ type, position }) => type === "acknowledged" && position.offset > 1);
      const { epoch, offset } = history[at].position;
      return changed(history, at, { position: { epoch, offset: offset - 1 } });
    },
    "an answer to what nobody has heard": (history) => {
      const { epoch, offset } = history.at(-1).position;
      return [
        ...history,
        { ...history.at(-1), type: "sent", n: 1_000 },
        { ...history.at(-1), n: 1_000, position: { epoch, offset: offset + 1 } },
      ];
    },
    "a loss without a word": (history, random) =>
      without(history, one(history, random, (record, at) => record.type === "history_lost" && nextReceived(history, at) >= 0)),
    "a word that came before its time": (history, random) => {
      const at = one(history, random, (record, at) => record.type === "history_lost" && history[nextReceived(history, at)]?.position.epoch === "e2");
      const seat = seatOf(history[at]);
      const heard = history.flatMap((record, index) => (record.type === "received" && seatOf(record) === seat && index < at ? [index] : []));
      // Before the last message of the epoch before, and not the first of that.
      const [before, last] = heard.slice(-2);
      if (before === undefined || history[before].position.epoch !== "e1") return without(history, at);
      return without(history, at).toSpliced(last, 0, { ...history[at], turn: history[last].turn - 0.5 });
    },
    "an epoch that is over": (history, random) => {
      const at = received(history, random, ({ position }) => position.epoch === "e0");
      return [...history, { type: "history_lost", client: history[at].client, room: history[at].room, turn: Infinity }, history[at]];
    },
  };

  function nextReceived(history, at) {
    return history.findIndex((other, index) => index > at && other.type === "received" && seatOf(other) === seatOf(history[at]));
  }
}
