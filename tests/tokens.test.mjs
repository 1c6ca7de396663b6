// Tokens: in the first message, signed by others, renewed, expired, revoked. Keys and signatures are Node's own, not those of
// the library that the server checks them with.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { generateKeyPairSync, sign as signBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { browsers } from "./support/browsers.mjs";
import { ALL, SECRET, eventually, serve, sign } from "./support/client.mjs";
import { browserFor, openPage } from "./support/pages.mjs";

const limit = { timeout: 120_000 };
const ASKS = `[[route]]\npath = "/ws"\nrooms = {}\ntoken_in_first_message = true\n`;
const in_an_hour = () => Math.floor(Date.now() / 1000) + 3600;

/** A connection that brings its token in the first message. */
async function first(server, token, options = {}) {
  const session = server.connect(options);
  await new Promise((resolve) => session.socket.on("open", resolve));
  session.send({ type: "authenticate", data: { token }, meta: { request_id: "first" } });
  return session;
}

describe("the application's check", limit, () => {
  test("it is asked last, over HTTP, and its no is the client's", async (t) => {
    const asked = [];
    let status = 204;
    const application = createServer(async (request, response) => {
      let body = "";
      for await (const some of request) body += some;
      asked.push([request.method, request.url, JSON.parse(body)]);
      response.writeHead(status, { "retry-after": "3" }).end("not for the client");
    });
    await new Promise((resolve) => application.listen(0, "127.0.0.1", resolve));
    t.after(() => application.close());
    const url = `http://127.0.0.1:${application.address().port}/admit`;
    const config = `[[route]]\npath = "/ws"\nrooms = {}\ntoken_in_first_message = true\n[route.check]\nurl = "${url}"\n`;
    const server = await serve(t, { config });
    const alice = await server.open("alice");
    assert.deepEqual(asked.splice(0), [["POST", "/admit", { connection_id: alice.id, path: "/ws", user: "alice", address: "127.0.0.1" }]]);
    await alice.close(1000);
    const asks = await first(server, await server.mint("bob"));
    await asks.take("ready");
    assert.equal(asked.splice(0)[0][2].user, "bob");
    await asks.close(1000);
    status = 503;
    const refused = server.connect({ token: await server.mint("alice") });
    const { name, retry_after_ms, details } = (await refused.take("error")).data;
    assert.equal((await refused.closed).code, 1013);
    assert.deepEqual([name, retry_after_ms, details], ["overloaded", 3000, { http_status: 503, source: "application" }]);
    // Who has no token is asked about by nobody.
    asked.length = 0;
    await server.connect({ token: "nonsense" }).closed;
    assert.deepEqual(asked, []);
  });
});

describe("the first message", limit, () => {
  test("a token in it opens the session, and renews it", async (t) => {
    const server = await serve(t, { config: ASKS });
    const alice = await first(server, await server.mint("alice", { expires_in_s: 4 }));
    const ready = await alice.take("ready");
    assert.deepEqual([ready.data.user, ready.meta.request_id], ["alice", "first"]);
    await alice.ok("join", { room: "lobby" });
    await alice.take("auth_expiring");
    await alice.ok("authenticate", { token: await server.mint("alice") });
    await alice.close(1000);
    // Who has brought it earlier is not asked.
    await (await server.open("bob")).close(1000);
  });

  test("one that expires ends the session, as everywhere", async (t) => {
    const server = await serve(t, { config: ASKS });
    const alice = await first(server, await server.mint("alice", { expires_in_s: 2 }));
    await alice.take("ready");
    await alice.take("auth_expiring");
    const { data } = await alice.take("error");
    assert.deepEqual([data.name, data.details.reason, data.fatal], ["unauthorized", "token_expired", true]);
    assert.equal((await alice.closed).code, 4003);
  });

  test("without it nothing else is answered, and time runs out", async (t) => {
    const server = await serve(t, { config: `[limits]\nhandshake_ms = 300\n${ASKS}` });
    const eager = server.connect();
    await new Promise((resolve) => eager.socket.on("open", resolve));
    eager.send({ type: "join", data: { room: "lobby" }, meta: { request_id: "1" } });
    const { data, meta } = await eager.take("error");
    assert.deepEqual([data.name, data.details.reason, meta.request_id], ["unauthorized", "token_missing", "1"]);
    assert.equal((await eager.closed).code, 4003);
    const idle = server.connect();
    assert.equal((await idle.take("error")).data.name, "timeout");
    assert.equal((await idle.closed).code, 3008);
    assert.deepEqual(idle.seen.map(({ type }) => type), ["error"]);
    // Neither of them was ever a session.
    await eventually(() => server.endings().length === 2);
    assert.deepEqual(server.endings().map(({ stage }) => stage), ["admission", "admission"]);
  });

  for (const kind of browsers) {
    describe(kind.name, () => {
      const browser = browserFor(kind, { before, after });
      test("a page can bring its token so, and reads why it is refused", async (t) => {
        const server = await serve(t, { config: ASKS });
        const page = await openPage(t, browser, new URL("style.css", server.page).href, { expected: /404/ }); // it has no icon
        const tell = (token) =>
          page.evaluate(
            ([url, token]) =>
              new Promise((resolve) => {
                const seen = [];
                const socket = new WebSocket(url, ["saywhy.v1"]);
                socket.onopen = () => socket.send(JSON.stringify({ type: "authenticate", data: { token } }));
                socket.onmessage = ({ data }) => {
                  const message = JSON.parse(data);
                  seen.push(message.type === "error" ? message.data.details.reason : message.type);
                  if (message.type === "ready") socket.close(1000);
                };
                socket.onclose = ({ code, reason }) => resolve({ seen, code, reason });
              }),
            [server.url, token],
          );
        assert.deepEqual(await tell(await server.mint("alice")), { seen: ["ready"], code: 1000, reason: "" });
        assert.deepEqual(await tell("not-a-token"), {
          seen: ["token_invalid"], code: 4003, reason: "Your token is not valid: sign in again",
        });
        assert.deepEqual(page.troubles, []);
      });
    });
  }
});

