// `saywhy fault` for a test, and the session that every fault is shown in.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { call, jsonLines } from "./client.mjs";
import { soon } from "./pages.mjs";

const binary = process.env.SAYWHY_BIN ?? fileURLToPath(new URL("../../target/debug/saywhy", import.meta.url));

/** Runs `saywhy` to its end: { code, stdout, stderr }. */
export async function run(...args) {
  const child = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"] });
  const out = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"]) child[name].setEncoding("utf8").on("data", (text) => (out[name] += text));
  const [code] = await once(child, "close");
  return { code, ...out };
}

/**
 * Starts a proxy in front of `upstream` for the test `t`, with these faults, and waits until it is ready; with the `seed` null it has to find one. Resolves to
 * { url, seed, log(): lines of stderr, api(method, path, body), faults(): what was done so far, without its time,
 * connections(), told(fault): resolves when it was done, ended(count): resolves when so many connections are over, stop() }.
 */
export async function startFault(t, upstream, { faults = [], seed = 7, args = [], env = {} } = {}) {
  const child = spawn(binary, [
    ...["fault", "--upstream", upstream, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--log-format", "json"],
    ...[...(seed === null ? [] : ["--seed", String(seed)]), ...faults.flatMap((fault) => ["--fault", fault]), ...args],
  ], { env: { ...process.env, ...env } });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
  const exited = once(child, "close");
  const abandon = () => child.kill("SIGKILL");
  process.on("exit", abandon);
  let stopped;
  const stop = () => (stopped ??= child.kill("SIGINT") && exited.then(([code]) => code));
  t.after(async () => {
    const code = await stop();
    process.off("exit", abandon);
    if (code !== 0) throw new Error(`saywhy fault ended with ${code}: ${stderr}`);
    if (/panicked/.test(stderr)) throw new Error(stderr);
  });

  const said = {};
  const ready = new Promise((resolve) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const [key, value] = line.split(" ");
      if (key === "ready") resolve();
      else said[key] = value;
    });
  });
  await Promise.race([ready, exited.then(() => Promise.reject(new Error(`saywhy fault is not ready: ${stderr}`)))]);

  const api = (method, path, body) => call(said.control + path, method, body === undefined ? body : JSON.stringify(body));
  const events = async () => jsonLines(await (await fetch(`${said.control}/events`)).text());
  return {
    url: said.listening,
    control: said.control,
    seed: said.seed,
    log: () => jsonLines(stderr),
    api,
    stop,
    events,
    faults: async () => (await events()).filter(({ event }) => event === "fault").map(({ at_ms, seq, ...fault }) => fault),
    connections: async () => (await api("GET", "/connections")).body.connections,
    told: (text) => soon(async () => (await events()).find(({ fault }) => fault === text), `${text} was done`),
    ended: (count) =>
      soon(async () => (await events()).filter(({ event }) => event === "ended").length >= count, `${count} connections over`),
  };
}

/**
 * The session that faults are shown in, for a page or for Node with a `WebSocket` of its own. When it is ready it sends
 * 1, 2 and 3, and hears each back. Then it closes with 1000; with `stays` it does not.
 *
 * `three` resolves when three were heard, `over` at its end; `more()` sends a fourth; `seen()` says what was seen so far: what was
 * heard, "?" for what nobody sent, and the code and reason of the end; "still open" when the fourth was heard, too, else "nothing".
 *
 * Its source is sent to the page, so it must not use anything from outside its own body.
 */
export function playFault({ url, protocols, stays }) {
  const socket = new WebSocket(url, protocols);
  const heard = [];
  let ending;
  let status = "";
  let gotThree;
  const three = new Promise((resolve) => (gotThree = resolve));
  const ask = (request_id) => socket.send(JSON.stringify({ type: "ping", meta: { request_id } }));
  const word = (data) => {
    try {
      const { type, meta } = JSON.parse(data);
      if (["ready", "error", "goodbye"].includes(type)) return undefined;
      if (type === "pong" && /^([1-4]|end)$/.test(meta.request_id)) return meta.request_id;
    } catch {
      // It is not what was sent.
    }
    return "?";
  };
  socket.onmessage = ({ data }) => {
    if (data.startsWith('{"type":"ready"')) {
      ["1", "2", "3", ...(stays ? [] : ["end"])].forEach(ask);
      return;
    }
    const said = word(data);
    if (said === "end") {
      if (socket.readyState === 1) socket.close(1000);
    } else if (said) {
      heard.push(said);
      if (said === "3") gotThree();
    }
  };
  socket.onerror = ({ message }) => {
    const refused = /Unexpected server response: (\d+)/.exec(message ?? "");
    if (refused) status = `HTTP ${refused[1]}, `;
  };
  const over = new Promise((resolve) => {
    socket.onclose = ({ code, reason }) => {
      ending = `${status}${code}${reason && ` ${reason}`}`;
      resolve();
    };
  });
  const soFar = () => ending ?? (heard.includes("4") ? "still open" : "nothing");
  const seen = () => [heard.join(" "), soFar()].filter(Boolean).join(", ");
  return { three, over, more: () => ask("4"), seen };
}
