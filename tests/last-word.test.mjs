// What this project promises before anything else: the error message, then the Close with its code and its reason, every
// single time. A plain WebSocket of a real browser is the judge. There is no second try: whatever fails is counted and shown.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { browsers } from "./support/browsers.mjs";
import { ROOMY, serve } from "./support/client.mjs";
import { browserFor, openPage, soon } from "./support/pages.mjs";
import { recordSocket } from "./support/socket-script.mjs";

/** How a page reaches the server; `share` is that of the runs which it gets every day. With SAYWHY_RUNS each gets so many. */
const TRANSPORTS = [
  { name: "ws", page: "http/1.1", http: "1.1", share: 1 },
  { name: "wss, HTTP/1.1", page: "http/1.1", http: "1.1", share: 0.15, tls: true, config: "http2_streams = 0" },
  { name: "wss, HTTP/2", page: "h2", http: "2", share: 0.15, tls: true },
];
const RUNS = Number(process.env.SAYWHY_RUNS ?? 200);
const AT_ONCE = 8; // Chromium holds back what is more than that: a dozen sockets that open at once wait for seconds

const small = JSON.stringify({ type: "ping", data: {} });
const big = JSON.stringify({ type: "ping", data: { text: "x".repeat(10_000) } });
const panic = JSON.stringify({ type: "panic", data: {} });

const UNAUTHORIZED = { type: "error", code: 4003, close: 4003, message: "A token is needed: sign in" };
const INTERNAL = { type: "error", code: 5000, close: 1011, message: "Something went wrong on our side" };
const kicked = (message) => ({ type: "error", code: 4008, close: 4008, message, reason: cut(message) });
const RESTART = { type: "goodbye", code: 1012, close: 1012, message: "The service is restarting" };

/** As much of a text as a Close can hold: 123 bytes, of whole characters. */
function cut(text) {
  const characters = [...text];
  while (Buffer.byteLength(characters.join("")) > 123) characters.pop();
  return characters.join("");
}

/** What is wrong with the last word in `events`; undefined if nothing is. */
function fault(events, { type, code, close, message, reason = message }) {
  const [said, closed] = events.slice(-2).map((event) => (event.type === "message" ? { ...event, ...JSON.parse(event.data) } : event));
  const isFinal = (event) => event.type === "message" && JSON.parse(event.data).data?.fatal === true;
  const right =
    said.data?.code === code && said.type === type && said.data.message === message && said.data.fatal === true &&
    closed?.type === "close" && closed.code === close && closed.reason === reason &&
    events[0].type === "open" && !events.some((event) => event.type === "error") && events.filter(isFinal).length === 1;
  return right ? undefined : JSON.stringify([`${events.length} events`, ...events.slice(-4)]);
}

describe("the last word", { concurrency: true }, () => {
  for (const browser of browsers) {
    describe(browser.name, { concurrency: 1 }, () => {
      const held = browserFor(browser, { before, after });
      for (const transport of TRANSPORTS) lastWord(held, browser, transport);
    });
  }
});

