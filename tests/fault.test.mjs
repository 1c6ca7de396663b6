// `saywhy fault`, in front of a real server: what Chromium, Firefox and `ws` see of every fault is what the list says of
// it; the same seed does the same again; and a test can break things by HTTP.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import test, { after, before, describe } from "node:test";
import WebSocket from "ws";
import { CROWD } from "./support/crowd.mjs";
import { browsers } from "./support/browsers.mjs";
import { connect, serve } from "./support/client.mjs";
import { playFault, run, startFault } from "./support/fault.mjs";
import { browserFor, servePages, soon } from "./support/pages.mjs";

/** `saywhy fault --list --json`: the only table of what is expected. */
const list = JSON.parse((await run("fault", "--list", "--json")).stdout);
const examples = list.flatMap(({ name, kind, examples }) => examples.map((example) => ({ name, kind, ...example })));

/** The certificate of localhost that this folder's authority signed. */
const authority = fileURLToPath(new URL("support/tls/", import.meta.url));

/** With it `corrupt` hits a brace, and no digit of the time of day. */
const SEED = 1;

/** Where the session is played: resolves to what playFault() gives, all of it asynchronous. */
const node = {
  name: "ws",
  async open(t, args) {
    const Native = globalThis.WebSocket;
    globalThis.WebSocket = WebSocket;
    const played = playFault(args);
    globalThis.WebSocket = Native;
    return { three: () => played.three, over: () => played.over, more: played.more, seen: played.seen };
  },
};

function inBrowser({ name }, held) {
  return {
    name,
    async open(t, args) {
      const page = await held.browser.newPage();
      t.after(() => page.close());
      await page.goto(await servePages(t));
      await page.evaluate(`globalThis.play = ${playFault}`);
      await page.evaluate((args) => void (globalThis.played = play(args)), args);
      return {
        three: () => page.evaluate(() => played.three),
        over: () => page.evaluate(() => played.over),
        more: () => page.evaluate(() => played.more()),
        seen: () => page.evaluate(() => played.seen()),
      };
    },
  };
}

/** The pages of the tests are of another origin than the server, which is told its own. */
const sameOrigin = ({ url }) => ["--host", new URL(url).host, "--origin", `http://${new URL(url).host}`];

/** Plays the session with a fault; resolves to what the client saw. */
async function see(t, client, server, { name, kind, fault, seen: expected }) {
  const isMoment = kind === "moment";
  const proxy = await startFault(t, server.url, { faults: isMoment ? [] : [fault], seed: SEED, args: sameOrigin(server) });
  const protocols = ["saywhy.v1", `saywhy.bearer.${await server.mint("alice")}`];
  // Whoever closes cannot be taken for dead.
  const played = await client.open(t, { url: proxy.url, protocols, stays: isMoment || name === "no-pong" });
  if (isMoment) {
    await Promise.race([played.three(), played.over()]);
    assert.equal((await proxy.api("POST", "/connections/all/fault", fault)).status, 200);
  }
  if (!expected[client.name].endsWith("nothing")) {
    if (isMoment) await played.more();
    // Whoever expects the wrong thing is shown what there was instead.
    await soon(async () => !(await played.seen()).endsWith("nothing"), "an end").catch(() => {});
    assert.equal((await proxy.told(fault)).connection, 1);
    return played.seen();
  }
  await proxy.told(fault);
  if (isMoment) {
    // It reaches the proxy, and no further.
    const { bytes_to_server } = (await proxy.connections())[0];
    await played.more();
    await soon(async () => (await proxy.connections())[0].bytes_to_server > bytes_to_server, "a message on its way");
  }
  const before = await played.seen();
  await proxy.stop();
  await played.over();
  // The end is that of the proxy: nothing else came, also until then.
  assert.equal(await played.seen(), before.replace("nothing", "1006"));
  return before;
}

