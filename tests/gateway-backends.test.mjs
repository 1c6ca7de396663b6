// The gateway in front of back ends that people really have, as their authors write them, and with the client code that the
// documents behind this project print.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import WebSocket from "ws";
import { RetryMachine } from "../clients/typescript/dist/retry.js";
import { read } from "../clients/typescript/dist/wire.js";
import { browsers } from "./support/browsers.mjs";
import { serve } from "./support/client.mjs";
import { CROWD } from "./support/crowd.mjs";
import { browserFor, soon } from "./support/pages.mjs";
import { freePort, listening } from "./support/ports.mjs";
import { recordSocket } from "./support/socket-script.mjs";

/** All that the back ends have. */
const PATHS = ["content", "answered", "json", "feed", "closes", "fails", "echo", "busy"];

const folder = fileURLToPath(new URL("backends/", import.meta.url));
const target = fileURLToPath(new URL("../target/backends/", import.meta.url));
const python = join(target, "python/bin/python");

/** How each is made ready, once, and started on a port. */
const BACKENDS = {
  gorilla: {
    async build() {
      mkdirSync(target, { recursive: true });
      const env = { ...process.env, GOPATH: "/usr/share/gocode", GO111MODULE: "off", GOFLAGS: "", GOCACHE: join(target, "go") };
      await promisify(execFile)("go", ["build", "-o", join(target, "gorilla"), join(folder, "gorilla.go")], { env });
    },
    command: (port) => [join(target, "gorilla"), port],
  },
  sanic: { build: async () => assert.ok(existsSync(python), "there is no Sanic: run scripts/setup"), command: (port) => [python, join(folder, "sanic_app.py"), port] },
  ws: { build: async () => {}, command: (port) => [process.execPath, join(folder, "ws.mjs"), port] },
};

const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

async function startBackend(name, port) {
  const [program, ...args] = BACKENDS[name].command(String(port));
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (said += text));
  running.add(child);
  const exited = once(child, "exit").then(() => running.delete(child));
  const early = exited.then(() => Promise.reject(new Error(`${name} ended at once: ${said}`)));
  early.catch(() => {});
  await Promise.race([listening(port), early]);
  const end = (signal = "SIGKILL") => {
    child.kill(signal);
    return exited;
  };
  return { end, exited, said: () => said };
}

async function start(t, name, route = "") {
  const port = await freePort();
  const backend = await startBackend(name, port);
  t.after(() => backend.end());
  const to = (path) => `[[route]]\npath = "/${path}"\nupstream = "ws://127.0.0.1:${port}"\n${route}\n`;
  const server = await serve(t, { config: `[limits]\n${CROWD}\nmessages_per_s = 1000000\n${PATHS.map(to).join("")}[[route]]\npath = "/rooms"\nrooms = {}` });
  // A page of the same origin: these back ends take no others.
  const page = new URL("foreign.html", server.page).href;
  return { port, backend, page, at: (path) => new URL(path, server.url).href, direct: (path) => `ws://127.0.0.1:${port}${path}` };
}

/** All that a page sees. */
async function visit(t, { browser }, { at, page: from }, path, options = {}) {
  const page = await browser.newPage();
  t.after(() => page.close());
  await page.goto(from);
  return page.evaluate(recordSocket, { url: at(path), ...options });
}

const last = (events) => {
  const { code, reason } = events.at(-1);
  return [code, reason];
};
const errorOf = (events) => JSON.parse(events.find(({ type, data }) => type === "message" && String(data).includes('"error"')).data).data;

