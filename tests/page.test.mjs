// The page of development mode, as a person uses it: every button pressed, both sides read, Alice and Bob put through it.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { browsers } from "./support/browsers.mjs";
import { serve } from "./support/client.mjs";
import { browserFor, dataOf, openPage, soon } from "./support/pages.mjs";

const artefacts = fileURLToPath(new URL("./artefacts/", import.meta.url));
mkdirSync(artefacts, { recursive: true });

const catalogue = readFileSync(new URL("../catalogue/catalogue.json", import.meta.url), "utf8");
const rowNamed = (name) => JSON.parse(catalogue).rows.find((row) => row.name === name);

const [ENDS, GOES_ON] = [true, false];
const NOTHING = "";

/** What each button brings about: the close code a browser is told the usual way, the row Saywhy names, and the session's fate. */
const EXPECTED = {
  "no-token": ["1006", "unauthorized", ENDS],
  "bad-token": ["1006", "unauthorized", ENDS],
  "expired-token": ["1006", "unauthorized", ENDS],
  "foreign-origin": ["1006", "forbidden", ENDS],
  "unknown-path": ["1006", "not_found", ENDS],
  "rate-limited-refusal": ["1006", "rate_limited", ENDS],
  overloaded: ["1006", "overloaded", ENDS],
  draining: ["1006", "service_restart", ENDS],
  "upstream-down": ["1006", "bad_gateway", ENDS],
  "upstream-timeout": ["1006", "gateway_timeout", ENDS],
  "refusal-panic": ["1006", "internal_error", ENDS],
  "malformed-json": [NOTHING, "bad_request", GOES_ON],
  "unknown-type": [NOTHING, "bad_request", GOES_ON],
  "missing-field": [NOTHING, "bad_request", GOES_ON],
  "unknown-room": [NOTHING, "not_found", GOES_ON],
  "closed-room": [NOTHING, "invalid_action", GOES_ON],
  "not-joined": [NOTHING, "invalid_action", GOES_ON],
  forbidden: [NOTHING, "forbidden", GOES_ON],
  "history-lost": [NOTHING, "history_lost", GOES_ON],
  binary: ["1003", "unsupported_data", ENDS],
  oversize: ["1009", "message_too_big", ENDS],
  flood: ["1006", "policy_violation", ENDS],
  "handler-error": [NOTHING, "internal_error", GOES_ON],
  "handler-panic": ["1006", "internal_error", ENDS],
  kicked: ["1005", "kicked", ENDS],
  replaced: ["1005", "replaced", ENDS],
  restart: ["1006", "service_restart", ENDS],
  "token-expires": ["1006", "unauthorized", ENDS],
  "slow-reader": ["1006", "slow_consumer", ENDS],
  "idle-timeout": ["1006", "timeout", ENDS],
};

/** The page runs one failure by itself. A person would let it end before they press anything. */
async function firstImpression(page) {
  for (const side of ["usual", "saywhy"]) await dataOf(page, `article[data-side="${side}"][data-done="true"]`);
}

/** Browsers report on the console what the server of the usual kind does: that is what it is there for. */
const USUAL = { expected: /\/usual\?/ };

