// What this project promises before anything else: the error message, then the Close with its code and its reason, every
// single time. A plain WebSocket of a real browser is the judge. There is no second try: whatever fails is counted and shown.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { browsers } from "./support/browsers.mjs";
import { ROOMY, serve } from "./support/client.mjs";
import { browserFor, openPage, soon } from "./support/pages.mjs";
import { certificates } from "./support/server.mjs";
import { recordSocket } from "./support/socket-script.mjs";

/** How a page reaches the server; `share` is that of the runs which it gets every day. With SAYWHY_RUNS each gets so many. */
const TRANSPORTS = [
  { name: "ws", page: "http/1.1", http: "1.1", share: 1 },
  { name: "wss, HTTP/1.1", page: "http/1.1", http: "1.1", share: 0.15, tls: true, config: "http2_streams = 0" },
  { name: "wss, HTTP/2", page: "h2", http: "2", share: 0.15, tls: true },
];
const RUNS = Number(process.env.SAYWHY_RUNS ?? 200);
const RUNS_OF_A_KIND = Number(process.env.SAYWHY_RUNS ?? 10); // of each kind of refusal, over each transport
const AT_ONCE = 8; // Chromium holds back what is more than that: a dozen sockets that open at once wait for seconds

const small = JSON.stringify({ type: "ping", data: {} });
const big = JSON.stringify({ type: "ping", data: { text: "x".repeat(10_000) } });
const panic = JSON.stringify({ type: "panic", data: {} });

const UNAUTHORIZED = { type: "error", code: 4003, close: 4003, message: "A token is needed: sign in" };
const NOT_FOUND = { type: "error", code: 4001, close: 4001, message: "There is nothing at this path" };
const FORBIDDEN = { type: "error", code: 4004, close: 4004, message: "Pages of this origin may not connect" };
const limited = (message) => ({ type: "error", code: 4005, close: 4005, message });
const OVERLOADED = { type: "error", code: 1013, close: 1013, message: "Too busy at the moment" };
const NO_NEWCOMERS = { type: "error", code: 1012, close: 1012, message: "The service is restarting" };
/** Nobody knows what a message looks like in a subprotocol that is not spoken: a Close only. */
const NOT_SPOKEN = { close: 4000, reason: "None of the subprotocols on offer is spoken here" };
const INTERNAL = { type: "error", code: 5000, close: 1011, message: "Something went wrong on our side" };
const kicked = (message) => ({ type: "error", code: 4008, close: 4008, message, reason: cut(message) });
const RESTART = { type: "goodbye", code: 1012, close: 1012, message: "The service is restarting" };

/** A page that is busy as soon as it has asked for a socket: all that the server says waits for it in the browser. */
function blockPage() {
  const Native = WebSocket;
  globalThis.WebSocket = class extends Native {
    constructor(...args) {
      super(...args);
      for (const until = performance.now() + 500; performance.now() < until; );
    }
  };
}

/** The address of an empty page on another port, and so of another origin. */
async function foreignPage(t, tls) {
  const answer = (_, response) => response.setHeader("content-type", "text/html").end("<!doctype html>");
  const file = (name) => readFileSync(join(certificates, name));
  const server = tls ? createTlsServer({ cert: file("certificate.pem"), key: file("key.pem") }, answer) : createServer(answer);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => (server.close(), server.closeAllConnections()));
  return `${tls ? "https" : "http"}://127.0.0.1:${server.address().port}/`;
}

/** As much of a text as a Close can hold: 123 bytes, of whole characters. */
function cut(text) {
  const characters = [...text];
  while (Buffer.byteLength(characters.join("")) > 123) characters.pop();
  return characters.join("");
}

/** `run` with each of these by turns. */
function inTurn(all, run) {
  let n = 0;
  return () => run(all[n++ % all.length]);
}

/** ROOMY, but for these limits. */
function roomyBut(limits) {
  const keys = limits.split("\n").map((line) => line.split(" = ")[0]);
  return [...ROOMY.split("\n").filter((line) => !keys.includes(line.split(" = ")[0])), limits, ""].join("\n");
}

