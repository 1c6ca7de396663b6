// What must never come out: secrets and payloads in a log, and anything of our insides on the wire.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ALL, ROOMY, SECRET, call, eventually, serve, sign } from "./support/client.mjs";
import { encodeFrame } from "./support/raw.mjs";
import { startServer } from "./support/server.mjs";

const limit = { timeout: 120_000 };
const room = "lobby";
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/u;
const BIDI = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;

/** Makes marked texts, and remembers them. */
function mint() {
  const all = [];
  const canary = () => {
    all.push(`canary${all.length}x${Math.random().toString(36).slice(2)}z`);
    return all.at(-1);
  };
  return { all, canary };
}

const assertNone = (log, canaries) => {
  const leaked = canaries.filter((canary) => log.includes(canary));
  const line = leaked.length > 0 ? log.split("\n").find((line) => line.includes(leaked[0])) : undefined;
  assert.deepEqual([leaked.length, line], [0, undefined]);
};

describe("logs", limit, () => {
  for (const format of ["text", "json"]) {
    test(`T35: no token, cookie, query or payload is in the ${format} log, however much it tells`, async (t) => {
      const { all, canary } = mint();
      const config = `${ROOMY}\nerrors = 1000000\n[token]\nhs256_secret = "${SECRET}"\n[api]\nkey = "${canary()}"\n[[route]]\npath = "/ws"\nrooms = {}`;
      const server = await serve(t, { config, args: ["--log", "trace"], format });
      const url = new URL(server.url);
      const claims = { sub: "alice", exp: Math.floor(Date.now() / 1000) + 600, rooms: { "*": ALL } };
      const ended = async (options) => (await server.connect(options).closed).code;

      // Tokens: bad ones of every kind, by every way; and good ones, all of which hold a secret that is used.
      const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
      const bad = [
        canary,
        () => `${canary()}.${canary()}.${canary()}`,
        () => sign({ ...claims, secret: canary() }, "some other secret, of 32 characters"),
        () => sign({ ...claims, exp: 1, secret: canary() }),
        () => sign({ ...claims, aud: canary() }, SECRET, { alg: canary() }),
        () => sign(claims, SECRET, { alg: "HS256", typ: canary(), kid: canary(), crit: [canary()] }) + canary(),
        () => `${part({ alg: "HS256", [canary()]: 1 })}.${part(canary())}.${canary()}`,
        () => sign({ ...claims, sub: [canary()] }),
        () => sign({ ...claims, rooms: canary() }),
        () => sign({ ...claims, rooms: { [canary()]: [canary()] } }),
        () => sign({ ...claims, exp: canary() }),
        () => sign({ ...claims, nbf: canary() }),
      ];
      for (let n = 0; n < 8; n++) {
        for (const make of bad) {
          const remember = (token) => (all.push(token), token);
          const inQuery = `${url.href}?access_token=${remember(make())}&other=${canary()}`;
          const headers = { cookie: `session=${canary()}; access_token=${remember(make())}`, "user-agent": canary(), referer: `https://app.example/?${canary()}` };
          const codes = await Promise.all([
            ended({ token: remember(make()), headers }),
            ended({ at: inQuery }),
            ended({ headers: { authorization: `Bearer ${remember(make())}` } }),
            ended({ protocols: ["saywhy.v1"], headers: { ...headers, authorization: `Basic ${canary()}` } }),
          ]);
          // One with claims of a wrong kind is as bad as one with a wrong signature.
          assert.deepEqual(codes, [4003, 4003, 4003, 4003]);
        }
      }
      await ended({ protocols: [canary(), canary()], headers: { origin: `https://${canary()}.example` } });
      await server.raw({ key: canary() });

      // What is said in a session, of every kind, and once more when it is too much.
      const token = sign({ ...claims, secret: canary() });
      all.push(token);
      const alice = await server.open("alice", { token });
      await alice.ok("join", { room });
      for (let n = 0; n < 50; n++) {
        await alice.ok("send", { room, body: { [canary()]: canary() }, idempotency_key: canary() });
        alice.send(`{"type":"send","data":{"room":"lobby","body":"${canary()}`);
        alice.send({ type: canary(), data: { room: canary() } });
        alice.send({ type: "send", data: { room: canary(), body: canary() }, [canary()]: 1 });
        alice.send({ type: "join", data: { room, since: canary() } });
        alice.send({ type: "open_room", data: { room: `${canary()}\n` } });
        alice.socket.ping(canary());
        alice.socket.pong(canary());
      }
      await alice.ok("authenticate", { token: (all.push(sign({ ...claims, jti: canary() })), all.at(-1)) });
      await alice.ok("history", { room });
      const ends = [
        (session) => session.send(Buffer.from(canary())),
        (session) => session.send({ type: "authenticate", data: { token: canary() } }),
        (session) => session.send({ type: "send", data: { room, body: canary() + "x".repeat(70_000) } }),
        (session) => session.socket._socket.write(encodeFrame({ opcode: 3, payload: canary() })),
        (session) => session.socket._socket.write(encodeFrame({ payload: Buffer.concat([Buffer.from(canary()), Buffer.from([0xff])]) })),
        (session) => session.socket._socket.write(encodeFrame({ payload: canary(), fin: false })) && session.terminate(),
      ];
      for (const end of ends) {
        const session = await server.open("alice", { token });
        end(session);
        await session.closed;
      }

      // The API.
      const key = all[0];
      const api = (method, path, body, bearer = key) => server.api(method, path, body, { authorization: `Bearer ${bearer}` });
      for (let n = 0; n < 20; n++) {
        assert.equal((await api("GET", "/rooms", undefined, canary())).status, 401);
        assert.equal((await api("POST", "/rooms/lobby/messages", { body: canary(), from: canary(), idempotency_key: canary() })).status, 201);
        assert.equal((await api("POST", "/rooms/lobby/messages", { [canary()]: canary() })).status, 400);
        assert.equal((await api("POST", "/rooms/lobby/messages", `{"body":"${canary()}`)).status, 400);
        assert.equal((await api("DELETE", `/connections/${alice.id}`, { name: canary() })).status, 400);
      }
      await alice.settle();

      // Read from the end, so that all of it is there: the ending of this one comes after everything above.
      const marked = server.connect({ at: `${server.url}/marked-${format}`, token });
      await marked.take("ready");
      await marked.close(1000);
      const { code } = await server.stop();
      assert.equal(code, 0);
      assert.ok(all.length >= 1_000, `${all.length} canaries`);
      assertNone(server.log(), all);
      assert.ok(server.log().includes(`/ws/marked-${format}`), "what is to be logged is found, so the search works");
    });
  }

  test("T36: control and bidi characters break no line, and reach no terminal", async (t) => {
    const config = `${ROOMY}\nerrors = 1000000`;
    const strings = Array.from({ length: 1_000 }, () => {
      const odd = ["\n", "\r", "\u0000", "\u001b[31m", "\u001b]0;x\u0007", "\u007f", "\u009b2J", "\u202e", "\u2066", "\u200f", "\u2028", '"', "\\", "{", "}", "é"];
      return Array.from({ length: 8 }, () => odd[Math.floor(Math.random() * odd.length)]).join("");
    });
    for (const format of ["json", "text"]) {
      // In JSON every line is parsed, which is what its readers need: serve() and endings() do.
      const server = await serve(t, { config, args: ["--log", "trace"], format });
      const token = await server.mint("alice");
      const alice = await server.open("alice", { token });
      for (const odd of strings) {
        alice.send({ type: `${odd}`, data: { room: odd }, meta: { request_id: odd } });
        alice.send({ type: "join", data: { room: odd } });
        alice.send(`{"type":"x","meta":{"request_id":"${odd}"`);
      }
      await alice.settle();
      for (const error of alice.seen.filter(({ type }) => type === "error")) assert.match(error.meta.request_id, /^[!-~]{1,64}$/);

      // In all that a log tells of a connection: the reason of a Close, the user, the path.
      let count = 0;
      const some = strings.slice(0, 250);
      for (let n = 0; n < some.length; n += 50) {
        await Promise.all(some.slice(n, n + 50).map(async (odd) => {
          const session = await server.open(odd, { expires_in_s: 60 });
          assert.equal(session.ready.data.user, odd);
          await session.close(4_999, odd);
          count++;
        }));
      }
      for (const path of ["/ws/\u202e\u2066", "/ws/\u00e9\u0085", "/ws/%0a%1b%00", '/ws/"\\']) {
        await server.raw({ path: Buffer.from(path).toString("latin1") });
        count++;
      }
      await alice.close(1_000);
      await eventually(() => (server.log().match(/saywhy::ending/g) ?? []).length >= count);
      await server.stop();

      if (format === "json") {
        const users = new Set(server.endings().map(({ user }) => user));
        for (const odd of some) assert.ok(users.has(odd));
        continue;
      }
      const talk = /^(\s{2}(DEVELOPMENT MODE|Open|For production|Ctrl-C).*|draining .*|drained: .*|)$/;
      for (const line of server.log().split("\n")) {
        assert.ok(!CONTROL.test(line) && !BIDI.test(line), JSON.stringify(line));
        assert.ok(talk.test(line) || /^\d{4}-\d\d-\d\dT[\d:.]+Z +(ERROR|WARN|INFO|DEBUG|TRACE) saywhy[\w:]*: /.test(line), JSON.stringify(line));
      }
    }
  });
});

