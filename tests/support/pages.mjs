import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout } from "node:timers/promises";

// Pages of a real browser, and the troubles of a page: what a developer would see in red in the console.

/** Launches `browser` for a `describe` block; give it to its before() and after(). */
export function browserFor({ launch }, { before, after }) {
  const held = {};
  before(async () => (held.browser = await launch()));
  after(() => held.browser?.close());
  return held;
}

/**
 * A new page, closed with the test. `page.troubles` lists errors on the console, uncaught exceptions, violations of the
 * Content-Security-Policy and answers of 400 and more, but for those whose text `expected` matches.
 */
export async function openPage(t, { browser }, url, { expected = /^$/, ...options } = {}) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 860 }, ...options });
  t.after(() => page.close());
  page.troubles = [];
  const trouble = (text) => expected.test(text) || page.troubles.push(text);
  page.on("console", (message) => message.type() === "error" && trouble(message.text()));
  page.on("pageerror", ({ message }) => trouble(message));
  page.on("response", (response) => response.status() >= 400 && trouble(`${response.status()} for ${response.url()}`));
  // Firefox keeps violations to its own console.
  await page.addInitScript(() =>
    addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
      console.error(`Content-Security-Policy: ${violatedDirective} keeps out ${blockedURI}`),
    ),
  );
  await page.goto(url);
  return page;
}

/** What the page says of an element in its `data-` attributes, once `selector` fits one. */
export async function dataOf(page, selector) {
  const found = page.locator(selector);
  await found.waitFor({ state: "attached" });
  return found.evaluate(({ dataset }) => ({ ...dataset }));
}

/** What `look` finds, for what comes without a word to us; fails with `what` when it has found nothing in five seconds. */
export async function soon(look, what) {
  for (const start = performance.now(); ; await setTimeout(10)) {
    const found = await look();
    if (found) return found;
    if (performance.now() - start > 5_000) throw new Error(`not so after five seconds: ${what}`);
  }
}

/** Serves an empty page at every path for as long as the test goes on; resolves to its origin. */
export async function servePages(t) {
  const http = createServer((_, response) => response.setHeader("content-type", "text/html").end("<!doctype html>"));
  await once(http.listen(0, "127.0.0.1"), "listening");
  t.after(() => http.close() && http.closeAllConnections());
  return `http://127.0.0.1:${http.address().port}`;
}