/** What is wrong with the last word in `events`; undefined if nothing is. Without a `type` there has to be a Close only. */
function fault(events, { type, code, close, message, reason = message, protocol }) {
  const [said, closed] = events.slice(-2).map((event) => (event.type === "message" ? { ...event, ...JSON.parse(event.data) } : event));
  const isFinal = (event) => event.type === "message" && JSON.parse(event.data).data?.fatal === true;
  const isSaid = () =>
    said.data?.code === code && said.type === type && said.data.message === message && said.data.fatal === true &&
    events.filter(isFinal).length === 1;
  const right =
    (type === undefined ? events.length === 2 : isSaid()) &&
    closed?.type === "close" && closed.code === close && closed.reason === reason &&
    events[0].type === "open" && !events.some((event) => event.type === "error") &&
    (protocol === undefined || events[0].protocol === protocol);
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
  describe(transport.name, { concurrency: 1, timeout: 900_000 }, () => {
    /** A server and a page of its origin, or one that is open `at` another: `record()` opens one plain socket and resolves to all that the page saw of it. */
    const start = async (t, { limits = "", more = "", at } = {}) => {
      const server = await serve(t, { config: roomyBut(limits) + config + more, tls, panics: true });
      const page = await openPage(t, held, at ?? `${server.page}style.css`, { ignoreHTTPSErrors: true });
      if (at) {
        // Only over a connection that is there already does a browser open a WebSocket over HTTP/2.
        await page.evaluate((url) => fetch(url, { mode: "no-cors", credentials: "include" }), `${server.page}style.css`);
      } else {
        const protocol = await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
        assert.equal(protocol, spoken);
      }
      const ours = new Set();
      t.after(() => {
        const endings = server.endings().filter(({ connection_id }) => !ours.has(connection_id));
        assert.deepEqual(new Set(endings.map((ending) => ending.http)), new Set([http]));
      });
      /** A session of no browser, which takes a place. */
      const occupy = async (who) => {
        const session = await server.open(who);
        ours.add(session.id);
        return session;
      };
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
      return { server, page, occupy, record, open, kick };
    };

    /** The ids of so many, besides those that a page has seen the end of and the server may not have. */
    const connections = (server, count, over = new Set()) =>
      soon(async () => {
        const { body } = await server.api("GET", "/connections");
        const ids = body.connections.map(({ id }) => id).filter((id) => !over.has(id));
        return ids.length === count && ids;
      }, `${count} connections`);

    /** Half of the runs one after the other, half of them many at once. */
    const judge = (t, run, expected, most = RUNS) => judged(t, run, expected, times(most));
    const judgeKind = (t, run, expected) => judged(t, run, expected, RUNS_OF_A_KIND);
    const judged = async (t, run, expected, runs, atOnce = AT_ONCE) => {
      const all = [];
      while (all.length < runs / 2) all.push(await run());
      while (all.length < runs) all.push(...(await Promise.all(Array.from({ length: Math.min(atOnce, runs - all.length) }, run))));
      report(t, all.map((events) => [events, expected]));
    };
    const blocked = async (page, record) => {
      await page.evaluate(blockPage);
      return async () => {
        const events = await record("/ws");
        assert.ok(events[0].t >= 500, `the page was not blocked: ${JSON.stringify(events)}`);
        return events;
      };
    };
    const report = (t, all) => {
      const faults = all.map(([events, expected]) => fault(events, expected)).filter(Boolean);
      const unclean = all.filter(([events]) => events.at(-1).wasClean === false).length;
      // A figure to look at, and no promise: the machine that this runs on may be busy.
      const longest = Math.max(...all.map(([events]) => events.at(-1).t - (events.find(({ type }) => type === "open")?.t ?? 0)));
      t.diagnostic(
        `${all.length - faults.length} of ${all.length} right in ${browser.name}; wasClean was false ${unclean} times; ` +
          `open to close ${longest} ms at most`,
      );
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

    test("a refusal of a mistyped path", async (t) => {
      const { record } = await start(t);
      await judgeKind(t, () => record("/w", { protocols: ["saywhy.v1"] }), NOT_FOUND);
    });

    test("a refusal of a page of a foreign origin", async (t) => {
      const { record } = await start(t, { at: await foreignPage(t, tls) });
      await judgeKind(t, () => record("/ws"), FORBIDDEN);
    });

    test("a refusal of one connection too many of an identity", async (t) => {
      const { occupy, open } = await start(t, { limits: "connections_per_identity = 1" });
      await occupy("alice");
      await judgeKind(t, () => open(), limited("Too many connections of the same identity"));
    });

    test("a refusal of one connection too many of the server", async (t) => {
      const { occupy, open } = await start(t, { limits: "connections = 1" });
      await occupy("bob");
      await judgeKind(t, () => open(), OVERLOADED);
    });

    test("a refusal by a server that drains", async (t) => {
      const { server, occupy, record } = await start(t, { limits: "close_ms = 60000", more: "\n[drain]\ndeadline_ms = 60000\n" });
      // One that answers no Close holds the drain up, until all have been refused.
      const bob = await occupy("bob");
      bob.socket._socket.pause();
      process.kill(server.pid, "SIGTERM");
      await soon(() => server.log().includes("draining"), "the server drains");
      try {
        await judgeKind(t, () => record("/ws"), NO_NEWCOMERS);
      } finally {
        bob.socket.terminate();
        await server.exited; // a second signal, which the harness would send, means "at once"
      }
    });

    test("a refusal of subprotocols that are not spoken", async (t) => {
      const { record } = await start(t);
      const run = inTurn([["chat.v9"], ["chat.v9", "mqtt"]], (protocols) => record("/ws", { protocols }));
      await judgeKind(t, run, { ...NOT_SPOKEN, protocol: "chat.v9" });
    });

    test("a refusal of a page that offers saywhy.v1 among others", async (t) => {
      const { record } = await start(t);
      const offers = [["saywhy.v1", "chat.v9"], ["chat.v9", "saywhy.v1"], ["chat.v9", "saywhy.v1", "mqtt"]];
      const run = inTurn(offers, (protocols) => record("/ws", { protocols }));
      await judgeKind(t, run, { ...UNAUTHORIZED, protocol: "saywhy.v1" });
    });

    test("a refusal of a page that is blocked for half a second", async (t) => {
      const { page, record } = await start(t);
      // Each blocks the others too: no more than the server waits for a Close.
      await judged(t, await blocked(page, record), UNAUTHORIZED, Math.ceil(RUNS_OF_A_KIND * 0.4), 2);
    });

    // Past `close_ms` nothing is promised: Firefox over ws then loses the message, now and then. Over HTTP/2 a reset would
    // lose code and reason always; END_STREAM does not.
    if (http === "2") {
      test("a refusal of a page that is blocked for longer than the server waits", async (t) => {
        const { page, record } = await start(t, { limits: "close_ms = 100" });
        await judged(t, await blocked(page, record), UNAUTHORIZED, 2, 1);
      });
    }

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
