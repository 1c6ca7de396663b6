// Every row of the catalogue in every dialect, as a browser hears it: as a refusal, and as the end of a session.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { browsers } from "./support/browsers.mjs";
import { ROOMY, serve } from "./support/client.mjs";
import { browserFor, openPage, soon } from "./support/pages.mjs";
import { recordSocket } from "./support/socket-script.mjs";

const { rows } = JSON.parse(readFileSync(new URL("../catalogue/catalogue.json", import.meta.url), "utf8"));

/** A row and a dialect of one's own, whose `like` is a built-in one. */
const CONFIG = `${ROOMY}
[[route]]
path = "/ws"
rooms = {}
dialect = "ours"

[[error]]
name = "room_full"
code = 4100
http = 409
retry = "backoff"
message = "The room is full"

[[dialect]]
name = "ours"
like = "http"
codes = { room_full = 4499, kicked = 4900, timeout = 1013 }
`;
const roomFull = {
  name: "room_full", code: 4100, retry: "backoff", message: "The room is full",
  close: { app: 4100, iana: 1008, policy: 1008, http: 4409, "graphql-ws": 1013 },
};
const ours = ({ name, close }) => ({ room_full: 4499, kicked: 4900, timeout: 1013 })[name] ?? close.http;

/** Those that a server may send: RFC 6455 §7.4, the registry at IANA, and what is for private use. */
const canBeSent = (code) => [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 1014, 3000, 3003, 3008].includes(code) || (code >= 4000 && code <= 4999);

const DIALECTS = { app: "app", iana: "iana", policy: "policy", http: "http", "graphql-ws": "graphql-ws", ours: undefined };
const AT_ONCE = 8; // see last-word.test.mjs

describe("dialects", { concurrency: true }, () => {
  for (const browser of browsers) {
    describe(browser.name, { concurrency: 1, timeout: 120_000 }, () => {
      const held = browserFor(browser, { before, after });

      for (const [dialect, flag] of Object.entries(DIALECTS)) {
        test(dialect, async (t) => {
          const server = await serve(t, { config: CONFIG, args: flag ? ["--dialect", flag] : [] });
          const page = await openPage(t, held, `${server.page}style.css`);
          const record = (path, protocols) => page.evaluate(recordSocket, { url: new URL(path, server.url).href, protocols });
          const refused = (row) => record(`/dev/refuse/${row.name}`);
          const ended = async (row) => {
            const heard = record("/ws", ["saywhy.v1", `saywhy.bearer.${await server.mint(row.name)}`]);
            const id = await soon(async () => {
              const { body } = await server.api("GET", "/connections");
              return body.connections.find(({ user }) => user === row.name)?.id;
            }, `the session of ${row.name}`);
            assert.equal((await server.api("DELETE", `/connections/${id}`, { name: row.name })).status, 204);
            const [open, ready, ...rest] = await heard;
            assert.equal(JSON.parse(ready.data).type, "ready");
            return [open, ...rest];
          };

          for (const act of [refused, ended]) {
            for (const some of slices([...rows, roomFull], AT_ONCE)) {
              const heard = await Promise.all(some.map(act));
              some.forEach((row, n) => {
                assert.deepEqual(outline(heard[n]), expected(row, dialect, act === ended), `${row.name}, ${act.name}: ${JSON.stringify(heard[n])}`);
                assert.ok(canBeSent(heard[n].at(-1).code), row.name);
              });
            }
          }
        });
      }
    });
  }
});

function expected({ name, code, message, retry, close }, dialect, inSession) {
  const type = inSession && name === "service_restart" ? "goodbye" : "error";
  return {
    opened: "open",
    messages: dialect === "graphql-ws" ? [] : [{ type, data: { code, name, message, retry, fatal: true } }],
    // A row that ends no session by itself says 1008 when it is made to.
    close: { type: "close", code: (dialect === "ours" ? ours({ name, close }) : close[dialect]) ?? 1008, reason: message },
  };
}

/** What a page saw, without times, ids and what only some errors have. */
function outline([open, ...rest]) {
  const { type, code, reason } = rest.pop();
  const messages = rest.map((event) => {
    const { type, data } = JSON.parse(event.data);
    const { code, name, message, retry, fatal } = data;
    return { type, data: { code, name, message, retry, fatal } };
  });
  return { opened: open.type, messages, close: { type, code, reason } };
}

function slices(all, size) {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, n) => all.slice(n * size, (n + 1) * size));
}
