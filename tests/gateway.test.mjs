// The gateway: whatever goes wrong behind it, the client in front is told.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FAULTS, startBackend } from "./support/backend.mjs";
import { browsers } from "./support/browsers.mjs";
import { call, connect, eventually, serve } from "./support/client.mjs";
import { CROWD } from "./support/crowd.mjs";
import { browserFor } from "./support/pages.mjs";
import { closeInfo, rawConnect } from "./support/raw.mjs";
import { recordSocket } from "./support/socket-script.mjs";

const AT_ONCE = 6; // Chromium holds back what is more than that

const config = (upstream, route = "") => `
[limits]
messages_per_s = 1000000
message_burst = 1000000
${CROWD}
[[route]]
path = "/"
upstream = "${upstream}"
relay = { answer_ms = 700, message_bytes = 100000 }
${route}`;

/** A back end that misbehaves, the gateway in front of it, and pages that may connect. */
async function start(t, route = "") {
  const backend = await startBackend();
  t.after(backend.stop);
  const http = createServer((_, response) => response.setHeader("content-type", "text/html").end("<!doctype html>"));
  await once(http.listen(0, "127.0.0.1"), "listening");
  t.after(() => http.close() && http.closeAllConnections());
  const pages = `http://127.0.0.1:${http.address().port}/`;
  const server = await serve(t, { config: config(backend.url, `origins = ["${pages.slice(0, -1)}"]\n${route}`) });
  return { backend, server, pages, at: (path) => new URL(path, server.url).href };
}

async function openPage(t, { browser }, url) {
  const page = await browser.newPage();
  t.after(() => page.close());
  await page.goto(url);
  return page;
}

/** What is wrong with what a page has seen of a fault. */
function faultsOf(name, events) {
  const { expect } = FAULTS[name];
  const faults = [];
  const check = (is, should, what) => is === should || faults.push(`${name}: ${what} is ${JSON.stringify(is)}, not ${JSON.stringify(should)}: ${JSON.stringify(events)}`);
  const last = events.at(-1);
  check(last.type, "close", "the last event");
  check(last.code, expect.code, "the code");
  if ("reason" in expect) check(last.reason, expect.reason, "the reason");
  if (expect.inside) check(last.reason, expect.inside, "the reason");
  const errors = events.flatMap(({ type, data }) => (type === "message" && String(data).startsWith('{"type":"error"') ? [JSON.parse(data)] : []));
  if (expect.name && !expect.inside) {
    check(errors.length, 1, "how many errors");
    const { data } = errors[0] ?? { data: {} };
    check(data.name, expect.name, "the name");
    check(data.fatal, true, "fatal");
    check(data.message, last.reason, "what the message says");
    if (expect.message) check(data.message, expect.message, "the words");
    if (expect.retry) check(data.retry, expect.retry, "retry");
    if (expect.retry_after_ms) check(data.retry_after_ms, expect.retry_after_ms, "retry_after_ms");
    if (expect.location) check(data.details?.location, expect.location, "the location");
    check(data.details?.source, "upstream", "the source");
  } else {
    check(errors.length, 0, "how many errors");
  }
  check(events.some(({ type, data }) => type === "message" && data === "hello"), !expect.refused, "whether it said hello");
  return faults;
}

describe("the gateway", { timeout: 300_000 }, () => {
  for (const browser of browsers) {
    describe(browser.name, { concurrency: 1 }, () => {
      const held = browserFor(browser, { before, after });

      test("every fault of a back end, explained", async (t) => {
        const { at, pages } = await start(t);
        const page = await openPage(t, held, pages);
        const names = Object.keys(FAULTS);
        const faults = [];
        while (names.length > 0) {
          const some = names.splice(0, AT_ONCE);
          const seen = await Promise.all(some.map((name) => page.evaluate(recordSocket, { url: at(`/${name}`) })));
          faults.push(...some.flatMap((name, index) => faultsOf(name, seen[index])));
        }
        assert.deepEqual(faults, []);
      });

      test("nobody listens", async (t) => {
        const { backend, at, pages } = await start(t);
        const page = await openPage(t, held, pages);
        backend.stop();
        const events = await page.evaluate(recordSocket, { url: at("/quiet") });
        const [, { data }, { code, reason }] = events;
        assert.deepEqual([code, reason, JSON.parse(data).data.name], [1014, "The upstream cannot be reached", "bad_gateway"]);
      });
    });
  }

  test("a judge that sees what is wrong", () => {
    const right = [{ type: "open" }, { type: "message", data: "hello" }, { type: "close", code: 4001, reason: "first" }];
    assert.deepEqual(faultsOf("two-closes", right), []);
    for (const wrong of [{ code: 1006, reason: "" }, { code: 4002, reason: "second" }]) {
      assert.notDeepEqual(faultsOf("two-closes", [...right.slice(0, 2), { type: "close", ...wrong }]), []);
    }
    assert.notDeepEqual(faultsOf("two-closes", right.filter(({ type }) => type !== "message")), []);
    assert.notDeepEqual(faultsOf("fin", right), []);
  });

  test("a program gets the upstream's own status, in HTTP", async (t) => {
    const { at } = await start(t);
    for (const [name, { expect }] of Object.entries(FAULTS).filter(([, { expect }]) => expect.refused)) {
      const peer = await rawConnect(at(`/${name}`));
      const problem = JSON.parse(peer.body);
      assert.deepEqual([peer.status, problem.name], [expect.status, expect.name], name);
      assert.equal(peer.headers["content-type"], "application/problem+json");
      assert.equal(problem.details.source, "upstream");
      if (name.startsWith("status-")) assert.equal(problem.details.http_status, Number(name.slice(7)));
      if (expect.retry_after_ms) assert.equal(peer.headers["retry-after"], String(expect.retry_after_ms / 1000));
      assert.equal(peer.headers.location, undefined);
    }
  });
});