function lastWord(held, browser, transport) {
  const { tls = false, config = "", share, page: spoken, http } = transport;
  const times = (runs) => (process.env.SAYWHY_RUNS ? runs : Math.ceil(runs * share));
  describe(transport.name, { concurrency: 1, timeout: 480_000 }, () => {
    /** A server and a page of its origin: `record()` opens one plain socket and resolves to all that the page saw of it. */
    const start = async (t) => {
      const server = await serve(t, { config: ROOMY + config, tls, panics: true });
      const page = await openPage(t, held, `${server.page}style.css`, { ignoreHTTPSErrors: true });
      const protocol = await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
      assert.equal(protocol, spoken);
      t.after(() => assert.deepEqual(new Set(server.endings().map((ending) => ending.http)), new Set([http])));
      const record = (path, options = {}) => page.evaluate(recordSocket, { url: new URL(path, server.url).href, ...options });
      const token = await server.mint("alice");
      const open = (options = {}) => record("/ws", { protocols: ["saywhy.v1", `saywhy.bearer.${token}`], ...options });
      /** As many sockets at once as there are words; each is kicked with its own. */
      const known = new Set();
      const kick = async (words, options) => {
        const recorded = Promise.all(words.map(() => open(options)));
        const ids = await connections(server, words.length, known);
        ids.forEach((id) => known.add(id));
        const answers = await Promise.all(ids.map((id, n) => server.api("DELETE", `/connections/${id}`, { message: words[n] })));
        assert.ok(answers.every(({ status }) => status === 204));
        const heard = await recorded;
        // A browser may have closed before the server has: the next round must not find those of this one.
        await connections(server, 0);
        return heard;
      };
      return { server, record, open, kick };
    };

    /** The ids of so many, besides those that a page has seen the end of and the server may not have. */
    const connections = (server, count, over = new Set()) =>
      soon(async () => {
        const { body } = await server.api("GET", "/connections");
        const ids = body.connections.map(({ id }) => id).filter((id) => !over.has(id));
        return ids.length === count && ids;
      }, `${count} connections`);

    /** Half of the runs one after the other, half of them many at once. */
    const judge = async (t, run, expected, most = RUNS) => {
      const runs = times(most);
      const all = [];
      while (all.length < runs / 2) all.push(await run());
      while (all.length < runs) all.push(...(await Promise.all(Array.from({ length: Math.min(AT_ONCE, runs - all.length) }, run))));
      report(t, all.map((events) => [events, expected]));
    };
    const report = (t, all) => {
      const faults = all.map(([events, expected]) => fault(events, expected)).filter(Boolean);
      const unclean = all.filter(([events]) => events.at(-1).wasClean === false).length;
      t.diagnostic(`${all.length - faults.length} of ${all.length} right in ${browser.name}; wasClean was false ${unclean} times`);
      assert.equal(faults.length, 0, `${faults.length} of ${all.length} last words were not right:\n${faults.join("\n")}`);
    };

    test("a refusal", async (t) => {
      const { record } = await start(t);
      await judge(t, () => record("/ws"), UNAUTHORIZED);
    });

    test("a refusal of a page that sends as soon as it is open", async (t) => {
      const { record } = await start(t);
      await judge(t, () => record("/ws", { onopen: [small] }), UNAUTHORIZED);
    });

    test("a refusal of a page that floods", async (t) => {
      const { record } = await start(t);
      await judge(t, () => record("/ws", { onopen: Array(200).fill(small), flood: small }), UNAUTHORIZED, 100);
    });

    test("a panic in an open session", async (t) => {
      const { record } = await start(t);
      await judge(t, () => record("/dev/faults", { onopen: [panic] }), INTERNAL);
    });

    test("a panic with 200 messages behind it", async (t) => {
      const { record } = await start(t);
      await judge(t, () => record("/dev/faults", { onopen: [panic, ...Array(200).fill(small)] }), INTERNAL, 100);
    });

    test("a panic with 2 MB behind it", async (t) => {
      const { record } = await start(t);
      await judge(t, () => record("/dev/faults", { onopen: [panic, ...Array(200).fill(big)] }), INTERNAL, 40);
    });

    test("a kick", async (t) => {
      const { kick } = await start(t);
      const words = Array.from({ length: AT_ONCE }, () => "Be kind, or be elsewhere");
      const all = [];
      while (all.length < times(RUNS)) all.push(...(await kick(words)));
      report(t, all.map((events) => [events, kicked(words[0])]));
    });

    test("a kick of a page that floods", async (t) => {
      const { kick } = await start(t);
      const words = Array.from({ length: 5 }, () => "Be kind, or be elsewhere");
      const all = [];
      while (all.length < times(50)) all.push(...(await kick(words, { flood: small })));
      report(t, all.map((events) => [events, kicked(words[0])]));
    });

    test("a kick with more words than a Close can hold", async (t) => {
      const { kick } = await start(t);
      const all = [];
      // Whichever of these comes before them, the 123rd byte is another one of a character.
      const words = ["é", "漢", "😀"].flatMap((character) => ["", "x", "xx", "xxx"].map((before) => before + character.repeat(100)));
      for (let round = 0; round < times(5); round++) {
        const heard = [...(await kick(words.slice(0, 6))), ...(await kick(words.slice(6)))];
        const messages = heard.map((events) => JSON.parse(events.at(-2).data).data?.message);
        assert.deepEqual(messages.toSorted(), words.toSorted());
        heard.forEach((events, n) => all.push([events, kicked(messages[n])]));
      }
      report(t, all);
    });

    test("a restart of the server", async (t) => {
      const { server, open } = await start(t);
      const all = Array.from({ length: AT_ONCE }, () => open());
      await connections(server, AT_ONCE);
      await server.stop();
      report(t, (await Promise.all(all)).map((events) => [events, RESTART]));
    });
  });
}