describe("the wire", limit, () => {
  /** Words of ours that no peer may read: the cause, and traces of where it happened. */
  const INSIDES = /db-7|internal refused|password|authentication failed|user \\?"app|asked to by|panick|unwrap|\.rs\b|src\/|\/home|\/work|\/rustc|thread '|stack backtrace|SELECT|RUST_/i;

  test("T37: nothing of a failure's insides, in either form and in no dialect", async (t) => {
    for (const dialect of ["app", "iana", "policy", "http", "graphql-ws"]) {
      const server = await serve(t, { args: ["--dialect", dialect], panics: true });
      const heard = [];
      /** Every byte, from the head of the answer to the end of the connection. */
      const listen = async (path, options, ...messages) => {
        const peer = await server.raw({ at: new URL(path, server.url).href, ...options });
        heard.push(JSON.stringify(peer.headers), String(peer.body));
        if (peer.status !== 101) return;
        for (const message of messages) await peer.sendFrame({ payload: JSON.stringify(message) });
        const texts = [];
        for await (const { opcode, payload } of peer.frames) {
          texts.push(payload.toString("latin1"));
          if (opcode === 8 || (messages.at(-1)?.type === "ping" && texts.at(-1).includes("pong"))) break;
        }
        peer.fin();
        assert.deepEqual((await peer.ended).rest, Buffer.alloc(0));
        heard.push(...texts);
      };
      const spoken = { protocols: ["saywhy.v1"] };
      for (const protocol of [spoken, {}]) {
        for (const meta of [undefined, { request_id: "mine-1" }]) {
          await listen("/dev/faults", protocol, { type: "fail", meta }, { type: "ping" });
          await listen("/dev/faults", protocol, { type: "break", meta });
          await listen("/dev/faults", protocol, { type: "panic", meta });
        }
        await listen("/dev/panic", protocol);
        await listen("/dev/refuse/internal_error", protocol);
        await listen("/dev/refuse/no_such_row", protocol);
      }
      const { headers, text } = await call(new URL("/dev/panic", server.page));
      heard.push(JSON.stringify(headers), text);
      for (const words of heard) assert.doesNotMatch(words, INSIDES);
      assert.ok(heard.length > 40);
      assert.match(server.log(), /db-7\.internal/, "it is in the log, so there was something to leak");
      assert.match(server.log(), /asked to by \/dev\/panic/);
    }
  });

  test("T37: nor of a mistake in a request to the API, or to the page", async (t) => {
    const server = await serve(t);
    const answers = [
      await server.api("POST", "/rooms/lobby/messages", "{"),
      await server.api("POST", "/rooms/lobby/messages", Buffer.from([0x22, 0xff, 0x22])),
      await server.api("PUT", "/rooms/lobby", "[".repeat(10_000)),
      await server.api("DELETE", "/connections/x"),
      await server.api("GET", "/connections?after=x"),
      await server.api("GET", "/rooms/%FF/members"),
      await call(new URL("/dev/token", server.page), "POST", '{"sub":7}'),
      await call(new URL("/dev/token", server.page), "POST", { sub: "x", expires_in_s: 1e300 }),
      await call(new URL("/dev/restart", server.page), "POST", { connection_id: "x", retry_after_ms: 1, spread_ms: 1 }),
    ];
    for (const { status, text, headers } of answers) {
      assert.ok(status >= 400 && status < 500, `${status} ${text}`);
      assert.doesNotMatch(JSON.stringify(headers) + text, INSIDES);
    }
  });

  test("a token is not given back in a header or a message", async (t) => {
    const server = await serve(t);
    const token = await server.mint("alice");
    for (const protocols of [["saywhy.v1", `saywhy.bearer.${token}`], [`saywhy.bearer.${token}`, "saywhy.v1"], ["saywhy.v1", token], ["saywhy.v1", `bearer.${token}`]]) {
      const peer = await server.raw({ protocols });
      assert.deepEqual([peer.status, peer.headers["sec-websocket-protocol"]], [101, "saywhy.v1"]);
      const { value } = await peer.frames.next();
      for (const words of [JSON.stringify(peer.headers), String(value.payload)]) assert.ok(!words.includes(token.slice(0, 20)), words);
    }
    for (const protocols of [[`saywhy.bearer.${token}`], [token], [`bearer.${token}`]]) {
      const peer = await server.raw({ protocols, headers: { origin: new URL(server.page).origin } });
      assert.equal(peer.status, 101);
      assert.equal(peer.headers["sec-websocket-protocol"], undefined);
    }
  });
});

test("a server that fails to start keeps its secrets", limit, async () => {
  const { all, canary } = mint();
  const config = `[api]\nkey = "${canary()}"\nlisten = "nonsense"\n[token]\nhs256_secret = "${canary()}"\n`;
  const env = { SAYWHY_API_KEY: "short" };
  const failure = await startServer({ config, env }).then(() => assert.fail("it started"), (error) => error.message);
  assertNone(failure, all);
  assert.ok(!failure.includes("short\n"));
});
