// `@saywhy/client/react` with real React, in its development build, in real browsers.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "../clients/typescript/node_modules/esbuild/lib/main.js";
import { browsers } from "./support/browsers.mjs";
import { browserFor, openPage, servePages } from "./support/pages.mjs";
import { startScripted } from "./support/scripted.mjs";

const LEFT = { code: 1000, reason: "" };
const HERE = "still here";

const EXPECTED = {
  "strict mode opens one, and keeps it": { connections: 1, closes: [HERE], state: "ready", user: "bob", isSame: true, text: "ready" },
  "a naive hook opens two in strict mode": { connections: 2 },
  "unmounted, it is closed": { connections: 1, closes: [LEFT], client: "closed", isIdle: true },
  "unmounted at once, nothing stays": { closes: [undefined], isIdle: true },
  "another URL is another connection, and none is none": {
    states: ["two connecting"], urls: ["wss://test/one", "wss://test/two"], closes: [LEFT, HERE], state: "ready",
    none: { client: true, state: "closed", error: true }, closesThen: [LEFT, LEFT],
  },
  "other options change nothing but the token": { connections: 1, asked: ["first", "second"] },
  "hidden, it is closed; shown, there is another": {
    connections: 1, closes: [LEFT], state: "ready", user: "eve", isThere: true, closesThen: [LEFT, HERE],
  },
  "what happens is seen": {
    facts: [
      ["connecting", null, null, null],
      ["ready", "alice", null, null],
      ["waiting", null, "service_restart", { delayMs: 2_000, attempt: 1 }],
      ["connecting", null, "service_restart", null],
      ["ready", "eve", null, null],
      ["offline", null, "connection_lost", null],
      ["closed", null, "forbidden", null],
      ["connecting", null, null, null],
      ["ready", "alice", null, null],
    ],
    connections: 4, closes: [{ code: 1012, reason: "The service is restarting" }, undefined, { code: 4004, reason: "You may not do that" }, HERE],
    isStable: true,
  },
  "a platform without a WebSocket is an error": { state: "closed", error: "cannot_connect" },
  "an address that is none goes to the error boundary": { caught: "TypeError", connections: 0 },
  "on a server nothing is connected, and in the page it is taken over": { markup: "<p>connecting</p>", connections: 1, text: "ready" },
  "a server of another kind": { offered: ["chat"], state: "ready", ready: { protocol: "chat" }, closes: [LEFT] },
};

/** The page's script: React and the hooks, as a bundler makes it. */
async function script() {
  const { outputFiles } = await build({
    stdin: {
      contents: readFileSync(new URL("./support/react-page.mjs", import.meta.url), "utf8"),
      resolveDir: fileURLToPath(new URL("../clients/typescript", import.meta.url)),
    },
    bundle: true,
    format: "iife",
    define: { "process.env.NODE_ENV": '"development"' },
    write: false,
  });
  return outputFiles[0].text;
}

for (const browser of browsers) {
  describe(browser.name, { timeout: 180_000 }, () => {
    const held = browserFor(browser, { before, after });
    let content;
    before(async () => (content = await script()));

    const openApp = async (t, expected) => {
      const page = await openPage(t, held, await servePages(t), { expected });
      await page.addScriptTag({ content });
      return page;
    };

    test("a connection lives as long as the component that holds it", async (t) => {
      // React says on the console, too, what it hands to a boundary.
      const page = await openApp(t, /not the URL of a WebSocket|The above error occurred in the <Chat> component/);
      for (const [name, facts] of Object.entries(EXPECTED)) {
        await t.test(name, async () => {
          assert.deepEqual(await page.evaluate((name) => globalThis.scenarios[name](), name), facts);
          assert.deepEqual(page.troubles, []);
        });
      }
    });

    for (const [hook, isNaive, opened] of [["useConnection", false, 1], ["a naive hook", true, 2]]) {
      test(`${hook} in strict mode opens ${opened} over a real socket`, async (t) => {
        const server = await startScripted();
        t.after(server.stop);
        const page = await openApp(t, /WebSocket/);
        void (async () => {
          for (;;) {
            const session = await server.connection();
            session.accept();
            session.send('{"type":"ready","data":{}}');
          }
        })();
        const made = await page.evaluate(([url, isNaive]) => globalThis.mountOnSocket(url, isNaive), [server.url, isNaive]);
        assert.equal(made, opened);
        // One that is closed at once need not get as far as the server.
        assert.ok(server.count() >= 1 && server.count() <= opened);
      });
    }
  });
}
