// Ports of servers that are not ours, which cannot say by themselves when they listen.
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const LIMIT_MS = 30_000;

/** A port of this machine that nobody listens on. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  await promisify(server.close.bind(server))();
  return port;
}

/** Resolves when someone listens on `port`. */
export async function listening(port) {
  for (const start = performance.now(); performance.now() - start < LIMIT_MS; await sleep(20)) {
    const socket = connect(port, "127.0.0.1");
    const isThere = await new Promise((resolve) => socket.once("connect", () => resolve(true)).once("error", () => resolve(false)));
    socket.destroy();
    if (isThere) return;
  }
  throw new Error(`nobody listens on port ${port}`);
}
