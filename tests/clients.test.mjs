// Refusals in HTTP, as clients that are no browsers meet them: the status, the problem document, and when to come back.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { describe, test } from "node:test";
import { serve } from "./support/client.mjs";
import { clients } from "./support/clients.mjs";

const { rows } = JSON.parse(readFileSync(new URL("../catalogue/catalogue.json", import.meta.url), "utf8"));

/**
 * `name` is that of the row; `problem` is what the document has besides what the row says. `who` brings a token, in a header:
 * an offer of `saywhy.v1` would ask for a Close. `first` resolves to the server's configuration, `then` makes it say no.
 */
const CASES = [
  {
    what: "no token", status: 401, name: "unauthorized",
    problem: { detail: "A token is needed: sign in", details: { reason: "token_missing" } },
  },
  {
    what: "a bad token", status: 401, name: "unauthorized", headers: { Authorization: "Bearer not-a-token" },
    problem: { detail: "Your token is not valid: sign in again", details: { reason: "token_invalid" } },
  },
  {
    what: "the application's check says no", status: 403, name: "forbidden", who: "mallory", first: applicationThatSays(403),
    problem: { detail: "You may not do that", details: { http_status: 403, source: "application" } },
  },
  { what: "a mistyped path", status: 404, name: "not_found", path: "/w", problem: { detail: "There is nothing at this path" } },
  {
    what: "a plain GET", status: 426, name: "bad_request", plain: true,
    problem: { detail: "This is a WebSocket: connect with ws:// or wss://" },
  },
  {
    what: "version 8", status: 426, name: "bad_request", version: 8,
    problem: { detail: "Only version 13 of the WebSocket protocol is spoken here (RFC 6455 section 4.2.1)" },
  },
  {
    what: "one connection too many of an identity", status: 429, name: "rate_limited", who: "alice",
    first: () => "[limits]\nconnections_per_identity = 1", then: (server) => server.open("alice"),
    problem: { detail: "Too many connections of the same identity", retry_after_ms: 1_000, spread_ms: 500 }, wait: "1",
  },
  {
    what: "one connection too many of the server", status: 503, name: "overloaded", who: "alice",
    first: () => "[limits]\nconnections = 1", then: (server) => server.open("bob"),
    problem: { detail: "Too busy at the moment", retry_after_ms: 5_000, spread_ms: 5_000 }, wait: "5",
  },
];

function applicationThatSays(status) {
  return async (t) => {
    const application = createServer((_, response) => response.writeHead(status).end("not for the client"));
    await new Promise((resolve) => application.listen(0, "127.0.0.1", resolve));
    t.after(() => (application.close(), application.closeAllConnections()));
    return `[[route]]\npath = "/ws"\nrooms = {}\n[route.check]\nurl = "http://127.0.0.1:${application.address().port}/"`;
  };
}

/** Looked for once. Only what names something that may be missing is skipped without it: the others fail. */
const looked = new Map();
function missing(client) {
  if (!looked.has(client)) looked.set(client, client.missing?.().then((what) => what && `${what} is not installed`));
  return looked.get(client);
}

describe("refused in HTTP", { timeout: 400_000 }, () => {
  for (const { what, who, path = "/ws", version, plain, first, then, ...expected } of CASES) {
    test(what, async (t) => {
      const server = await serve(t, { config: await first?.(t) });
      const headers = { ...expected.headers, ...(who && { Authorization: `Bearer ${await server.mint(who)}` }) };
      await then?.(server);
      const wanted = { url: new URL(path, server.page).href, headers, version, plain };
      for (const client of clients) {
        await t.test(client.name, async (t) => {
          const cannot = client.cannot?.(wanted) || (await missing(client));
          if (cannot) return t.skip(cannot);
          const { status, headers, body } = await client.ask(wanted);
          await assertRefused(server, { ...expected, plain }, status, headers, body);
        });
      }
    });
  }
});

async function assertRefused(server, { status, name, problem, plain, wait }, answered, headers, body) {
  const row = rows.find((row) => row.name === name);
  const { request_id, ...document } = JSON.parse(body);
  assert.deepEqual(document, {
    type: `urn:saywhy:error:${name}`, title: row.message, status, code: row.code, name, retry: row.retry, ...problem,
  });
  assert.deepEqual(
    [answered, headers["content-type"], headers["retry-after"], headers["sec-websocket-version"]],
    [status, "application/problem+json", wait, status === 426 ? "13" : undefined],
  );
  // A plain request is no attempt at a connection, so that it has no id, and no ending to look up.
  assert.equal(request_id === undefined, plain === true);
  if (plain) return;
  assert.equal((await server.ending(request_id)).cause, name);
}
