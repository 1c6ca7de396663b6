// `@saywhy/client/testing` is as good as it is like a browser. The same servers and the same pages, in a table of scenarios,
// over TCP to Chromium and Firefox, and in this process to the `WebSocket` of a `TestServer`: all that the page sees is equal.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { TestServer, settled } from "../clients/typescript/dist/testing.js";
import { browsers } from "./support/browsers.mjs";
import { browserFor } from "./support/pages.mjs";
import { playSocket } from "./support/play-socket.mjs";
import { startScripted } from "./support/scripted.mjs";
import { SCENARIOS } from "./support/socket-scenarios.mjs";

/** Whoever wants to wait a minute for Chromium to lose its patience says so. */
const LONGEST_MS = process.env.SAYWHY_SLOW ? 60_000 : 5_000;

/** What Firefox does otherwise: `null` where that is not the same each time. */
const FIREFOX = {
  "a reason of 124 bytes": null,
  "a Close with 1005": (log) => [...untilTheEnd(log), ...closed(1005, "because", true)],
  "a Close with 1006": (log) => [...untilTheEnd(log), ...closed(1006, "because", true)],
  "a Close with 1015": (log) => [...untilTheEnd(log), ...closed(1015, "because", true)],
  "two Closes": (log) => [...untilTheEnd(log), ...closed(4001, "first", true)],
  "a message after the Close": (log) => [...untilTheEnd(log), ...closed(4001, "first", true)],
  "a drop right behind a message": null,
  "a reset": (log) => [...untilTheEnd(log), ...failed],
  "half-open, closed by the page, for ever": (log) => [...untilTheEnd(log), ...failed],
  "no subprotocol is selected": ([made]) => [
    made,
    ...noted({ event: "open", readyState: 1, protocol: "", extensions: "" }),
    ...noted({ event: "message", readyState: 1, data: "hello" }),
    ...closed(1000, "", true),
  ],
};

const noted = (entry) => [entry, { microtask: entry.event }];
const closed = (code, reason, wasClean) => noted({ event: "close", readyState: 3, code, reason, wasClean });
const failed = [...noted({ event: "error", readyState: 3, isPlain: true }), ...closed(1006, "", false)];
const untilTheEnd = (log) => log.slice(0, log.findIndex(({ event }) => event === "error" || event === "close"));

const closeEvent = (code) => Object.assign(new Event("close"), { code, reason: "", wasClean: true });

/** What stand-ins for a browser get wrong, one thing each. */
const SPOILT = {
  "shows the code of a refused handshake": (WebSocket) =>
    class extends WebSocket {
      dispatchEvent(event) {
        return super.dispatchEvent(event.code === 1006 ? closeEvent(4401) : event);
      }
    },
  "forgets the error before it": (WebSocket) =>
    class extends WebSocket {
      dispatchEvent(event) {
        return event.type === "error" || super.dispatchEvent(event);
      }
    },
  "is over inside close()": (WebSocket) =>
    class extends WebSocket {
      close(...args) {
        const wasOpen = this.readyState === this.OPEN;
        super.close(...args);
        if (wasOpen) this.dispatchEvent(closeEvent(1000));
      }
    },
  "closes with any code": (WebSocket) =>
    class extends WebSocket {
      close() {
        super.close();
      }
    },
  "is content without the subprotocol that it asked for": (WebSocket) =>
    class extends WebSocket {
      constructor(url) {
        super(url);
      }
    },
};

/** What a page sees of a `TestServer`, whose `WebSocket` may be spoilt. */
async function inProcess({ serve, waitMs, url = "ws://127.0.0.1/ws", ...page }, spoil = (WebSocket) => WebSocket) {
  const server = new TestServer();
  const played = playSocket({ url, ...page }, spoil(server.WebSocket));
  if (serve) await serve(await server.connection(), { pageCloses: settled });
  if (waitMs) {
    await server.clock.pass(waitMs - 1);
    assert.equal(server.clock.isIdle, false, "Chromium would still wait");
    await server.clock.pass(1);
  }
  return played;
}

/** What the first browser saw. */
const seen = new Map();

for (const browser of browsers) {
  describe(browser.name, { timeout: 180_000 }, () => {
    const held = browserFor(browser, { before, after });
    let page;
    before(async () => {
      page = await held.browser.newPage();
    });

    for (const [name, { serve, waitMs = 0, url, ...scenario }] of Object.entries(SCENARIOS)) {
      const differs = browser.name === "firefox" ? FIREFOX[name] : undefined;
      const skip = waitMs > LONGEST_MS ? "takes a minute: SAYWHY_SLOW=1" : differs === null && "not the same each time";
      test(name, { skip }, async (t) => {
        const server = await startScripted();
        t.after(server.stop);
        const played = page.evaluate(playSocket, { url: url ?? server.url, ...scenario });
        const pageCloses = () => page.waitForFunction(() => globalThis.isClosing);
        if (serve) await serve(await server.connection(), { pageCloses });
        const log = await played;
        if (browser === browsers[0]) seen.set(name, log);
        const ours = await inProcess(SCENARIOS[name]);
        assert.deepEqual(log, differs ? differs(ours) : ours);
        if (differs) assert.notDeepEqual(log, ours, "it does not differ any more");
      });
    }
  });
}

describe("a stand-in is found out that", () => {
  for (const [what, spoil] of Object.entries(SPOILT)) {
    test(what, async () => {
      const scripted = [...seen].filter(([name]) => SCENARIOS[name].serve);
      assert.ok(scripted.length > 0);
      const judged = scripted.map(async ([name, log]) => isDeepStrictEqual(log, await inProcess(SCENARIOS[name], spoil)) || name);
      assert.ok((await Promise.all(judged)).some((name) => name !== true));
    });
  }
});
