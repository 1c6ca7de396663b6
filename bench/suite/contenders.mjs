// Who is measured: the name, the version, and how each is started for a work, on which port.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CROWD } from "../../tests/support/crowd.mjs";
import { caddy, haproxy, nginx } from "./proxies.mjs";

const bench = new URL("..", import.meta.url).pathname;
export const target = process.env.CARGO_TARGET_DIR ?? join(bench, "../target/bench");
const built = (name) => join(target, "release", name);
export const load = built("bench-load");

const rust = (name, crate, label = name) => ({
  label,
  version: () => crateVersion(crate),
  command: (work, port) => [built("bench-peers"), name, work, `127.0.0.1:${port}`],
});

export const CONTENDERS = {
  saywhy: { ...rust("saywhy", undefined), version: commit },
  "saywhy-unmetered": { ...rust("saywhy-unmetered", undefined, "saywhy, no rate limit"), version: commit },
  "saywhy-serve": {
    label: "saywhy serve",
    version: commit,
    command(work, port, folder, upstream) {
      const file = join(folder, "saywhy.toml");
      writeFileSync(file, serveConfig(work, port, upstream));
      return [built("saywhy"), "serve", "--config", file];
    },
  },
  tungstenite: rust("tungstenite", "tokio-tungstenite"),
  "tungstenite-4k": { ...rust("tungstenite-4k", "tokio-tungstenite", "tungstenite, 4 KiB buffer") },
  "tokio-websockets": rust("tokio-websockets", "tokio-websockets"),
  fastwebsockets: rust("fastwebsockets", "fastwebsockets"),
  soketto: rust("soketto", "soketto"),
  ws: {
    label: "Node ws",
    version: () => `${JSON.parse(readFileSync(join(bench, "node_modules/ws/package.json"))).version}, Node ${process.versions.node}`,
    command: (work, port) => [process.execPath, join(bench, "node/ws.mjs"), work, String(port)],
  },
  /** What the proxies stand in front of, where it then runs. */
  direct: { ...rust("saywhy", undefined, "no proxy"), version: commit, command: (_, port) => ["taskset", "-c", "1", ...CONTENDERS.saywhy.command("echo", port)] },
  nginx: measured(nginx),
  haproxy: measured(haproxy),
  caddy: measured(caddy),
};

function measured(proxy) {
  return { ...proxy, command: (_, port, folder, upstream) => proxy.command(port, folder, upstream) };
}

/** Limits that are about one client are higher than by default: this load stands for many. */
function serveConfig(work, port, upstream) {
  const limits = `
[limits]
messages_per_s = 1000000
message_burst = 1000000
${CROWD}`;
  const log = `
[log]
level = "error"`;
  const refusing = `
[token]
hs256_secret = "only for this measurement, which ends with it"
[[route]]
path = "/ws"
rooms = {}`;
  const rooms = `
[[route]]
path = "/ws"
token = "none"
rooms = { open = [], create = "join", presence = false }`;
  const relaying = `
[[route]]
path = "/"
upstream = "ws://127.0.0.1:${upstream}"`;
  const route = { refuse: refusing, relay: relaying }[work] ?? rooms;
  return `listen = "127.0.0.1:${port}"${limits}${log}${route}\n`;
}

function crateVersion(name) {
  const lock = readFileSync(join(bench, "Cargo.lock"), "utf8");
  return lock.match(new RegExp(`name = "${name}"\nversion = "([^"]+)"`))?.[1];
}

export function commit() {
  try {
    return execFileSync("git", ["describe", "--always", "--dirty"], { cwd: bench, encoding: "utf8" }).trim();
  } catch {
    return "unknown";
  }
}