describe("back ends that know of nothing", { timeout: 300_000 }, () => {
  before(() => Promise.all(Object.values(BACKENDS).map(({ build }) => build())));

  for (const browser of browsers) {
    describe(browser.name, { concurrency: 1 }, () => {
      const held = browserFor(browser, { before, after });

      test("gorilla refuses with 400 and a text, and the page can say why", async (t) => {
        const gateway = await start(t, "gorilla");
        const events = await visit(t, held, gateway, "/content");
        const { name, message, details } = errorOf(events);
        assert.deepEqual(last(events), [4000, message]);
        assert.deepEqual([name, details], ["bad_request", { source: "upstream", http_status: 400 }]);
        assert.deepEqual(last(await visit(t, held, gateway, "/content?contentId=42", { onopen: ["hello", { close: [1000, "bye"] }] })), [1000, ""]);
        // The answer that was given there comes through as it is.
        assert.deepEqual(last(await visit(t, held, gateway, "/answered")), [1008, "bad content id or not exist"]);
      });

      for (const [name, path, code, dialogs, route] of [
        ["gorilla", "/content", "refuse-upgrade", ["The server did not accept the request"], 'dialect = "policy"'],
        ["gorilla", "/json", "refuse-upgrade", ["members only"], 'dialect = "policy"\nrelay = { reasons = true }'],
        ["gorilla", "/answered", "refuse-upgrade", ["bad content id or not exist"]],
        ["sanic", "/feed", "error-handling", ["Something went wrong: Sign in and try again", "You were disconnected due to authentication failure."]],
      ]) {
        test(`the code of the sources in front of ${name}'s ${path} shows its user why`, async (t) => {
          const gateway = await start(t, name, route);
          const page = await held.browser.newPage();
          t.after(() => page.close());
          const shown = [];
          const accepted = [];
          page.on("dialog", (dialog) => shown.push(dialog.message()) && accepted.push(dialog.accept()));
          await page.goto(gateway.page);
          const source = readFileSync(new URL(`sources/${code}.js`, import.meta.url), "utf8");
          await page.evaluate(`{ const socket = new WebSocket(${JSON.stringify(gateway.at(path))}), ws = socket;\n${source}\n}`);
          await soon(() => shown.length >= dialogs.length, dialogs.join(", "));
          assert.deepEqual(shown, dialogs);
          // Before the page is closed.
          await Promise.all(accepted);
        });
      }

      test("its own words are passed on where that is wished for", async (t) => {
        const gateway = await start(t, "gorilla", "relay = { reasons = true }");
        assert.deepEqual(last(await visit(t, held, gateway, "/json")), [4004, "members only"]);
      });

      test("gorilla panics in an open session, and dies", async (t) => {
        const gateway = await start(t, "gorilla");
        for (const word of ["panic", "exit"]) {
          const events = await visit(t, held, gateway, "/content?contentId=42", { onopen: [word] });
          assert.deepEqual([last(events)[0], errorOf(events).name], [1014, "bad_gateway"], word);
        }
      });

      test("Sanic answers 401 in JSON, and the page knows to sign in", async (t) => {
        const gateway = await start(t, "sanic");
        const events = await visit(t, held, gateway, "/feed");
        const { name, retry, details } = errorOf(events);
        assert.deepEqual([last(events)[0], name, retry, details.http_status], [4003, "unauthorized", "reauthenticate", 401]);
        assert.deepEqual(last(await visit(t, held, gateway, "/feed?token=x", { onopen: ["hello", { close: [4000, "bye"] }] })), [4000, ""]);
        assert.deepEqual(last(await visit(t, held, gateway, "/closes")), [1011, '{"code": 401, "error": "Please authenticate yourself."}']);
        // Whatever Sanic makes of an exception.
        const direct = await visit(t, held, { ...gateway, at: gateway.direct }, "/fails", { onopen: ["?"] });
        assert.deepEqual(last(await visit(t, held, gateway, "/fails", { onopen: ["?"] })), last(direct));
      });

      test("ws is busy, terminates, closes, and is restarted", async (t) => {
        const gateway = await start(t, "ws");
        const busy = errorOf(await visit(t, held, gateway, "/busy"));
        assert.deepEqual([busy.name, busy.retry, busy.retry_after_ms], ["overloaded", "after", 9000]);
        const gone = await visit(t, held, gateway, "/echo", { onopen: ["terminate"] });
        assert.deepEqual([last(gone)[0], errorOf(gone).name], [1014, "bad_gateway"]);
        assert.deepEqual(last(await visit(t, held, gateway, "/echo?close=4321&reason=so")), [4321, "so"]);
        const restarted = visit(t, held, gateway, "/echo", { onopen: ["hello"] });
        await soon(() => gateway.backend.said().includes("hello"), "the back end has heard the page");
        await gateway.backend.end("SIGTERM");
        assert.deepEqual(last(await restarted), [1012, "back soon"]);
        const down = await visit(t, held, gateway, "/echo");
        assert.deepEqual([last(down)[0], errorOf(down).retry], [1014, "backoff"]);
        const again = await startBackend("ws", gateway.port);
        t.after(() => again.end());
        assert.deepEqual(last(await visit(t, held, gateway, "/echo", { onopen: ["hello", { close: [1000, ""] }] })), [1000, ""]);
      });
    });
  }

  test("a back end that is killed under load, and comes back: a crowd is told, and comes back", async (t) => {
    const CROWDED = Number(process.env.SAYWHY_CROWD ?? 200);
    const gateway = await start(t, "ws");
    const now = () => performance.now();
    /** Talks for as long as it can, comes back as it is told, and is content when it was answered after the restart. */
    const client = async () => {
      const machine = new RetryMachine();
      const seen = [];
      for (;;) {
        machine.handle(now(), { type: "started" }, 0);
        const socket = new WebSocket(gateway.at("/echo?quiet"), ["saywhy.v1"], { perMessageDeflate: false });
        const one = { echoes: 0, error: undefined };
        seen.push(one);
        socket.on("error", () => {});
        socket.on("open", () => socket.send("and on"));
        let content;
        const isContent = new Promise((resolve) => (content = resolve));
        socket.on("message", (data) => {
          if (String(data) === "and on") {
            one.echoes += 1;
            echoes += 1;
            setTimeout(() => socket.readyState === WebSocket.OPEN && socket.send("and on"), 5);
            if (isBack && one.echoes === 3) content(true);
            return;
          }
          const { said } = read(String(data));
          one.error = said;
          machine.handle(now(), { type: "error", said, fatal: said.fatal }, 0);
        });
        const closed = once(socket, "close").then(([code, reason]) => Object.assign(one, { code, reason: String(reason) }));
        if ((await Promise.race([isContent, closed])) === true) {
          socket.close(1000);
          await closed;
          return seen;
        }
        const decision = machine.handle(now(), { type: "ended", code: one.code }, Math.random());
        assert.equal(decision.do, "wait", JSON.stringify(one));
        await new Promise((resolve) => setTimeout(resolve, decision.delayMs));
      }
    };
    let [isBack, echoes] = [false, 0];
    const all = Array.from({ length: CROWDED }, client);
    const settled = Promise.all(all);
    settled.catch(() => {});
    await soon(() => echoes > 10 * CROWDED, "all of them talk");
    await gateway.backend.end("SIGKILL");
    const again = await startBackend("ws", gateway.port);
    t.after(() => again.end());
    isBack = true;
    const refused = new Set();
    for (const seen of await settled) {
      const [first, ...rest] = seen.slice(0, -1);
      assert.ok(first.echoes > 0, "it talked");
      for (const one of [first, ...rest]) {
        assert.equal(one.code, 1014, JSON.stringify(one));
        assert.deepEqual([one.error.name, one.error.retry, one.error.message], ["bad_gateway", "backoff", one.reason]);
        refused.add(one.reason);
      }
      assert.equal(seen.at(-1).code, 1000);
      // What a crowd that comes back at once would exceed.
      assert.ok(seen.length <= 12, `${seen.length} connections`);
    }
    assert.ok(refused.size > 0 && [...refused].every((reason) => reason.startsWith("The upstream ")), [...refused].join());
  });

  test("what is compressed, long or binary comes back as it went", async (t) => {
    for (const name of ["ws", "gorilla"]) {
      const gateway = await start(t, name, "limits = { message_bytes = 10_000_000 }");
      for (const perMessageDeflate of [true, false]) {
        const path = name === "ws" ? "/echo" : "/content?contentId=42";
        const socket = new WebSocket(gateway.at(path), { perMessageDeflate });
        await once(socket, "open");
        assert.equal(socket.extensions.includes("permessage-deflate"), perMessageDeflate, name);
        const long = "grüße ".repeat(200_000);
        const bytes = Buffer.from(Array.from({ length: 700_000 }, (_, i) => (i * 7919) % 251));
        for (const said of ["short", long, bytes, ""]) {
          socket.send(said);
          const [data, isBinary] = await once(socket, "message");
          assert.equal(isBinary, said === bytes);
          assert.ok(Buffer.from(said).equals(data), `${name}: ${said.length}`);
        }
        socket.close(4444, "done");
        assert.equal((await once(socket, "close"))[0], 4444);
      }
    }
  });
});
