// Who connects, and what each says of it: { status, code, reason, messages, error, silent }; a browser also `afterMs`, from
// `new WebSocket()` to `onclose`.
import { execFile, execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import WebSocket from "../../../tests/node_modules/ws/wrapper.mjs";
import { browsers } from "../../../tests/support/browsers.mjs";
import { recordSocket } from "../../../tests/support/socket-script.mjs";

const run = promisify(execFile);
const here = fileURLToPath(new URL(".", import.meta.url));
const target = fileURLToPath(new URL("../../../target/gateway/", import.meta.url));
const python = fileURLToPath(new URL("../../../target/backends/python/bin/python", import.meta.url));
const GIVE_UP_MS = 3_000;
const LABELS = { chromium: "Chromium", firefox: "Firefox" };

const browser = ({ name, launch }) => {
  const held = {};
  return {
    name: LABELS[name] ?? name,
    isBrowser: true,
    async prepare(origin) {
      held.browser = await launch();
      held.page = await held.browser.newPage();
      await held.page.goto(origin);
    },
    async see(url) {
      const events = await held.page.evaluate(recordSocket, { url, timeoutMs: GIVE_UP_MS });
      const { type, code, reason, t: afterMs } = events.at(-1);
      return { code, reason, afterMs, silent: type === "timeout", messages: events.flatMap(({ data }) => (data === undefined ? [] : [String(data)])) };
    },
    end: () => held.browser?.close(),
  };
};

const node = {
  name: "Node `ws`",
  prepare: async () => {},
  see: (url) =>
    new Promise((resolve) => {
      const seen = { messages: [] };
      const socket = new WebSocket(url);
      const timer = setTimeout(() => resolve({ ...seen, silent: true }) || socket.terminate(), GIVE_UP_MS);
      socket.on("unexpected-response", (request, { statusCode }) => {
        clearTimeout(timer);
        request.destroy();
        resolve({ ...seen, status: statusCode });
      });
      socket.on("open", () => (seen.status = 101));
      socket.on("message", (data) => seen.messages.push(String(data)));
      socket.on("error", ({ message }) => (seen.error = message));
      socket.on("close", (code, reason) => {
        clearTimeout(timer);
        resolve({ ...seen, code, reason: String(reason) });
      });
    }),
  end: async () => {},
};

const program = (name, prepare, command) => ({
  name,
  prepare,
  see: async (url) => JSON.parse((await run(...command(url))).stdout),
  end: async () => {},
});

const websockets = program(
  "Python",
  async () => {
    if (!existsSync(python)) throw new Error("there is no Python of ours: run scripts/setup");
    await run(python, ["-c", "import websockets"]);
  },
  (url) => [python, [join(here, "client.py"), url]],
);

const go = program(
  "Go",
  async () => {
    mkdirSync(target, { recursive: true });
    const env = { ...process.env, GOPATH: "/usr/share/gocode", GO111MODULE: "off", GOFLAGS: "", GOCACHE: join(target, "go") };
    await run("go", ["build", "-o", join(target, "client"), join(here, "client.go")], { env });
  },
  (url) => [join(target, "client"), [url]],
);

/** A handshake by hand; it reads no frames. */
const HANDSHAKE = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="];
const curl = {
  name: "curl",
  prepare: async () => execFileSync("curl", ["--version"], { stdio: "ignore" }),
  async see(url) {
    const args = ["-sS", "--http1.1", "--max-time", "3", "-o", "/dev/null", "-w", "%{http_code}", ...HANDSHAKE.flatMap((line) => ["-H", line])];
    const { stdout } = await run("curl", [...args, url.replace(/^ws/, "http")]).catch((error) => error);
    const status = Number(stdout);
    return status ? { status, messages: [] } : { error: "no answer", messages: [] };
  },
  end: async () => {},
};

export const CLIENTS = [...browsers.map(browser), node, websockets, go, curl];