function everyFault(client) {
  for (const expected of examples) {
    test(expected.fault, async (t) => {
      const config = expected.name === "no-pong" ? "[limits]\nheartbeat_ms = 300\n" : undefined;
      const server = await serve(t, { config });
      const seen = await see(t, client, server, expected);
      assert.equal(seen, expected.seen[client.name]);
    });
  }

  test("without faults all is well", async (t) => {
    const server = await serve(t);
    const proxy = await startFault(t, server.url, { args: sameOrigin(server) });
    const protocols = ["saywhy.v1", `saywhy.bearer.${await server.mint("alice")}`];
    const played = await client.open(t, { url: proxy.url, protocols, stays: false });
    await played.over();
    assert.equal(await played.seen(), "1 2 3, 1000");
    assert.deepEqual(await proxy.faults(), []);
  });
}

describe("ws", () => everyFault(node));
for (const browser of browsers) {
  describe(browser.name, { concurrency: 1 }, () => everyFault(inBrowser(browser, browserFor(browser, { before, after }))));
}

/** A client by `ws` through the proxy. */
const through = async (server, proxy) => connect(proxy.url, { token: await server.mint("alice") });

describe("chance", () => {
  /** What becomes of forty messages, one after the other, on each of two connections. */
  async function play(t, seed) {
    const server = await serve(t);
    const proxy = await startFault(t, server.url, { faults: ["lose,p=0.2,after=1msg,duplicate,p=0.3,after=1msg"], seed });
    for (let n = 1; n <= 2; n++) {
      const session = await through(server, proxy);
      await session.take("ready");
      for (let n = 0; n < 40; n++) session.send({ type: "ping" });
      session.socket.close(1000);
      await session.closed;
      await proxy.ended(n);
    }
    return { faults: await proxy.faults(), seed: proxy.seed };
  }

  test("the same seed does the same again, another does not", async (t) => {
    const [first, second, other] = [await play(t, 3), await play(t, 3), await play(t, 4)];
    // The time of day has as many digits as it needs, so that what passed before is not as long.
    const decisions = ({ faults }) => faults.map(({ connection, fault, messages, draws }) => ({ connection, fault, messages, draws }));
    assert.ok(first.faults.length > 20, JSON.stringify(first.faults));
    assert.deepEqual(decisions(first), decisions(second));
    assert.notDeepEqual(decisions(first), decisions(other));
    assert.ok(first.faults.every(({ draws: [draw] }) => draw < 0.3));
    assert.equal(first.seed, "3");
  });

  test("a seed that nobody gave is printed", async (t) => {
    const server = await serve(t);
    const proxies = [1, 2].map(() => startFault(t, server.url, { seed: null }));
    const [first, second] = (await Promise.all(proxies)).map(({ seed }) => Number(seed));
    assert.ok(Number.isSafeInteger(first) && first !== second);
  });
});

describe("how often, and for whom", () => {
  test("the first three are refused", async (t) => {
    const server = await serve(t);
    const proxy = await startFault(t, server.url, { faults: ["refuse=503,times=3"] });
    for (let n = 0; n < 3; n++) assert.equal((await (await through(server, proxy)).closed).code, 1006);
    const session = await through(server, proxy);
    await session.take("ready");
    await session.close(1000);
  });

  test("only for a path", async (t) => {
    const server = await serve(t);
    const proxy = await startFault(t, server.url, { faults: ["refuse=503,for=/other"] });
    const session = await through(server, proxy);
    await session.take("ready");
    await session.close(1000);
    const other = connect(proxy.url.replace("/ws", "/other"), {});
    await other.closed;
    assert.deepEqual((await proxy.faults()).map(({ connection }) => connection), [2]);
  });

  test("after a deploy nobody is let in for a while, and then everybody", async (t) => {
    const server = await serve(t);
    const proxy = await startFault(t, server.url);
    const sessions = [await through(server, proxy), await through(server, proxy)];
    for (const session of sessions) await session.take("ready");
    assert.deepEqual((await proxy.api("POST", "/connections/all/fault", "restart=20m")).body, { connections: 2 });
    for (const session of sessions) assert.deepEqual(await session.closed, { code: 1012, reason: "restarting" });
    const { hostname, port } = new URL(proxy.url);
    const headers = { upgrade: "websocket", connection: "upgrade" };
    const answer = await new Promise((resolve) => request({ hostname, port, path: "/ws", headers }, resolve).end());
    assert.deepEqual([answer.statusCode, answer.headers["retry-after"]], [503, "1200"]);
    answer.resume();
    await proxy.api("DELETE", "/faults");
    const session = await through(server, proxy);
    await session.take("ready");
    await session.close(1000);
  });
});

