// Whatever a server says and does, the retry machine keeps its bounds; and so does the whole client that obeys it.
import assert from "node:assert/strict";
import test from "node:test";
import { ROWS } from "../dist/catalogue.js";
import { connectPlain } from "../dist/index.js";
import { RetryMachine } from "../dist/retry.js";
import { forAll } from "./support/generator.mjs";
import { settled, start } from "./support/fake.mjs";

const RETRIES = ["never", "now", "backoff", "after", "reauthenticate"];
const LASTING_MS = 5_000;
const LONGEST = 1 - Number.EPSILON;

const ceilingMs = (attempt) => Math.min(30_000, 1_000 * 2 ** (attempt - 1));

function anySaid(generate) {
  const row = generate.perhaps(() => generate.one(ROWS));
  const someMs = () => generate.one([0, 1, 500, 20_000, 3_599_999, 3_600_000, 2 ** 40, Number.MAX_SAFE_INTEGER]);
  return {
    code: generate.one([row?.code, undefined, generate.whole(0, 6_000)]),
    name: generate.one([row?.name, undefined, "room_full"]),
    retry: generate.perhaps(() => generate.one(RETRIES)),
    retryAfterMs: generate.perhaps(someMs),
    spreadMs: generate.perhaps(someMs),
  };
}

function anyEvent(generate) {
  const type = generate.one(["started", "started", "open", "ready", "error", "goodbye", "ended", "ended", "token_renewed", "token_failed"]);
  if (type === "error") return { type, said: anySaid(generate), fatal: generate.random() < 0.7 };
  if (type === "goodbye") return { type, said: anySaid(generate) };
  if (type === "ended") return { type, code: generate.one([1000, 1005, 1006, generate.one(ROWS).app ?? 1001, generate.whole(1000, 4999)]) };
  return { type };
}

/** What is wrong with what a machine answers to any events. */
function checkBounds(machine, generate) {
  let nowMs = 0;
  let isOver = false;
  let isLive = false;
  let readyAtMs;
  // Since a session lasted: endings, waits that were shorter than backoff's, requests for a token.
  let attempts = 0;
  let hurried = 0;
  let renewals = 0;
  for (const _ of generate.list(generate.whole(0, 100), () => 0)) {
    nowMs += generate.whole(0, 7_000);
    const event = anyEvent(generate);
    const random = generate.random();
    const decision = machine.handle(nowMs, event, random);
    assert.ok(!isOver || decision === undefined, "it answers after giving up");
    if (event.type === "started" && !isOver) [isLive, readyAtMs] = [true, undefined];
    if (event.type === "ready" && isLive) readyAtMs ??= nowMs;
    if (event.type === "ended" && isLive) {
      if (readyAtMs !== undefined && nowMs - readyAtMs >= LASTING_MS) [attempts, hurried, renewals] = [0, 0, 0];
      attempts += 1;
      isLive = false;
      assert.ok(isOver || decision !== undefined, "an ending was not answered");
    }
    switch (decision?.do) {
      case "wait": {
        const { delayMs, attempt, because } = decision;
        const backoffMs = Math.floor(random * ceilingMs(attempts));
        assert.equal(attempt, attempts);
        assert.ok(Number.isInteger(delayMs) && delayMs >= 0, `${delayMs} ms`);
        if (because.retry === "after") assert.ok(delayMs <= 3_600_000, `${delayMs} ms`);
        else assert.ok(delayMs === 0 || delayMs === backoffMs, `${delayMs} ms, not ${backoffMs}`);
        hurried += delayMs < backoffMs ? 1 : 0;
        isLive = false;
        break;
      }
      case "reauthenticate":
        renewals += 1;
        isLive = false;
        break;
      case "give_up":
        isOver = true;
        break;
    }
    assert.ok(hurried <= 3 && renewals <= 1, `${hurried} in a hurry, ${renewals} tokens`);
  }
}

test("whatever happens, the bounds hold", () => {
  forAll((generate) => checkBounds(new RetryMachine(), generate));
});

