// Who is measured: where it comes from, which version it is, and how it is started as a server or as a client.
import { execFile, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { CROWD } from "../../../tests/support/crowd.mjs";
import { MESSAGE_BYTES } from "./cases.mjs";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const bench = join(root, "target/bench");
const kept = join(target, "violations");
const peer = (name) => join(root, "conformance/violations/peers", name);
const run = promisify(execFile);

/** Why a subject cannot be measured here. */
class Missing extends Error {}

const cargo = (args, options) => run("cargo", ["build", "--quiet", "--release", ...args], { cwd: root, ...options });
const examples = () => cargo(["--package", "saywhy", "--example", "echo", "--example", "echo_client"]);

/** A crate of `bench/peers`. */
const crate = (name, contender = name) => ({
  name,
  prepare: () => cargo(["--package", "bench-peers"], { cwd: join(root, "bench"), env: { ...process.env, CARGO_TARGET_DIR: bench } }),
  version: () => lockedVersion(name),
  server: (port) => [join(bench, "release/bench-peers"), contender, "limited", `127.0.0.1:${port}`],
});

const ws = {
  name: "Node `ws`",
  prepare: () => needs(join(root, "tests/node_modules/ws"), "npm --prefix tests ci"),
  version: () => JSON.parse(readFileSync(join(root, "tests/node_modules/ws/package.json"))).version,
  server: (port) => [process.execPath, peer("ws.mjs"), "server", port],
  client: (url, count) => [process.execPath, peer("ws.mjs"), "client", url, count],
};

const python = join(kept, "python/bin/python");
const websockets = {
  name: "python-websockets",
  async prepare() {
    if (existsSync(python)) return;
    await run("python3", ["-m", "venv", join(kept, "python")]);
    await run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "websockets==17.4"]);
  },
  version: () => execFileSync(python, ["-c", "import websockets; print(websockets.__version__)"], { encoding: "utf8" }).trim(),
  server: (port) => [python, peer("python_websockets.py"), "server", port],
  client: (url, count) => [python, peer("python_websockets.py"), "client", url, count],
};

const gorilla = {
  name: "gorilla/websocket",
  async prepare() {
    needs("/usr/share/gocode/src/github.com/gorilla/websocket", "apt-get install golang-go golang-github-gorilla-websocket-dev");
    const env = { ...process.env, GOPATH: "/usr/share/gocode", GO111MODULE: "off" };
    mkdirSync(kept, { recursive: true });
    await run("go", ["build", "-o", join(kept, "gorilla"), peer("gorilla.go")], { env });
  },
  version: () => debianVersion("golang-github-gorilla-websocket-dev"),
  server: (port) => [join(kept, "gorilla"), "server", port],
  client: (url, count) => [join(kept, "gorilla"), "client", url, count],
};

const browser = (name, label) => ({
  name: label,
  browser: name,
  prepare: () => needs(join(root, "tests/node_modules/playwright-core"), "npm --prefix tests ci"),
});

export const SERVERS = [
  {
    name: "saywhy",
    isOurs: true,
    prepare: examples,
    version: commit,
    server: (port) => [join(target, "release/examples/echo"), `127.0.0.1:${port}`, String(MESSAGE_BYTES)],
  },
  {
    name: "`saywhy serve`",
    isOurs: true,
    speaks: true,
    greets: true,
    path: "/ws",
    prepare: () => cargo(["--package", "saywhy-cli"]),
    version: commit,
    server: (port) => [join(target, "release/saywhy"), "serve", "--config", serveConfig(port)],
  },
  ws,
  websockets,
  gorilla,
  crate("tokio-tungstenite", "tungstenite"),
  crate("tokio-websockets"),
  crate("fastwebsockets"),
  crate("soketto"),
];

export const CLIENTS = [
  {
    name: "saywhy",
    isOurs: true,
    isAutobahns: true,
    prepare: examples,
    version: commit,
    client: (url) => [join(target, "release/examples/echo_client"), new URL(url).host],
  },
  ws,
  websockets,
  gorilla,
  browser("chromium", "Chromium"),
  browser("firefox", "Firefox"),
];

/** `message_bytes` is what the cases are made for; the rate and the addresses are those of one machine. */
function serveConfig(port) {
  const file = join(kept, "saywhy.toml");
  mkdirSync(kept, { recursive: true });
  writeFileSync(
    file,
    `listen = "127.0.0.1:${port}"
[limits]
message_bytes = ${MESSAGE_BYTES}
${CROWD}[log]
level = "error"
[[route]]
path = "/ws"
token = "none"
rooms = { open = ["lobby"] }
`,
  );
  return file;
}

function needs(path, hint) {
  if (!existsSync(path)) throw new Missing(hint);
}

function lockedVersion(name) {
  const lock = readFileSync(join(root, "bench/Cargo.lock"), "utf8");
  return lock.match(new RegExp(`name = "${name}"\nversion = "([^"]+)"`))?.[1];
}

function debianVersion(name) {
  return execFileSync("dpkg-query", ["--show", "--showformat", "${Version}", name], { encoding: "utf8" });
}

let known;
function commit() {
  return (known ??= execFileSync("git", ["describe", "--always", "--dirty"], { cwd: root, encoding: "utf8" }).trim());
}
