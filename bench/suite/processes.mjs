// Starting a server on the first core and the load on the second, and ending both whatever happens.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { freePort, listening } from "../../tests/support/ports.mjs";
import { CONTENDERS, load } from "./contenders.mjs";

const LOAD_LIMIT_MS = 180_000;

// No server may outlive this, however it ends. A signal by itself ends Node without an "exit" event.
const running = new Set();
process.on("exit", () => running.forEach((end) => end()));
for (const [signal, number] of [["SIGHUP", 1], ["SIGINT", 2], ["SIGTERM", 15]]) {
  process.once(signal, () => process.exit(128 + number));
}

/** What the load says of one contender at one work; `by` is its name. */
export async function measure(work, by, options = [], contender = CONTENDERS[by]) {
  const folder = mkdtempSync(join(tmpdir(), "saywhy-bench-"));
  const port = await freePort();
  // What a proxy stands in front of shares the core of the load: its work is not the proxy's.
  const behind = work.start === "relay" ? await startEcho() : undefined;
  const command = contender.command(work.start, port, folder, behind?.port);
  const server = spawn("taskset", ["-c", "0", ...command], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  server.stderr.setEncoding("utf8").on("data", (text) => (said = (said + text).slice(-4_000)));
  const end = () => {
    // nginx's worker ends with its master only when that is asked, not when it is killed.
    server.kill(by === "nginx" ? "SIGTERM" : "SIGKILL");
    behind?.end();
    rmSync(folder, { recursive: true, force: true });
  };
  running.add(end);
  const ended = once(server, "exit");
  try {
    await Promise.race([listening(port), ended.then(() => Promise.reject(new Error("the server ended at once")))]);
    const args = [...work.load(by), "--address", `127.0.0.1:${port}`, "--pid", String(server.pid), ...options];
    const { stdout } = await promisify(execFile)("taskset", ["-c", "1", load, ...args], { timeout: LOAD_LIMIT_MS });
    return JSON.parse(stdout);
  } catch (error) {
    throw new Error(`${work.id} by ${by}: ${(error.stderr || error.message).trim()}${said && `\n${said.trim()}`}`);
  } finally {
    end();
    await ended.catch(() => {});
    running.delete(end);
  }
}

async function startEcho() {
  const port = await freePort();
  const server = spawn("taskset", ["-c", "1", ...CONTENDERS.saywhy.command("echo", port)], { stdio: "ignore" });
  await listening(port);
  return { port, end: () => server.kill("SIGKILL") };
}