describe("revocation", limit, () => {
  const ROUTES = `[token]\nhs256_secret = "${SECRET}"\n[api]\nkey = "the key of the test's API"\n` +
    `[[route]]\npath = "/ws"\nrooms = {}\n[[route]]\npath = "/other"\nrooms = {}\ntoken_in_first_message = true\n`;
  const token = (claims) => sign({ sub: "alice", exp: in_an_hour(), rooms: { "*": ALL }, ...claims });
  const start = async (t) => {
    const server = await serve(t, { config: ROUTES });
    const headers = { authorization: "Bearer the key of the test's API" };
    return { ...server, api: (method, path, body) => server.api(method, path, body, headers) };
  };

  test("reaches every live socket of the identity on every route, and its tokens at the door and at renewal", async (t) => {
    const server = await start(t);
    const old = token({ iat: 1_000 });
    const alices = [await server.open("", { token: old }), await server.open("", { token: token({ jti: "t1" }) })];
    const third = await first(server, old, { at: server.routes[1] });
    await third.take("ready");
    const bob = await server.open("", { token: token({ sub: "bob" }) });
    const answer = await server.api("POST", "/revocations", { user: "alice" });
    const { revoked_at, expires_at } = answer.body;
    assert.deepEqual([answer.status, answer.body], [201, { user: "alice", revoked_at, expires_at, sessions: 3 }]);
    assert.equal(expires_at - revoked_at, 86_400);
    for (const session of [...alices, third]) {
      const { data } = await session.take("error");
      assert.deepEqual([data.name, data.retry, data.details.reason], ["unauthorized", "reauthenticate", "token_revoked"]);
      assert.equal((await session.closed).code, 4003);
    }
    for (const session of [server.connect({ token: old }), await first(server, old, { at: server.routes[1] })]) {
      assert.equal((await session.take("error")).data.details.reason, "token_revoked");
    }
    const fresh = await server.open("", { token: token({ iat: revoked_at + 1 }) });
    assert.equal((await fresh.error("authenticate", { token: old })).details.reason, "token_revoked");
    await bob.settle();

    assert.deepEqual((await server.api("GET", "/revocations")).body, {
      revocations: [{ user: "alice", revoked_at, expires_at }], next: null,
    });
    assert.equal((await server.api("DELETE", "/revocations?user=alice")).status, 204);
    assert.equal((await server.api("DELETE", "/revocations?user=alice")).status, 404);
    await server.open("", { token: old });
    assert.ok(!server.log().includes(old));
  });

  test("of one token leaves the others", async (t) => {
    const server = await start(t);
    const one = await server.open("", { token: token({ jti: "t1" }) });
    const other = await server.open("", { token: token({ jti: "t2" }) });
    const expires_at = in_an_hour();
    const { body } = await server.api("POST", "/revocations", { token_id: "t1", expires_at });
    assert.deepEqual([body.token_id, body.expires_at, body.sessions], ["t1", expires_at, 1]);
    assert.equal((await one.closed).code, 4003);
    await other.settle();
    const wrong = [
      {}, { user: "a", token_id: "b" }, { user: "" }, { user: 7 }, { user: "x".repeat(257) }, { user: "a", since: 1 },
      { user: "a", expires_at: in_an_hour() + 2 * 86_400 },
    ];
    for (const body of wrong) {
      const answer = await server.api("POST", "/revocations", body);
      assert.deepEqual([answer.status, answer.body.name], [400, "bad_request"], JSON.stringify(body));
    }
    assert.equal((await server.api("GET", "/revocations?after=user:zoe")).body.revocations.length, 1);
    assert.equal((await server.api("GET", "/revocations?after=token_id:t1")).body.revocations.length, 0);
    assert.equal((await server.api("GET", "/revocations?after=what")).status, 400);
  });
});

