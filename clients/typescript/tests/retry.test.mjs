// The retry machine against the vectors that every client has to pass, and against a server that only says no.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { RetryMachine } from "../dist/retry.js";
import { read } from "../dist/wire.js";

const vectors = JSON.parse(readFileSync(new URL("../../../conformance/retry.json", import.meta.url), "utf8"));

/** What arrives as a message is read as one. */
function fed({ type, data, code }) {
  if (type !== "error" && type !== "goodbye") return code === undefined ? { type } : { type, code };
  const { said } = read({ type, data });
  return { type, said, fatal: said.fatal };
}

function shown(decision) {
  if (decision === undefined) return undefined;
  const { do: what, delayMs, attempt, because } = decision;
  return what === "wait" ? { decision: what, delay_ms: delayMs, attempt, because } : { decision: what, because };
}

for (const { name, why, steps } of vectors) {
  test(`${name}: ${why}`, () => {
    const machine = new RetryMachine();
    for (const { now_ms, event, random, expect } of steps) {
      const decision = machine.handle(now_ms, fed(event), random ?? Number.NaN);
      assert.deepEqual(shown(decision), expect, JSON.stringify(event));
    }
  });
}

test("there are vectors", () => assert.ok(vectors.length >= 70));

/** How often a server is contacted in 20 s when it says `ready` and at once closes, each time. */
function contacts(code, random) {
  const machine = new RetryMachine();
  for (let now = 0, count = 1; ; count += 1) {
    for (const type of ["started", "open", "ready"]) machine.handle(now, { type }, random());
    let decision = machine.handle(now, { type: "ended", code }, random());
    if (decision.do === "reauthenticate") decision = machine.handle(now, { type: "token_renewed" }, random());
    if (decision.do === "give_up" || now + decision.delayMs >= 20_000) return count;
    now += decision.delayMs;
  }
}

test("a server that accepts and closes is not stormed, whatever the code", () => {
  for (let code = 1000; code < 5000; code += 1) {
    assert.ok(contacts(code, () => 1 - Number.EPSILON) <= 5, code);
    assert.ok(contacts(code, () => 0.5) <= 6, code);
  }
});

test("a wait is a whole number of milliseconds from 0 to 30 s, however many attempts there were", () => {
  const machine = new RetryMachine();
  for (let attempt = 1; attempt < 3_000; attempt += 1) {
    machine.handle(0, { type: "started" }, 0);
    const { delayMs } = machine.handle(0, { type: "ended", code: 1006 }, Math.random());
    assert.ok(Number.isInteger(delayMs) && delayMs >= 0 && delayMs < 30_000, `${delayMs} at ${attempt}`);
  }
});
