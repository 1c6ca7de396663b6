// Measures each fault through each proxy with each client, judges ours, and writes the table.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { caddy, haproxy, nginx } from "../../../bench/suite/proxies.mjs";
import { FAULTS, startBackend } from "../../../tests/support/backend.mjs";
import { CROWD } from "../../../tests/support/crowd.mjs";
import { freePort, listening } from "../../../tests/support/ports.mjs";
import { startServer } from "../../../tests/support/server.mjs";
import { CLIENTS } from "./clients.mjs";

const USAGE = `usage: conformance/gateway/run [--write] [FAULT ...]

What do clients see when a back end fails, through saywhy, nginx, HAProxy and Caddy? Without names every fault is measured.
What is missing on this machine is skipped.

  --write   writes the table of README.md
  --help    prints this

It fails when a fault is not explained through ours.`;

const AT_ONCE = 6;
const ANSWER_MS = 700;
/** Nothing is known to be wrong before the time for an answer is over. */
const WAITS = new Set(["silent-in-handshake"]);
const running = new Set();
process.on("exit", () => running.forEach((end) => end()));

async function main() {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { write: { type: "boolean" }, help: { type: "boolean" } } });
  if (values.help) return console.log(USAGE);
  const names = Object.keys(FAULTS).filter((name) => positionals.length === 0 || positionals.includes(name));
  if (names.length === 0) throw new Error(`there is no fault ${positionals.join(" or ")}`);
  const backend = await startBackend();
  const pages = createServer((_, response) => response.setHeader("content-type", "text/html").end("<!doctype html>"));
  await once(pages.listen(0, "127.0.0.1"), "listening");
  const origin = `http://127.0.0.1:${pages.address().port}`;
  const clients = [];
  for (const client of CLIENTS) {
    try {
      await client.prepare(origin);
      clients.push(client);
    } catch (error) {
      console.log(`${client.name}: skipped: ${String(error.stderr || error.message).trim().split("\n").at(-1)}`);
    }
  }
  const proxies = [await ours(backend, origin)];
  for (const proxy of [nginx, haproxy, caddy]) proxies.push(await theirs(proxy, backend));
  const seen = {};
  for (const proxy of proxies.filter(({ url }) => url)) {
    for (const client of clients.filter(({ isBrowser }) => proxy.isOurs || isBrowser)) {
      for (const some of batches(names)) {
        const all = await Promise.all(some.map((name) => client.see(`${proxy.url}/${name}`)));
        some.forEach((name, at) => ((seen[name] ??= {})[`${proxy.name} ${client.name}`] = all[at]));
      }
      console.log(`${proxy.name}, ${client.name}: ${names.length} faults`);
    }
  }
  for (const { end } of [...proxies, ...clients]) await end?.();
  backend.stop();
  pages.close();
  pages.closeAllConnections();
  const wrong = names.flatMap((name) => clients.flatMap((client) => judge(name, client, seen[name][`saywhy ${client.name}`])));
  wrong.forEach((words) => console.log(words));
  console.log(`${names.length} faults, ${wrong.length} not explained`);
  const longest = howLong(names, clients, seen);
  console.log(longest);
  if (positionals.length > 0) console.log(JSON.stringify(seen, null, 2));
  if (values.write) write(names, clients, proxies, seen, longest);
  process.exitCode = wrong.length > 0 ? 1 : 0;
}

async function ours(backend, origin) {
  const config = `[limits]\nmessages_per_s = 1000000\nmessage_burst = 1000000\n${CROWD}\n[log]\nlevel = "error"\n[[route]]\npath = "/"\norigins = ["${origin}"]
upstream = "${backend.url}"\nrelay = { answer_ms = ${ANSWER_MS}, message_bytes = 100000 }`;
  const server = await startServer({ config });
  return { name: "saywhy", label: "saywhy", isOurs: true, url: server.routes[0].replace(/\/$/, ""), end: () => server.stop("SIGKILL").catch(() => {}) };
}

async function theirs(proxy, backend) {
  if (!proxy.isThere()) {
    console.log(`${proxy.label}: skipped; hint: ${proxy.hint}`);
    return { name: proxy.label, label: proxy.label };
  }
  const folder = mkdtempSync(join(tmpdir(), "saywhy-gateway-"));
  const port = await freePort();
  const [program, ...args] = proxy.command(port, folder, backend.port);
  const child = spawn(program, args, { stdio: "ignore", env: { ...process.env, HOME: folder } });
  const end = () => {
    child.kill("SIGTERM");
    rmSync(folder, { recursive: true, force: true });
  };
  running.add(end);
  await listening(port);
  return { name: proxy.label, label: `${proxy.label} ${proxy.version()}`, url: `ws://127.0.0.1:${port}`, end };
}