test("machines that do not keep them are found", () => {
  /** A machine whose answers are spoilt. */
  const spoilt = (spoil) =>
    class extends RetryMachine {
      handle(nowMs, event, random) {
        const decision = super.handle(nowMs, event, random);
        return decision && spoil(decision, event);
      }
    };
  const wait = (change) => (decision) => (decision.do === "wait" ? { ...decision, ...change(decision) } : decision);
  const wrong = {
    "always at once": spoilt(wait(() => ({ delayMs: 0 }))),
    "longer than backoff": spoilt(wait(({ delayMs, because }) => ({ delayMs: because.retry === "backoff" ? delayMs + 30_000 : delayMs }))),
    "for days": spoilt(wait(({ delayMs, because }) => ({ delayMs: because.retry === "after" ? delayMs * 1_000 + 3_600_001 : delayMs }))),
    "by a count of its own": spoilt(wait(({ attempt }) => ({ attempt: attempt + 1 }))),
    "for any token": spoilt((decision) => (decision.do === "give_up" ? { ...decision, do: "reauthenticate" } : decision)),
    "never answering": spoilt(() => undefined),
    "forgetting on open": class extends RetryMachine {
      #inner = new RetryMachine();
      handle(nowMs, event, random) {
        if (event.type === "open") this.#inner = new RetryMachine();
        return this.#inner.handle(nowMs, event, random);
      }
    },
  };
  for (const [name, Machine] of Object.entries(wrong)) {
    assert.throws(() => forAll((generate) => checkBounds(new Machine(), generate), 2_000), { name: "AssertionError" }, name);
  }
});

// ---- the whole client --------------------------------------------------------------------------------------------------

/** How often a server is contacted in 20 s that ends each connection in the same way, as soon as it is there. */
async function contacts(end, options, dial) {
  const world = start({ random: () => LONGEST, token: () => "t", ...options }, dial);
  await settled();
  for (;;) {
    end(world.socket);
    await settled();
    const delayMs = world.chat.state === "waiting" ? world.told("waiting").at(-1).delayMs : 0;
    const isOver = world.chat.state === "closed";
    if (isOver || world.clock.now() + delayMs >= 20_000 || world.sockets.length > 100) {
      void world.chat.close();
      return { count: world.sockets.length, isOver };
    }
    await world.clock.pass(delayMs);
  }
}

/** What a server may do before it ends a connection, and how much of it. */
const UPTO = { nothing: () => {}, open: (socket) => socket.open(), ready: (socket) => socket.ready() };

const byMessage = ({ name, code, retry, app }, upTo) => (socket) => {
  upTo(socket);
  socket.error({ code, name, fatal: true, retry, ...(retry === "after" ? { retry_after_ms: 0 } : {}) });
  socket.end(app ?? 1000);
};

const byClose = (code, upTo) => (socket) => {
  upTo(socket);
  socket.end(code);
};

/** The most connections in 20 s with the longest draws, for what is asked for. */
const MOST = { never: 1, reauthenticate: 2, now: 5, backoff: 5, after: 5 };

for (const row of ROWS) {
  test(`${row.name}, by message and by Close: at most ${MOST[row.retry]} connections in 20 s`, async () => {
    for (const upTo of [UPTO.open, UPTO.ready]) {
      const { count, isOver } = await contacts(byMessage(row, upTo));
      assert.ok(count <= MOST[row.retry], `${count} by message`);
      assert.equal(isOver, row.retry === "never" || row.retry === "reauthenticate");
      if (row.app === null) continue;
      for (const dial of [undefined, connectPlain]) {
        const { count } = await contacts(byClose(row.app, upTo), {}, dial);
        assert.ok(count <= MOST[row.retry], `${count} by Close`);
      }
    }
  });
}

test("every close code, and none: at most 5 connections in 20 s; one, where coming back is of no use", async () => {
  for (let code = 1000; code < 5000; code += 1) {
    const row = ROWS.find(({ app }) => app === code) ?? ROWS.find(({ iana }) => iana === code);
    const isFinal = row ? row.retry === "never" : code === 1000 || code >= 4000;
    const { count } = await contacts(byClose(code, UPTO.ready));
    assert.ok(isFinal ? count === 1 : count <= 5, `${count} with ${code}`);
  }
  const { count } = await contacts(byClose(1006, UPTO.nothing));
  assert.equal(count, 5);
});

test("a client that is stormy would be noticed", async () => {
  const { count } = await contacts(byClose(1001, UPTO.ready), { random: () => 0 });
  assert.ok(count > 5, `${count}`);
});
