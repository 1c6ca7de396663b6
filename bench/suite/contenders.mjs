// Who is measured: the name, the version, and how each is started for a work, on which port.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CROWD } from "../../tests/support/crowd.mjs";

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
  nginx: {
    label: "nginx",
    hint: "apt-get install nginx-light",
    isThere: () => nginx() !== undefined,
    version: () => execFileSync("sh", ["-c", `${nginx()} -v 2>&1`], { encoding: "utf8" }).trim().split("/").pop(),
    command(work, port, folder, upstream) {
      const file = join(folder, "nginx.conf");
      writeFileSync(file, nginxConfig(port, folder, upstream));
      return [nginx(), "-c", file, "-e", join(folder, "error.log")];
    },
  },
};

const debian = (name, version, write) => ({
  label: name,
  hint: `apt-get install ${name}`,
  isThere: () => spawnSync(name, [version]).status === 0,
  version: () => execFileSync(name, [version], { encoding: "utf8" }).match(/\d+\.\d+\.\d+/)?.[0],
  command: (_, port, folder, upstream) => {
    const file = join(folder, name);
    const { text, args } = write(port, upstream, folder);
    writeFileSync(file, text);
    return [name, ...args, file];
  },
});

/** One thread, HTTP mode, no log. */
CONTENDERS.haproxy = debian("haproxy", "-v", (port, upstream) => ({
  args: ["-db", "-f"],
  text: `global
  nbthread 1
  maxconn 9000
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
listen front
  bind 127.0.0.1:${port}
  server back 127.0.0.1:${upstream}
`,
}));

/** On one core it has one thread for Go code. */
CONTENDERS.caddy = debian("caddy", "version", (port, upstream) => ({
  args: ["run", "--adapter", "caddyfile", "--config"],
  text: `{
  admin off
  auto_https off
  log {
    level ERROR
  }
}
http://127.0.0.1:${port} {
  reverse_proxy 127.0.0.1:${upstream}
}
`,
}));

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

/** As Debian has it, but for what needs root, and without an access log: none of the others writes a line either. */
function nginxConfig(port, folder, upstream) {
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return `daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log;
events { worker_connections 19000; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  ${temp.map((name) => `${name}_temp_path ${folder}/${name};`).join("\n  ")}
  server {
    listen 127.0.0.1:${port};
    location / { ${upstream ? relaying(upstream) : "return 401;"} }
  }
}
`;
}

/** As its documentation has it for WebSockets. */
const relaying = (port) =>
  `proxy_pass http://127.0.0.1:${port}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; ` +
  'proxy_set_header Connection "upgrade"; proxy_read_timeout 1h;';

function nginx() {
  return ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"].find((file) => existsSync(file));
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
