// The client code that the documents behind this project print runs as it is, on a page of its own, and its user is told.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { browsers } from "./support/browsers.mjs";
import { serve } from "./support/client.mjs";
import { browserFor, openPage, soon } from "./support/pages.mjs";
import { recordSocket } from "./support/socket-script.mjs";

/** The code of `sources/NAME.js`, or none. It stands in the script that opens the socket: in a later one it could miss the first events. */
const pageOf = (name) => `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script>${name && codeOf(name)}</script>`;
const codeOf = (name) => `const { url, protocols } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const socket = new WebSocket(url, protocols), ws = socket;
${readFileSync(new URL(`./sources/${name}.js`, import.meta.url), "utf8")}`;

/** The application's pages, which are not where its sockets are, and a server that they may connect to. */
async function startBoth(t, { route = "", ...options } = {}) {
  const http = createServer(({ url }, response) => response.setHeader("content-type", "text/html").end(pageOf(url.slice(1))));
  await once(http.listen(0, "127.0.0.1"), "listening");
  t.after(() => http.close() && http.closeAllConnections());
  const pages = `http://127.0.0.1:${http.address().port}`;
  const config = `[[route]]\npath = "/ws"\norigins = ["${pages}"]\nrooms = { open = ["lobby"] }\n${route}`;
  return { pages, server: await serve(t, { config, ...options }) };
}

/** What browsers add on their console to a refusal in HTTP. */
const THEIR_OWN = /^WebSocket connection to .* failed|^Firefox can’t establish a connection|^401 for /;

/** Opens a page that runs the code of `sources/NAME.js` on a socket of its own. */
async function run(t, held, { pages, server }, name, { path = "/ws", token, reading_ms = 0 } = {}) {
  const page = await openPage(t, held, "about:blank", { expected: THEIR_OWN });
  const dialogs = [];
  page.on("dialog", async (dialog) => {
    if (dialogs.push(dialog.message()) === 1) await setTimeout(reading_ms);
    await dialog.accept();
  });
  const socket = { url: new URL(path, server.url).href, protocols: token ? ["saywhy.v1", `saywhy.bearer.${token}`] : [] };
  await page.goto(`${pages}/${name}#${encodeURIComponent(JSON.stringify(socket))}`);
  return {
    async sends(...messages) {
      await page.waitForFunction(() => socket.readyState === WebSocket.OPEN);
      await page.evaluate((all) => all.forEach((text) => socket.send(text)), messages);
    },
    /** These dialogs come and no others, and so do these lines in red on the console. */
    async shows(expected, lines) {
      await soon(() => dialogs.length >= expected.length && page.troubles.length >= lines.length, `${expected} and ${lines}`);
      await setTimeout(100);
      assert.deepEqual({ dialogs, lines: page.troubles }, { dialogs: expected, lines });
    },
    async closes() {
      await page.waitForFunction(() => socket.readyState === WebSocket.CLOSED);
    },
  };
}

const json = (type, data = {}) => JSON.stringify({ type, data });
const ALERT = "Something went wrong: ";
const DISCONNECTED = "You were disconnected due to authentication failure.";

/** Section 3 of "WebSocket Error Handling": each code, for the cause that it names. */
const CAUSES = [
  [4000, "Malformed JSON", "The message is not JSON", { sends: ['{"type":"join","data":{'] }],
  [4000, "missing fields", "A field is missing: data.room", { sends: [json("join")] }],
  [4001, "Room not found", "Room not found", { sends: [json("join", { room: "nowhere" })] }],
  [4001, "resource not found", "There is nothing at this path", { path: "/nowhere" }],
  [4002, "Sending message to closed room", "The room is closed", { sends: [json("join", { room: "closed" }), json("send", { room: "closed", body: "?" })] }],
  [4003, "Token missing", "A token is needed: sign in", { token: null, alerts: [DISCONNECTED] }],
  [4003, "Token expired", "Your token has expired: sign in again", { expires_in_s: -60, alerts: [DISCONNECTED] }],
  [4003, "Token expired, during the session", "Your token has expired", { expires_in_s: 2, alerts: [DISCONNECTED] }],
  [4004, "User lacks permission", "Your token does not permit that in this room", { rooms: { lobby: ["join"] }, sends: [json("send", { room: "lobby", body: "?" })] }],
  [4005, "Too many requests", "Too many requests", { sends: Array(101).fill(json("ping")), route: "limits = { messages_per_s = 1 }" }],
  [5000, "Unexpected backend failure", "Something went wrong on our side", { path: "/dev/faults", sends: [json("fail")] }],
];

describe("the code of the sources", { concurrency: true }, () => {
  for (const browser of browsers) {
    describe(browser.name, { concurrency: 1, timeout: 120_000 }, () => {
      const held = browserFor(browser, { before, after });

      test("How to properly refuse websocket upgrade request? In HTTP, all that its reader gets is ERROR", async (t) => {
        const page = await run(t, held, await startBoth(t, { args: ["--refuse", "http"] }), "refuse-upgrade");
        await page.closes();
        await page.shows([], ["ERROR"]);
      });

      test("… and its answer: evt.code is 1008, and evt.reason says why", async (t) => {
        const both = await startBoth(t, { route: 'dialect = "policy"' });
        for (const [options, reason] of [
          [{}, "A token is needed: sign in"],
          [{ token: "garbage" }, "Your token is not valid: sign in again"],
          [{ path: "/content/no-such-id" }, "There is nothing at this path"],
        ]) {
          const page = await run(t, held, both, "refuse-upgrade", options);
          await page.shows([reason], []);
        }
      });

      test("How to send error in websocket? It connects, gets an error, and the connection is terminated", async (t) => {
        const { pages, server } = await startBoth(t);
        const page = await openPage(t, held, `${pages}/`);
        const events = await page.evaluate(recordSocket, { url: server.url, onopen: [json("join", { room: "lobby" })] });
        assert.deepEqual(events.map(({ type }) => type), ["open", "message", "close"]);
        const { type, data } = JSON.parse(events[1].data);
        assert.deepEqual([type, data.code, events[2].code, events[2].reason], ["error", 4003, 4003, data.message]);
      });

      describe("WebSocket Error Handling", () => {
        for (const [code, cause, message, { token, alerts = [], sends = [], path, expires_in_s = 3600, rooms, route }] of CAUSES) {
          test(`${code}: ${cause}`, async (t) => {
            const both = await startBoth(t, { route });
            const bearer = token === null ? undefined : await both.server.mint("alice", { expires_in_s, rooms });
            const page = await run(t, held, both, "error-handling", { path, token: bearer });
            if (sends.length > 0) await page.sends(...sends);
            await page.shows([ALERT + message, ...alerts], [`[WebSocket Error] ${code}: ${message}`]);
          });
        }

        test("a user who takes longer over the first dialog than a Close waits for its answer", async (t) => {
          const page = await run(t, held, await startBoth(t), "error-handling", { reading_ms: 4_000 });
          await page.shows([`${ALERT}A token is needed: sign in`, DISCONNECTED], ["[WebSocket Error] 4003: A token is needed: sign in"]);
        });
      });
    });
  }
});
