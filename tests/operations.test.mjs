// Running it: starting, stopping, who may use the development mode, and a log in which every connection ends once, explained.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { fileURLToPath } from "node:url";
import { SECRET, call, connect, eventually, jsonLines, serve } from "./support/client.mjs";
import { closeInfo, encodeFrame, rawConnect } from "./support/raw.mjs";
import { certificates, startServer } from "./support/server.mjs";

const limit = { timeout: 120_000 };
const room = "lobby";
const binary = process.env.SAYWHY_BIN ?? fileURLToPath(new URL("../target/debug/saywhy", import.meta.url));

/** Runs `saywhy` to its end. */
async function run(args, env = {}) {
  const child = spawn(binary, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const out = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"]) child[name].setEncoding("utf8").on("data", (text) => (out[name] += text));
  const [code, signal] = await once(child, "close");
  return { code, signal, ...out };
}

describe("draining", limit, () => {
  for (const signal of ["SIGINT", "SIGTERM"]) {
    test(`${signal}: each session is told a time of its own`, async (t) => {
      const server = await serve(t, { config: "[drain]\nwindow_ms = 5000\ndeadline_ms = 10000" });
      const sessions = await Promise.all(Array.from({ length: 10 }, (_, n) => server.open(`user-${n}`)));
      for (const session of sessions) await session.ok("join", { room });
      const stopped = server.stop(signal);
      const delays = [];
      for (const session of sessions) {
        const { data, meta } = await session.take("goodbye");
        const { retry_after_ms, ...rest } = data;
        assert.deepEqual(rest, {
          code: 1012, message: "The service is restarting", name: "service_restart", fatal: true, retry: "after", spread_ms: 500,
        });
        assert.equal(meta.request_id, session.id);
        delays.push(retry_after_ms);
        assert.deepEqual(await session.closed, { code: 1012, reason: "The service is restarting" });
      }
      const places = Array.from({ length: 10 }, (_, place) => 1_000 + 500 * place);
      assert.deepEqual(delays.toSorted((a, b) => a - b), places, "evenly over the window");
      assert.notDeepEqual(delays, places, "in no order that those who came together could come back in");
      assert.deepEqual(await stopped, { code: 0, signal: null });
      const endings = server.endings();
      assert.deepEqual(endings.map(({ cause, sent, confirmed }) => `${cause} ${sent} ${confirmed}`), Array(10).fill("service_restart 1012 true"));
      assert.match(server.log(), /drained: 10 sessions left by themselves, 0 were cut/);
    });
  }

  test("newcomers are refused until the last one has left, in both forms", async (t) => {
    const server = await serve(t);
    const lingerer = await server.raw({ who: "alice" });
    const id = JSON.parse((await lingerer.frames.next()).value.payload).data.connection_id;
    const token = await server.mint("bob");
    const stopped = server.stop();
    const frames = [];
    for await (const frame of lingerer.frames) {
      frames.push(frame);
      if (frame.opcode === 8) break;
    }
    assert.equal(JSON.parse(frames[0].payload).type, "goodbye");
    assert.deepEqual(closeInfo(frames[1].payload), { code: 1012, reason: "The service is restarting" });

    const newcomer = server.connect({ token });
    const { data } = await newcomer.take("error");
    assert.deepEqual(data, {
      code: 1012, message: "The service is restarting", name: "service_restart", fatal: true, retry: "after",
      retry_after_ms: 1_000, spread_ms: 10_000,
    });
    assert.equal((await newcomer.closed).code, 1012);
    const { status, headers, body } = await server.raw({ headers: { authorization: `Bearer ${token}` } });
    assert.deepEqual([status, headers["retry-after"], JSON.parse(body).name], [503, "1", "service_restart"]);

    lingerer.sendFrame({ opcode: 8, payload: frames[1].payload });
    assert.deepEqual(await lingerer.ended, { error: null, rest: Buffer.alloc(0) });
    assert.equal((await stopped).code, 0);
    const { cause, confirmed } = await server.ending(id);
    assert.deepEqual([cause, confirmed], ["service_restart", true]);
    await assert.rejects(call(server.page), /ECONNREFUSED/);
  });

  test("who is not gone at the deadline is cut, and counted", async (t) => {
    const server = await serve(t, { config: "[drain]\nwindow_ms = 0\ndeadline_ms = 300\n[limits]\nclose_ms = 60000" });
    const [deaf, alice] = [await server.raw({ who: "deaf" }), await server.open("alice")];
    const id = JSON.parse((await deaf.frames.next()).value.payload).data.connection_id;
    deaf.pause();
    assert.equal((await server.stop()).code, 0);
    assert.match(server.log(), /drained: 1 sessions left by themselves, 1 were cut/);
    const endings = server.endings().filter(({ connection_id }) => connection_id === id);
    assert.deepEqual(endings.map(({ cause, sent, confirmed }) => [cause, sent, confirmed]), [["service_restart", 1012, false]]);
    assert.equal((await alice.closed).code, 1012);
  });

  for (const [first, second] of [["SIGINT", "SIGINT"], ["SIGTERM", "SIGINT"], ["SIGINT", "SIGTERM"]]) {
    test(`${second} after ${first} stops at once`, async (t) => {
      const server = await startServer({ args: ["--log-format", "json"], config: "[limits]\nclose_ms = 60000" });
      t.after(() => server.stop("SIGKILL"));
      const peers = [];
      const { body } = await call(new URL("dev/token", server.page), "POST", { sub: "alice", expires_in_s: 60 });
      for (let n = 0; n < 3; n++) {
        peers.push(await rawConnect(server.routes[0], { protocols: ["saywhy.v1", `saywhy.bearer.${body.token}`] }));
      }
      process.kill(server.pid, first);
      // Told to go, they stay.
      for (const peer of peers) while ((await peer.frames.next()).value.opcode !== 8);
      process.kill(server.pid, second);
      assert.deepEqual(await server.exited, { code: 130, signal: null });
      const endings = jsonLines(server.log()).filter(({ target }) => target === "saywhy::ending");
      assert.deepEqual(endings.map(({ cause }) => cause), Array(3).fill("service_restart"));
      assert.match(server.log(), /stopped at once: 3 sessions were cut/);
      for (const peer of peers) peer.reset();
    });
  }

  test("a signal right after `ready` is no surprise", async () => {
    for (let n = 0; n < 10; n++) {
      const server = await startServer();
      assert.deepEqual(await server.stop(n % 2 ? "SIGINT" : "SIGTERM"), { code: 0, signal: null });
    }
  });
});

describe("starting", limit, () => {
  test("an address that is taken is exit code 1, and a hint", async (t) => {
    const server = await serve(t);
    const taken = new URL(server.page).host;
    const hint = "hint: something else listens there: stop it, or choose another with --listen\n";
    for (const args of [["--listen", taken], ["--listen", "127.0.0.1:0", "--api-listen", taken]]) {
      const { code, stdout, stderr } = await run(["serve", ...args]);
      assert.deepEqual([code, stdout], [1, ""]);
      assert.equal(stderr, `error: failed to listen on ${taken}: Address already in use (os error 98)\n${hint}`);
    }
    const { code, stderr } = await run(["serve", "--listen", "192.0.2.1:80"], { SAYWHY_TOKEN_SECRET: SECRET });
    assert.equal(code, 1);
    assert.match(stderr, /^error: failed to listen on 192\.0\.2\.1:80: .*\nhint: this machine has no such address/);
  });

  test("without a key it serves this machine only", async () => {
    for (const args of [["--listen", "0.0.0.0:0"], ["--listen", "[::]:0"], ["--listen", "127.0.0.1:0", "--api-listen", "0.0.0.0:0"]]) {
      const { code, stdout, stderr } = await run(["serve", ...args]);
      assert.notEqual(code, 0);
      assert.equal(stdout, "");
      assert.match(stderr, /no key.*\nhint: set SAYWHY_(TOKEN_SECRET|API_KEY)/);
    }
  });

  test("with a key it serves everyone, and none of the development mode", async (t) => {
    const config = `listen = "127.0.0.1:1"\n[[route]]\npath = "/ws"\nrooms = {}`;
    const env = { SAYWHY_TOKEN_SECRET: SECRET, SAYWHY_API_KEY: "the key of the test's API" };
    const server = await serve(t, { config, env });
    assert.deepEqual([server.page, server.apiKey], [undefined, undefined]);
    const base = server.url.replace("ws:", "http:");
    for (const [method, path] of [["GET", "/"], ["GET", "/board.js"], ["GET", "/dev/info"], ["POST", "/dev/token"], ["POST", "/dev/restart"], ["GET", "/usual"], ["GET", "/api/v1/rooms"]]) {
      const { status, text } = await call(new URL(path, base), method, method === "POST" ? "{}" : undefined);
      assert.equal(status, 404, path);
      assert.ok(!text.includes("token"), text);
    }
    for (const path of ["/dev/faults", "/dev/panic", "/dev/refuse/kicked", "/dev/single"]) {
      const lost = server.connect({ at: new URL(path, server.url).href });
      assert.equal((await lost.take("error")).data.name, "not_found", path);
    }
    assert.doesNotMatch(server.log(), /development/i);
  });

  test("a terminal gets colours, unless it says NO_COLOR", async () => {
    const shown = async (env) => {
      const child = spawn("script", ["-qec", `${binary} serve --listen 127.0.0.1:0`, "/dev/null"], {
        env: { ...process.env, NO_COLOR: undefined, TERM: "xterm", ...env },
        stdio: ["pipe", "pipe", "inherit"],
      });
      let shown = "";
      child.stdout.setEncoding("utf8").on("data", (text) => (shown += text));
      await eventually(() => /^ready\r?$/m.test(shown));
      await connect(shown.match(/^route (ws:\S+)/m)[1]).closed; // something to log
      await eventually(() => /refused with unauthorized/.test(shown));
      child.stdin.write("\u0003");
      await once(child, "close");
      return shown;
    };
    assert.match(await shown({}), /\u001b\[\d+m/);
    assert.match(await shown({ NO_COLOR: "" }), /\u001b\[\d+m/, "an empty one says nothing");
    const plain = await shown({ NO_COLOR: "1" });
    // eslint-disable-next-line no-control-regex
    assert.doesNotMatch(plain, /\u001b/);
    assert.match(plain, /drained: 0 sessions left by themselves/);
  });

  test("nobody has to read what it says", async (t) => {
    const child = spawn(binary, ["serve", "--listen", "127.0.0.1:0"], { stdio: ["ignore", "pipe", "pipe"] });
    t.after(() => child.kill("SIGKILL"));
    let announced = "";
    child.stdout.setEncoding("utf8").on("data", (text) => (announced += text));
    await eventually(() => /^ready$/m.test(announced));
    child.stdout.destroy();
    child.stderr.destroy();
    for (let n = 0; n < 3; n++) assert.equal((await connect(announced.match(/^route (\S+)/m)[1]).closed).code, 4003);
    const panic = connect(new URL("/dev/panic", announced.match(/^route (\S+)/m)[1]).href);
    assert.equal((await panic.closed).code, 1011);
    child.kill("SIGINT");
    assert.deepEqual(await once(child, "exit"), [0, null]);
  });
});

describe("a certificate", limit, () => {
  /** The name in the certificate that a new connection is shown. */
  const shown = ({ url }) =>
    new Promise((resolve, reject) => {
      const { hostname, port } = new URL(url);
      const socket = connectTls({ host: hostname, port, rejectUnauthorized: false }, () => {
        resolve(socket.getPeerCertificate().subject.CN);
        socket.destroy();
      });
      socket.on("error", reject);
    });

  test("is taken anew when its files change, and on SIGHUP; a broken one is not, and nobody is cut off", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "saywhy-tls-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const put = (name, from) => copyFileSync(join(certificates, from), join(folder, name));
    put("certificate.pem", "certificate.pem");
    put("key.pem", "key.pem");
    const server = await serve(t, { tls: folder });
    assert.match(server.url, /^wss:/);
    const session = await server.open("alice");
    await session.ok("join", { room });
    assert.equal(await shown(server), "saywhy test");
    const said = (words) => eventually(() => server.lines().find(({ message }) => message === words));
    const kept = "the certificate was not changed: the one before is kept";

    // Half of it is there: a key without its certificate.
    put("key.pem", "other_key.pem");
    const { problem, hint } = await said(kept);
    assert.match(problem, /^the key in .* is not that of the certificate in /);
    assert.equal(hint, "the first certificate of the file has to be the one that was made for this key");
    assert.equal(await shown(server), "saywhy test");

    put("certificate.pem", "other_certificate.pem");
    await said("new connections get the certificate that was read now");
    assert.equal(await shown(server), "saywhy test, renewed");

    // A signal does not wait for the next look, and does not need a change.
    const times = () => server.lines().filter(({ message }) => message.startsWith("new connections get")).length;
    const before = times();
    process.kill(server.pid, "SIGHUP");
    await eventually(() => times() > before);
    assert.equal(await shown(server), "saywhy test, renewed");

    await session.settle();
    await session.close(1000);
    await server.ending(session.id);
  });

  test("that cannot be used is exit code 1 at the start, and a hint", async () => {
    const paths = (certificate, key) => ["--tls-cert", join(certificates, certificate), "--tls-key", join(certificates, key)];
    const { code, stderr } = await run(["serve", "--listen", "127.0.0.1:0", ...paths("certificate.pem", "other_key.pem")]);
    assert.equal(code, 1);
    assert.match(stderr, /^error: failed to set up TLS: the key in .* is not that of the certificate in .*\nhint: /);
    assert.equal((await run(["serve", "--tls-cert", "certificate.pem"])).code, 2);
  });
});

describe("the development mode", limit, () => {
  test("answers only under a loopback name, and to no proxy", async (t) => {
    const server = await serve(t);
    const port = new URL(server.page).port;
    const ask = (method, path, headers) => call(new URL(path, server.page), method, method === "POST" ? { sub: "mallory", expires_in_s: 60 } : undefined, headers);
    const requests = [["GET", "/"], ["GET", "/board.js"], ["GET", "/dev/info"], ["POST", "/dev/token"], ["POST", "/dev/restart"], ["GET", "/usual"], ["GET", "/dev/refuse/kicked"]];
    const strangers = [
      { host: "evil.example" },
      { host: `evil.example:${port}` },
      { host: "127.0.0.1.evil.example" },
      { host: "localhost.evil.example" },
      { host: "192.168.1.7" },
      { host: "0.0.0.0" },
      { "x-forwarded-for": "203.0.113.9" },
      { "x-forwarded-for": "127.0.0.1" },
      { forwarded: "for=203.0.113.9" },
    ];
    for (const [method, path] of requests) {
      for (const headers of strangers) {
        const { status, type, text } = await ask(method, path, headers);
        assert.deepEqual([status, type], [403, "application/problem+json"], `${method} ${path} ${JSON.stringify(headers)}`);
        assert.ok(!text.includes(server.apiKey) && !text.includes("eyJ"), text);
      }
    }
    for (const host of [`localhost:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`, "localhost", "127.9.9.9"]) {
      const { status, body } = await ask("GET", "/dev/info", { host });
      assert.deepEqual([status, body.key], [200, server.apiKey], host);
    }

    // A WebSocket at what is for this machine only is refused as readably.
    for (const path of ["/dev/faults", "/dev/single", "/dev/refuse/kicked"]) {
      for (const headers of [{ host: "evil.example" }, { "x-forwarded-for": "203.0.113.9" }]) {
        const token = await server.mint("alice");
        const session = server.connect({ at: new URL(path, server.url).href, token, headers });
        assert.equal((await session.take("error")).data.name, "forbidden", path);
        assert.equal((await session.closed).code, 4004);
      }
    }
    // Rebinding: a page elsewhere whose name is made to mean us is of our origin, and still has no token.
    const rebound = { host: `evil.example:${port}`, origin: `http://evil.example:${port}` };
    assert.equal((await server.connect({ headers: rebound }).closed).code, 4003);
    // And no page elsewhere reads what it may send: nothing here is for other origins.
    const { headers } = await ask("POST", "/dev/token", { origin: "http://evil.example" });
    assert.deepEqual(Object.keys(headers).filter((name) => name.startsWith("access-control")), []);
  });

  test("answers no one behind a proxy that passes TCP on, whatever host it names", async (t) => {
    const server = await serve(t, { config: '[proxies]\ntrusted = ["127.0.0.0/8"]\nproxy_protocol = true' });
    const { hostname: host, port } = new URL(server.page);
    const ask = async (source) => {
      const socket = connectTcp({ host, port });
      socket.write(`PROXY TCP4 ${source} 127.0.0.1 4711 80\r\nGET /dev/info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
      let text = "";
      for await (const chunk of socket.setEncoding("utf8")) text += chunk;
      return text;
    };
    const refused = await ask("203.0.113.9");
    assert.match(refused, /^HTTP\/1\.1 403 /);
    assert.ok(!refused.includes(server.apiKey));
    assert.match(await ask("127.0.0.1"), /^HTTP\/1\.1 200 /);
  });
});

describe("the log", limit, () => {
  test("every connection ends once, explained, however it breaks", async (t) => {
    const server = await serve(t, { config: "[limits]\nheartbeat_ms = 600\nclose_ms = 500\nwrite_ms = 500\nconnections_per_identity = 1000\nconnections_per_address = 1000" });
    const token = await server.mint("alice");
    const at = (name) => `${server.url}/${name}`;
    const ready = async (name, options) => {
      const peer = await server.raw({ token, at: at(name), ...options });
      assert.equal(JSON.parse((await peer.frames.next()).value.payload).type, "ready");
      return peer;
    };
    const join = (peer) => peer.sendFrame({ payload: JSON.stringify({ type: "join", data: { room } }) });
    const refused = (name) => server.raw({ at: at(name), protocols: ["saywhy.v1"] });
    const untilClose = async (peer) => {
      for await (const { opcode } of peer.frames) if (opcode === 8) return;
    };
    const head = encodeFrame({ payload: "x".repeat(100) });

    /** What happens to a connection, and the causes that explain it. */
    const cases = {
      "rst-at-ready": [async (name) => (await ready(name)).reset(), "lost_reset"],
      "rst-in-a-room": [async (name) => {
        const peer = await ready(name);
        await join(peer);
        await peer.frames.next();
        peer.reset();
      }, "lost_reset"],
      "rst-in-a-header": [async (name) => {
        const peer = await ready(name);
        await peer.sendBytes(head.subarray(0, 1));
        peer.reset();
      }, "lost_reset"],
      "rst-in-a-frame": [async (name) => {
        const peer = await ready(name);
        await peer.sendBytes(head.subarray(0, 50));
        peer.reset();
      }, "lost_reset"],
      "rst-in-a-message": [async (name) => {
        const peer = await ready(name);
        await peer.sendFrame({ payload: "{", fin: false });
        peer.reset();
      }, "lost_reset"],
      "rst-after-close": [async (name) => {
        const peer = await ready(name);
        await peer.sendFrame({ opcode: 8, payload: Buffer.from([0x03, 0xe8]) });
        peer.reset();
      }, "peer_closed", "lost_reset"],
      "rst-after-the-request": [async (name) => {
        const { hostname, port } = new URL(server.url);
        const socket = connectTcp({ host: hostname, port });
        await once(socket, "connect");
        await new Promise((resolve) => socket.write(requestHead(name, token), resolve));
        socket.resetAndDestroy();
        // Where the HTTP library sees it first, it does not tell how the client went.
      }, "lost_reset", "lost_eof"],
      "rst-when-refused": [async (name) => (await refused(name)).reset(), "unauthorized"],
      "rst-when-told-to-go": [async (name) => {
        const peer = await ready(name);
        await peer.sendFrame({ opcode: 2, payload: "x" });
        await untilClose(peer);
        peer.reset();
      }, "unsupported_data"],
      "fin-at-ready": [async (name) => (await ready(name)).fin(), "lost_eof"],
      "fin-in-a-frame": [async (name) => {
        const peer = await ready(name);
        await peer.sendBytes(head.subarray(0, 50));
        peer.fin();
      }, "lost_eof"],
      "fin-when-refused": [async (name) => (await refused(name)).fin(), "unauthorized"],
      "silent-when-refused": [refused, "unauthorized"],
      "silent": [ready, "timeout"], // half-open: the peer's machine is gone, and nothing says so
      "silent-in-a-frame": [async (name) => {
        const peer = await ready(name);
        await peer.sendBytes(head.subarray(0, 50));
      }, "timeout"],
      "asks-and-never-reads": [async (name) => {
        const peer = await ready(name);
        peer.pause();
        const question = encodeFrame({ payload: JSON.stringify({ type: "x", meta: { request_id: "x".repeat(64) } }) });
        for (let n = 0; n < 10; n++) await peer.sendBytes(question);
      }, "timeout", "policy_violation"],
      "closes": [async (name) => {
        const peer = await ready(name);
        await peer.sendFrame({ opcode: 8, payload: Buffer.from([0x03, 0xe8]) });
      }, "peer_closed"],
      "closes-illegally": [async (name) => {
        const peer = await ready(name);
        await peer.sendFrame({ opcode: 8, payload: Buffer.from([0x03, 0xee]) });
      }, "protocol_error"],
      "in-http": [(name) => server.raw({ at: at(name) }), "unauthorized"],
      "by-an-old-version": [(name) => server.raw({ at: at(name), version: 8 }), "bad_request"],
      "with-half-a-request": [async (name) => {
        const { hostname, port } = new URL(server.url);
        const socket = connectTcp({ host: hostname, port });
        await once(socket, "connect");
        await new Promise((resolve) => socket.write(requestHead(name, token).slice(0, 40), resolve));
        socket.resetAndDestroy();
      }, undefined], // it never asked for anything
    };
    const each = 3;
    await Promise.all(Object.entries(cases).flatMap(([name, [happen]]) => Array.from({ length: each }, () => happen(name))));

    const endingsOf = (name) => server.endings().filter(({ path }) => path.endsWith(`/${name}"`));
    const unsure = Object.keys(cases).filter((name) => cases[name].includes(undefined));
    await eventually(() => Object.keys(cases).every((name) => unsure.includes(name) || endingsOf(name).length >= each));
    assert.equal((await server.stop()).code, 0);
    for (const [name, [, ...causes]] of Object.entries(cases)) {
      const endings = endingsOf(name);
      assert.ok(endings.length === each || unsure.includes(name), `${name}: ${endings.length} endings`);
      for (const { cause } of endings) assert.ok(causes.includes(cause), `${name}: ${cause}`);
    }
    const ids = server.endings().map(({ connection_id }) => connection_id);
    assert.equal(new Set(ids).size, ids.length, "none twice");
    for (const { message, stage, cause, lived_ms, target } of server.endings()) {
      assert.equal(target, "saywhy::ending");
      assert.ok(message && ["admission", "session", "handshake"].includes(stage) && cause !== "unexplained", message);
      assert.ok(stage === "handshake" || Number.isInteger(lived_ms));
    }
  });

  test("clients that are killed are lost, one line for each", async (t) => {
    const server = await serve(t);
    const bob = await server.open("bob");
    await bob.ok("join", { room });
    const token = await server.mint("alice");
    const script = `
      import { connect } from ${JSON.stringify(new URL("./support/client.mjs", import.meta.url).href)};
      for (let n = 0; n < 10; n++) {
        const session = connect(${JSON.stringify(server.url)}, { token: ${JSON.stringify(token)} });
        await session.take("ready");
        await session.ok("join", { room: "lobby" });
        session.send({ type: "send", data: { room: "lobby", body: n } });
      }
      console.log("joined");`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => child.kill("SIGKILL"));
    await once(child.stdout, "data");
    child.kill("SIGKILL");
    await bob.take("left");
    await eventually(() => server.endings().length === 10);
    assert.ok(server.endings().every(({ cause, user }) => /^lost_(reset|eof)$/.test(cause) && user === "alice"));
    assert.deepEqual((await bob.ok("members", { room })).members, ["bob"]);
  });

  test("the id that a client was told stands beside the private cause", async (t) => {
    const server = await serve(t, { panics: true });
    const at = new URL("/dev/faults", server.url).href;
    const beside = async (id) => {
      const line = await eventually(() => server.lines().find((line) => line.private && (line.request_id === id || line.connection_id === id)));
      return line.private;
    };
    const faults = async () => {
      const session = server.connect({ at });
      session.id = (await session.take("ready")).data.connection_id;
      return session;
    };
    for (const fault of ["fail", "break", "panic"]) {
      const mine = await faults();
      const { meta } = await mine.ask(fault, {}, `mine-${fault}`);
      assert.equal(meta.request_id, `mine-${fault}`);
      assert.match(await beside(`mine-${fault}`), /db-7\.internal/, fault);
      const unnamed = await faults();
      unnamed.send({ type: fault });
      const told = await unnamed.take("error");
      assert.match(await beside(told.meta.request_id), /db-7\.internal/, `${fault}, without an id`);
      await mine.terminate();
      await unnamed.terminate();
    }
    const refused = server.connect({ at: new URL("/dev/panic", server.url).href });
    assert.match(await beside((await refused.take("error")).meta.request_id), /asked to by \/dev\/panic/);
    const { body } = await server.raw({ at: new URL("/dev/panic", server.url).href });
    assert.match(await beside(JSON.parse(body).request_id), /asked to by \/dev\/panic/, "in HTTP");
    const badToken = server.connect({ token: "x.y.z" });
    assert.ok(await beside((await badToken.take("error")).meta.request_id), "why a token was refused");
  });

  test("every line is JSON, from the first to the last", async (t) => {
    const server = await serve(t, { args: ["--log", "trace"] });
    const alice = await server.open("alice");
    await alice.error("leave", { room });
    await alice.close(4321, 'quoted " and \u202e turned \u001b[31m');
    await server.ending(alice.id);
    await server.stop();
    const lines = server.lines();
    for (const { timestamp, level, target, message } of lines) {
      assert.match(timestamp, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
      assert.ok(/^(ERROR|WARN|INFO|DEBUG|TRACE)$/.test(level) && target && message !== undefined);
    }
    for (const words of [/^development mode/, /^draining/, /^drained/]) assert.ok(lines.some(({ message }) => words.test(message)), words);
  });
});

function requestHead(name, token) {
  return [
    `GET /ws/${name} HTTP/1.1`, "Host: localhost", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", `Sec-WebSocket-Protocol: saywhy.v1, saywhy.bearer.${token}`, "", "",
  ].join("\r\n");
}
