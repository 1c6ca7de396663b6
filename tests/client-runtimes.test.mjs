// One table of scenarios in every runtime that has a WebSocket, against the real server. Prints who held what.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { runtimes } from "./support/runtimes/runtimes.mjs";
import { SCENARIOS } from "./support/runtimes/scenarios.mjs";

const LIMIT_MS = 60_000;
const held = new Map(Object.keys(SCENARIOS).map((scenario) => [scenario, {}]));

for (const { name: runtime, missing, start } of runtimes) {
  describe(runtime, { skip: missing, concurrency: 3 }, () => {
    let running;
    before(async () => (running = await start()));
    after(() => running?.stop());
    for (const [scenario, { only = [runtime], todo = {} }] of Object.entries(SCENARIOS)) {
      if (!only.includes(runtime)) continue;
      test(scenario, { timeout: LIMIT_MS, todo: todo[runtime] }, async (t) => {
        held.get(scenario)[runtime] = todo[runtime] ? "todo" : "NO";
        const why = await running.play(t, scenario);
        assert.equal(why, undefined);
        held.get(scenario)[runtime] = "ok";
      });
    }
    test("what does not hold is said", { timeout: LIMIT_MS }, async (t) => {
      assert.match(await running.play(t, "nothing that holds"), /^forbidden: [^]*\ntold: authenticating, closed$/);
    });
  });
}

after(() => console.table(Object.fromEntries(held)));