describe("keys that others publish", limit, () => {
  const pairs = {
    RS256: generateKeyPairSync("rsa", { modulusLength: 2048 }),
    ES256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
    EdDSA: generateKeyPairSync("ed25519"),
  };

  /** A token signed by Node. */
  function signed(alg, claims = {}, kid = alg) {
    const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const text = `${part({ alg, kid })}.${part({ sub: "alice", exp: in_an_hour(), rooms: { "*": ALL }, ...claims })}`;
    const key = { key: pairs[alg].privateKey, dsaEncoding: "ieee-p1363" };
    return `${text}.${signBytes(alg === "EdDSA" ? null : "sha256", Buffer.from(text), key).toString("base64url")}`;
  }

  const published = (...names) => ({ keys: names.map((kid) => ({ ...pairs[kid].publicKey.export({ format: "jwk" }), kid })) });

  /** A server of keys, which counts who asks. */
  async function publisher(t, tls) {
    const state = { asked: 0, status: 200, keys: published("RS256", "ES256", "EdDSA") };
    const answer = (_, response) => {
      state.asked += 1;
      response.writeHead(state.status, { "content-type": "application/json" }).end(JSON.stringify(state.keys));
    };
    const server = tls ? createTlsServer(tls, answer) : createServer(answer);
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => server.closeAllConnections() ?? server.close());
    return Object.assign(state, { url: `${tls ? "https" : "http"}://localhost:${server.address().port}/keys` });
  }

  const config = ({ url }) =>
    `[api]\nkey = "the key of the test's API"\n[token]\njwks_url = "${url}"\njwks_pause_ms = 1_000\n` +
    `[[route]]\npath = "/ws"\nrooms = {}\n`;
  /** `ready`, or the error that was said instead. */
  const outcome = async (server, token) => {
    const { type, data } = await server.connect({ token }).take("ready", "error");
    return type === "ready" ? type : `${data.name} ${data.details.reason} ${data.retry}`;
  };

  test("sign tokens of every algorithm, and none by confusion", async (t) => {
    const keys = await publisher(t);
    const server = await serve(t, { config: config(keys) });
    const token = (_, n) => signed(Object.keys(pairs)[n % 3], { sub: `user-${n}` });
    const crowd = await Promise.all(Array.from({ length: 30 }, token).map((token) => outcome(server, token)));
    assert.deepEqual(crowd, Array(30).fill("ready"));
    assert.equal(keys.asked, 1);
    const pem = pairs.RS256.publicKey.export({ format: "pem", type: "spki" });
    const forged = sign({ sub: "alice", exp: in_an_hour() }, pem, { alg: "HS256", kid: "RS256" });
    assert.equal(await outcome(server, forged), "unauthorized token_invalid reauthenticate");
    const none = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${signed("RS256").split(".")[1]}.`;
    assert.equal(await outcome(server, none), "unauthorized token_invalid reauthenticate");
    assert.ok(!server.log().includes(forged.split(".")[2]));
  });

  test("may be away when the server starts: it says so, and goes on when they are back", async (t) => {
    const keys = await publisher(t);
    keys.status = 503;
    const server = await serve(t, { config: config(keys) });
    const line = await eventually(() => server.lines().find(({ hint, message }) => message.includes("keys of tokens")));
    assert.deepEqual([line.level, line.message.includes("; hint: ")], ["ERROR", true]);
    assert.equal(await outcome(server, signed("ES256")), "overloaded keys_unavailable after");
    keys.status = 200;
    await eventually(async () => (await outcome(server, signed("ES256"))) === "ready", 200);
    // Back again, they are kept whatever becomes of their publisher.
    keys.status = 500;
    assert.equal(await outcome(server, signed("EdDSA")), "ready");
  });

  test("are fetched over TLS from whom the machine trusts, and from nobody else", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "saywhy-tls-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
    execFileSync("openssl", [
      "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert,
      "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
      "-addext", "basicConstraints=critical,CA:FALSE",
    ], { stdio: "ignore" });
    const keys = await publisher(t, { key: readFileSync(key), cert: readFileSync(cert) });
    const trusting = await serve(t, { config: config(keys), env: { SSL_CERT_FILE: cert } });
    assert.equal(await outcome(trusting, signed("EdDSA")), "ready");
    const stranger = join(folder, "stranger.pem");
    execFileSync("openssl", [
      "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", stranger,
      "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
    ], { stdio: "ignore" });
    const wary = await serve(t, { config: config(keys), env: { SSL_CERT_FILE: stranger } });
    assert.equal(await outcome(wary, signed("EdDSA")), "overloaded keys_unavailable after");
    assert.match(wary.log(), /certificate/);
  });
});