describe("the API", () => {
  test("faults are for those to come, what is done now for those that are there", async (t) => {
    const server = await serve(t);
    const proxy = await startFault(t, server.url, { faults: ["latency=1ms"], seed: 5 });
    assert.deepEqual((await proxy.api("GET", "/faults")).body, { seed: 5, faults: ["latency=1ms"] });
    const before = await through(server, proxy);
    await before.take("ready");

    const { status, body } = await proxy.api("PUT", "/faults", ["lose,after=1msg", "slice=9"]);
    assert.deepEqual([status, body.faults], [200, ["lose,after=1msg", "slice=9"]]);
    before.send({ type: "ping" });
    await before.take("pong");

    const [{ id, path, messages_to_client }] = await proxy.connections();
    assert.deepEqual([id, path, messages_to_client], [1, "/ws", 2]);
    assert.equal((await proxy.api("POST", `/connections/${id}/fault`, 'close=4321:"now, please"')).status, 200);
    assert.deepEqual(await before.closed, { code: 4321, reason: "now, please" });

    const after = await through(server, proxy);
    await after.take("ready");
    after.send({ type: "ping", meta: { request_id: "lost" } });
    await proxy.told("lose,after=1msg");
    assert.equal((await proxy.api("DELETE", "/faults")).status, 204);
    assert.deepEqual((await proxy.api("GET", "/faults")).body.faults, []);
    await after.ask("ping");
    assert.deepEqual(after.seen.map(({ type }) => type), ["ready", "pong"]);
    await after.close(1000);
  });

  test("what is wrong is said, and how it is right", async (t) => {
    const proxy = await startFault(t, "ws://127.0.0.1:1");
    const said = async (...request) => {
      const { status, body } = await proxy.api(...request);
      return [status, body.error, body.hint];
    };
    assert.deepEqual(await said("PUT", "/faults", ["ct=rst"]), [400, "there is no fault `ct`", "did you mean `cut`?"]);
    assert.equal((await said("PUT", "/faults", { cut: "rst" }))[1], "the body is no fault");
    assert.equal((await said("POST", "/connections/7/fault", "cut=rst"))[0], 404);
    assert.equal((await said("POST", "/connections/me/fault", "cut=rst"))[0], 404);
    assert.match((await said("POST", "/connections/all/fault", "refuse=503"))[2], /PUT it to \/faults/);
    assert.equal((await said("GET", "/nothing"))[0], 404);
    const fromPage = await fetch(`${proxy.control}/faults`, { method: "DELETE", headers: { origin: "http://evil.example" } });
    assert.equal(fromPage.status, 403);
  });

  test("events can be followed, and are in the log", async (t) => {
    const server = await serve(t);
    const proxy = await startFault(t, server.url, { faults: ["duplicate,after=1msg,times=1"] });
    const response = await new Promise((resolve) => request(`${proxy.control}/events?follow`, resolve).end());
    const lines = createInterface({ input: response })[Symbol.asyncIterator]();
    const next = async () => JSON.parse((await lines.next()).value);
    const session = await through(server, proxy);
    const { at_ms, ...connected } = await next();
    assert.deepEqual(connected, { seq: 1, connection: 1, event: "connected", path: "/ws" });
    await session.take("ready");
    session.send({ type: "ping" });
    await session.take("pong");
    await session.take("pong");
    const { bytes, ...fault } = await next();
    assert.deepEqual({ ...fault, at_ms: 0 }, {
      ...{ seq: 2, at_ms: 0, connection: 1, event: "fault" },
      ...{ fault: "duplicate,after=1msg,times=1", to: "client", messages: 1 },
    });
    await session.close(1000);
    assert.equal((await next()).event, "ended");
    response.destroy();
    const { timestamp, ...line } = proxy.log().find(({ message }) => message === "struck");
    assert.deepEqual(line, {
      ...{ level: "INFO", message: "struck", target: "saywhy::fault" },
      ...{ connection: 1, fault: "duplicate,after=1msg,times=1", to: "client", bytes, messages: 1 },
    });
  });
});