/** What is wrong with what a client has seen through ours. */
function judge(name, client, { status, code, reason, silent, error, messages }) {
  const { expect } = FAULTS[name];
  const wrong = (words) => [`${name}, ${client.name}: ${words}`];
  if (silent) return wrong("nothing was said");
  if (client.isBrowser) {
    if (code !== expect.code) return wrong(`${code} instead of ${expect.code}`);
    return expect.name && !reason ? wrong("no reason") : [];
  }
  if (expect.refused) return status === expect.status ? [] : wrong(`status ${status} ${error ?? ""} instead of ${expect.status}`);
  if (client.name === "curl") return status === 101 ? [] : wrong(`status ${status} instead of 101`);
  // gorilla/websocket knows no 1014 and calls it bad, but has read the message in front of it.
  const isTold = messages.some((message) => message.startsWith(`{"type":"error","data":{"code":${expect.code},`));
  const isNamed = error?.includes(`bad close code ${expect.code}`);
  return code === expect.code || isTold || isNamed ? [] : wrong(`${code} ${error ?? ""} instead of ${expect.code}`);
}

/** Firefox opens one connection after the other (RFC 6455 §4.1): behind one that waits, the others would wait too. */
function batches(names) {
  const quick = names.filter((name) => !WAITS.has(name));
  const some = Array.from({ length: Math.ceil(quick.length / AT_ONCE) }, (_, at) => quick.slice(at * AT_ONCE, (at + 1) * AT_ONCE));
  return [...some, ...names.filter((name) => WAITS.has(name)).map((name) => [name])];
}

/** Fault, detection and closing handshake together: what a page waits until it knows. */
function howLong(names, clients, seen) {
  const all = clients.filter(({ isBrowser }) => isBrowser).map((client) => {
    const times = names.map((name) => [seen[name][`saywhy ${client.name}`].afterMs - (WAITS.has(name) ? ANSWER_MS : 0), name]);
    times.sort(([a], [b]) => a - b);
    const [middle] = times[Math.floor(times.length / 2)];
    const [most, name] = times.at(-1);
    return `${client.name} ${middle} ms in the middle, ${most} ms at most (\`${name}\`)`;
  });
  return `From \`new WebSocket()\` to \`onclose\`, ${AT_ONCE} faults at a time: ${all.join("; ")}.`;
}

function inShort({ status, code, reason, silent, error, messages = [] } = {}, isBrowser) {
  if (silent) return "*silence*";
  const told = messages.some((message) => message.startsWith('{"type":"error"')) ? " ✉" : "";
  const words = reason ? ` ${reason.replaceAll("|", "\\|")}` : "";
  if (!isBrowser && status && status !== 101) return `HTTP ${status}`;
  if (code) return `${code}${words}${told}`;
  return status ? `HTTP ${status}` : `*${error ?? "nothing"}*`;
}

function write(names, clients, proxies, seen, longest) {
  const file = new URL("../README.md", import.meta.url);
  const others = proxies.filter(({ isOurs, url }) => !isOurs && url);
  const page = (name, proxy) => {
    const all = clients.filter(({ isBrowser }) => isBrowser).map((client) => inShort(seen[name][`${proxy.name} ${client.name}`], true));
    return [...new Set(all)].join(" · ");
  };
  const head = ["fault", ...clients.map(({ name }) => name), ...others.map(({ label }) => `a browser, ${label}`)];
  const rows = names.map((name) => [
    `\`${name}\``,
    ...clients.map((client) => inShort(seen[name][`saywhy ${client.name}`], client.isBrowser)),
    ...others.map((proxy) => page(name, proxy)),
  ]);
  const table = [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
  const text = readFileSync(file, "utf8");
  const [before] = text.split("<!-- table -->");
  writeFileSync(file, `${before}<!-- table -->\n\n${longest}\n\n${table}\n`);
}

main().then(
  () => process.exit(),
  (error) => {
    console.error(`error: ${error.message}`);
    process.exit(2);
  },
);
