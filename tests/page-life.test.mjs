// The life of a page around @saywhy/client, in real browsers: kept in the back/forward cache, where its connection is
// closed, and looked at again after its connection died.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, readdir } from "node:fs/promises";
import { createServer } from "node:http";
import test, { after, before, describe } from "node:test";
import { chromium } from "playwright-core";
import { browsers } from "./support/browsers.mjs";
import { serve } from "./support/client.mjs";
import { browserFor } from "./support/pages.mjs";

const dist = new URL("../clients/typescript/dist/", import.meta.url);

/** A server with one room, and pages that may connect to it and load the client. */
async function start(t) {
  const http = createServer(async ({ url }, response) => {
    const isModule = url.endsWith(".js");
    response.setHeader("content-type", isModule ? "text/javascript" : "text/html");
    response.end(isModule ? await readFile(new URL(`.${url}`, dist)) : "<!doctype html><title>page</title>");
  });
  await once(http.listen(0, "127.0.0.1"), "listening");
  t.after(() => http.close() && http.closeAllConnections());
  const pages = `http://127.0.0.1:${http.address().port}`;
  const config = `[[route]]\npath = "/ws"\nrooms = { open = ["lobby"] }\norigins = ["${pages}"]\n`;
  return { pages, server: await serve(t, { config }) };
}

/** A page whose client is in the lobby, and keeps what it is told in `said`. */
async function enter(t, browser, { pages, server }) {
  const page = await browser.newPage();
  t.after(() => page.close());
  await page.goto(`${pages}/`);
  await page.evaluate(
    async ({ url, token }) => {
      const { connect } = await import("/index.js");
      const said = (globalThis.said = []);
      const chat = connect(url, { token: () => token });
      for (const event of ["waiting", "connecting", "ready", "rejoined"]) chat.on(event, () => said.push(event));
      addEventListener("pageshow", ({ persisted }) => persisted && said.push("persisted"));
      await chat.ready();
      await chat.request("join", { room: "lobby" });
    },
    { url: server.url, token: await server.mint("alice") },
  );
  return page;
}

/** Stops every thread of the server: the last of them may still answer after the signal was sent. */
async function halt({ pid }) {
  process.kill(pid, "SIGSTOP");
  // One that has ended meanwhile has no state.
  const stateOf = (thread) => readFile(`/proc/${pid}/task/${thread}/stat`, "utf8").catch(() => "");
  const isHalted = async (thread) => /^\d+ \(.*\) T/.test(await stateOf(thread));
  for (;;) {
    const threads = await Promise.all((await readdir(`/proc/${pid}/task`)).map(isHalted));
    if (threads.every(Boolean)) return;
  }
}

/** What the page was told, once it was told of that. */
async function saidBy(page, event) {
  await page.waitForFunction((event) => said.includes(event), event, { timeout: 30_000 });
  return page.evaluate(() => said);
}

for (const browser of browsers) {
  describe(browser.name, { concurrency: 1 }, () => {
    const held = browserFor(browser, { before, after });

    test("a connection that died unnoticed is found out when somebody looks, long before the next heartbeat", async (t) => {
      const world = await start(t);
      const page = await enter(t, held.browser, world);
      assert.deepEqual(await page.evaluate(() => said), ["ready"]);
      await halt(world.server);
      try {
        // No browser without a screen can be made to hide a page, so this word of it is not the browser's own.
        await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange", { bubbles: true })));
        assert.deepEqual((await saidBy(page, "waiting")).slice(0, 2), ["ready", "waiting"]);
      } finally {
        process.kill(world.server.pid, "SIGCONT");
      }
      assert.equal((await saidBy(page, "rejoined")).at(-1), "rejoined");
    });
  });
}

const hasChromium = browsers.some(({ name }) => name === "chromium");

test("a page that comes out of the back/forward cache comes back to its room", { skip: !hasChromium }, async (t) => {
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu"],
    ignoreDefaultArgs: ["--disable-back-forward-cache"],
  });
  t.after(() => browser.close());
  const world = await start(t);
  const page = await enter(t, browser, world);
  await page.goto(`${world.pages}/elsewhere`);
  // A page that was kept does not load again.
  await page.goBack({ waitUntil: "commit" });
  const told = await saidBy(page, "rejoined");
  assert.deepEqual(told.toSorted(), ["connecting", "persisted", "ready", "ready", "rejoined", "waiting"]);
});