describe("the proxy itself", () => {
  test("a server over TLS", async (t) => {
    const server = await serve(t, { tls: authority });
    const env = { SSL_CERT_FILE: `${authority}ca.pem` };
    const proxy = await startFault(t, server.url.replace("127.0.0.1", "localhost"), { env, faults: ["slice=50"] });
    const session = await through(server, proxy);
    await session.take("ready");
    assert.deepEqual(await session.close(1000), { code: 1000, reason: "" });
  });

  test("a server that is not there is a 502, and no panic", async (t) => {
    const proxy = await startFault(t, "ws://127.0.0.1:1/ws");
    const seen = await new Promise((resolve) => new WebSocket(proxy.url).on("error", ({ message }) => resolve(message)));
    assert.equal(seen, "Unexpected server response: 502");
    const warned = await soon(() => proxy.log().find(({ level }) => level === "WARN"), "it is in the log");
    assert.equal(warned.message, "the server cannot be reached");
  });

  test("without faults the prober finds what it finds without the proxy", async (t) => {
    const verdicts = async (withProxy) => {
      const server = await serve(t, { config: `[limits]\n${CROWD}` });
      const at = withProxy ? (await startFault(t, server.url)).url : server.url;
      const file = join(mkdtempSync(join(tmpdir(), "saywhy-fault-")), "alice.jwt");
      t.after(() => rmSync(dirname(file), { recursive: true }));
      writeFileSync(file, await server.mint("alice"));
      const { stderr } = await run("probe", at, "--token-file", file);
      return stderr.match(/^[a-z-]+ +[a-z]+\/[a-z0-9-]+/gm).sort();
    };
    const without = await verdicts(false);
    assert.ok(without.length >= 50, without.join("\n"));
    assert.deepEqual(await verdicts(true), without);
  });

  test("what is no handshake passes, with its body", async (t) => {
    const server = await serve(t);
    const proxy = await startFault(t, server.url, { faults: ["refuse=503", "cut=rst"] });
    const page = await (await fetch(new URL("/", proxy.url.replace("ws:", "http:")))).text();
    assert.equal(page, await (await fetch(server.page)).text());
    assert.match(page, /<!doctype html>/i);
  });

  test("Ctrl-C ends what is there, and exits with 0", async (t) => {
    const server = await serve(t);
    const proxy = await startFault(t, server.url);
    const session = await through(server, proxy);
    await session.take("ready");
    assert.equal(await proxy.stop(), 0);
    assert.equal((await session.closed).code, 1006);
  });

  test("what cannot be is said with a hint, and exit code 2", async () => {
    const { code, stdout, stderr } = await run("fault", "--upstream", "ws://127.0.0.1:1", "--fault", "cut=rst,aftr=5s");
    assert.deepEqual([code, stdout], [2, ""]);
    assert.equal(stderr, "error: there is no fault `aftr`, and `cut` has no parameter of that name\nhint: did you mean `after`?\n");
  });
});
