// Starting peers, and ending them whatever happens.
import { spawn } from "node:child_process";
import { freePort, listening } from "../../../tests/support/ports.mjs";

// A signal by itself ends Node without an "exit" event.
const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));
for (const [signal, number] of [["SIGHUP", 1], ["SIGINT", 2], ["SIGTERM", 15]]) {
  process.once(signal, () => process.exit(128 + number));
}

/** Starts a program; said() is what it wrote to stderr, `exited` resolves to how it ended. */
export function start([program, ...args], options = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"], ...options });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (said = (said + text).slice(-4_000)));
  running.add(child);
  const exited = new Promise((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("exit", (code, signal) => resolve(`it ended with ${signal ?? code}`));
  });
  exited.then(() => running.delete(child));
  const end = () => {
    child.kill("SIGKILL");
    return exited;
  };
  return { said: () => said.trim(), exited, end };
}

/** Starts a server by the command that `command` makes of a free port; resolves to { port, end() } when it listens. */
export async function startServer(command) {
  const port = await freePort();
  const server = start(command(port));
  const early = server.exited.then((why) => Promise.reject(new Error(`${why}: ${server.said()}`)));
  early.catch(() => {}); // once it listens, its end is no error
  await Promise.race([listening(port), early]);
  return { port, end: server.end };
}