// Both browsers at once: most of this is waiting for what does not come.
describe("the page", { concurrency: true }, () => {
  for (const browser of browsers) {
    describe(browser.name, { concurrency: 1, timeout: 240_000 }, () => {
      const held = browserFor(browser, { before, after });

      test("every button: what the usual way says, and what Saywhy says", async (t) => {
        const server = await serve(t, { panics: true, args: ["--log", "debug"] });
        const page = await openPage(t, held, server.page, USUAL);
        await firstImpression(page);
        const slugs = await page.$$eval(".failure", (buttons) => buttons.map(({ dataset }) => dataset.failure));
        assert.deepEqual(slugs, Object.keys(EXPECTED));
        for (const slug of slugs) {
          await t.test(slug, async () => {
            await page.click(`.failure[data-failure="${slug}"]`);
            const side = (name) => `article[data-failure="${slug}"][data-side="${name}"][data-done="true"]`;
            const [usually, name, ends] = EXPECTED[slug];

            const usual = await dataOf(page, side("usual"));
            const { closeCode, reason, message, requestId, explained } = usual;
            assert.deepEqual({ closeCode, reason, message, requestId }, { closeCode: usually, reason: "", message: "", requestId: "" });
            assert.equal(explained, String(usually === "1003" || usually === "1009"));

            const row = rowNamed(name);
            const said = await dataOf(page, side("saywhy"));
            assert.equal(said.asExpected, "true", JSON.stringify(said));
            assert.equal(said.code, String(row.code));
            assert.equal(said.name, name);
            assert.equal(said.closeCode, ends ? String(row.close.app) : "");
            assert.equal(said.retry, row.retry);
            assert.notEqual(said.message, "");
            assert.equal(said.reason, ends ? said.message : "");
            assert.equal(said.userReads, said.message);
            assert.equal(said.explained, "true");
            assert.match(said.requestId, /^[!-~]+$/);
            await soon(() => server.log().includes(said.requestId), `${said.requestId} is in the log`);

            const kinds = await page.$$eval(`${side("saywhy")} .timeline li`, (all) => all.map(({ dataset }) => dataset.kind));
            if (ends) assert.deepEqual(kinds.slice(-2), ["message", "close"]);
            else assert.equal(kinds.at(-1), "alive");
          });
        }
        assert.deepEqual(page.troubles, []);
      });

      test("all at once: 30 of 30 are explained", async (t) => {
        const server = await serve(t, { panics: true });
        const page = await openPage(t, held, server.page, USUAL);
        await firstImpression(page);
        await page.click("#run-all");
        await page.locator('#tally > [data-done="true"]').waitFor();
        const scores = await page.$$eval(".score", (all) => all.map(({ dataset }) => [dataset.tally, dataset.explained]));
        assert.deepEqual(scores, [["usual", "2"], ["saywhy", "30"]]);
        const cells = await page.$$eval('td[data-side="saywhy"]', (all) => all.map(({ dataset }) => dataset.asExpected));
        assert.deepEqual(cells, Array(30).fill("true"));
        assert.deepEqual(page.troubles, []);
      });

      test("Alice and Bob talk, one is kicked, one is restarted, and nobody misses a line", async (t) => {
        const server = await serve(t);
        const page = await openPage(t, held, server.page, USUAL);
        const person = (user) => ({
          is: (state) => page.locator(`[data-user="${user}"][data-state="${state}"]`).waitFor(),
          does: (action) => page.click(`[data-user="${user}"] [data-action="${action}"]`),
          async says(text) {
            await page.fill(`[data-user="${user}"] input`, text);
            await page.click(`[data-user="${user}"] form button`);
          },
          hears: (text) => page.locator(`[data-user="${user}"] [data-kind="line"]`, { hasText: text }).waitFor(),
          reads: (text) => page.locator(`[data-user="${user}"] [data-kind="note"]`, { hasText: text }).last().waitFor(),
          told: (code) => page.locator(`[data-user="${user}"] [data-kind="error"][data-code="${code}"]`).innerText(),
          lines: () => page.$$eval(`[data-user="${user}"] [data-kind="line"]`, (all) => all.map(({ innerText, dataset }) => [dataset.position, innerText])),
          data: () => dataOf(page, `[data-user="${user}"]`),
        });
        const [alice, bob] = [person("alice"), person("bob")];
        await Promise.all([alice.hears("Loud and clear."), bob.hears("Loud and clear.")]); // their own small talk is over
        await alice.says("Is this thing on?");
        await bob.hears("Is this thing on?");
        await bob.says("It is.");
        await alice.hears("It is.");

        await alice.does("kick");
        await alice.is("ended");
        assert.match(await alice.told(4008), /Be kind, or be elsewhere\s+4008 kicked · do not try again/);
        await bob.reads("Exit Alice.");
        await bob.says("They are gone.");
        await bob.hears("They are gone.");
        await alice.does("come-back");
        await alice.reads("1 line missed, 1 caught up.");
        await bob.reads("Enter Alice.");

        await bob.does("restart");
        await bob.is("waiting");
        assert.match(await bob.told(1012), /The service is restarting\s+1012 service_restart · try again in 2\.5 s/);
        await bob.reads("3 lines missed, 3 caught up.");
        const { state, missed, received } = await bob.data();
        assert.deepEqual({ state, missed, received }, { state: "ready", missed: "3", received: "3" });

        await alice.does("closed-room");
        assert.match(await alice.told(4002), /The room is closed\s+4002 invalid_action/);
        await alice.says("And on it goes.");
        await bob.hears("And on it goes.");
        await alice.hears("And on it goes.");
        assert.deepEqual(await alice.lines(), await bob.lines());
        assert.deepEqual(page.troubles, []);
      });

      test("the code that it shows says why in the console", async (t) => {
        const server = await serve(t);
        const page = await openPage(t, held, server.page, USUAL);
        await firstImpression(page);
        const said = [];
        page.on("console", (message) => said.push(message.text()));
        await page.evaluate(`${await page.innerText("#own")}; 0`);
        await soon(() => said.length >= 2, "two lines on the console");
        assert.deepEqual(said, ["A token is needed: sign in · reauthenticate", "4003 A token is needed: sign in"]);
      });

      test("light and dark, desktop and phone", async (t) => {
        const server = await serve(t);
        for (const [size, viewport] of Object.entries({ desktop: { width: 1280, height: 860 }, phone: { width: 390, height: 844 } })) {
          const page = await openPage(t, held, server.page, { ...USUAL, viewport });
          await firstImpression(page);
          await page.locator('[data-user="alice"] [data-kind="line"] >> nth=1').waitFor();
          const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          assert.ok(overflow <= 0, `on a ${size} the page is ${overflow} px too wide`);
          assert.deepEqual(page.troubles, []); // before the screenshots, for which Playwright adds a style
          for (const [colorScheme, paper] of Object.entries({ light: "rgb(244, 244, 241)", dark: "rgb(19, 20, 22)" })) {
            await page.emulateMedia({ colorScheme });
            assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), paper);
            await page.hover('.failure[aria-current="true"]');
            assert.ok((await page.$eval('.failure[aria-current="true"]', contrast)) > 7, `${colorScheme}: the button that was pressed is legible`);
            await page.screenshot({ path: `${artefacts}page-${browser.name}-${size}-${colorScheme}.png`, fullPage: true });
          }
        }
      });
    });
  }
});

/** The contrast of an element's text with its background, as WCAG 2 has it. Runs in the page. */
function contrast(element) {
  const luminance = (colour) => {
    const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const [red, green, blue] = colour.match(/\d+/g).map((part) => linear(part / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const { color, backgroundColor } = getComputedStyle(element);
  const [lighter, darker] = [luminance(color), luminance(backgroundColor)].sort((a, b) => b - a);
  return (lighter + 0.05) / (darker + 0.05);
}
