// The retry machine in Python against the vectors, and the example that it is for against the real server.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { once } from "node:events";
import { createInterface } from "node:readline";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { call, serve } from "./support/client.mjs";

const folder = fileURLToPath(new URL("../clients/python/", import.meta.url));
const python = fileURLToPath(new URL("../target/backends/python/bin/python", import.meta.url));

test("the machine in Python passes the vectors, which find a wrong one", async () => {
  const { stderr } = await promisify(execFile)("python3", ["-B", "-m", "unittest", "--verbose"], { cwd: folder });
  assert.match(stderr, /test_every_vector .* ok\n/);
  assert.match(stderr, /test_a_wrong_machine_is_found .* ok\n/);
});

/** The example, and what it prints: `says(pattern)` resolves to the match in the next line that has one. */
function start(t, server) {
  assert.ok(existsSync(python), "there is no Python with websockets: run scripts/setup");
  const child = spawn(python, ["-B", `${folder}example.py`, server.url, "lobby", "alice"], { stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => child.kill("SIGKILL"));
  const exited = once(child, "exit");
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (complaint += text));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const says = async (pattern) => {
    const before = [];
    for (;;) {
      const { done, value } = await lines.next();
      if (done) throw new Error(`it ended before it said ${pattern}; it said ${before.join(" / ")}\n${complaint}`);
      const match = pattern.exec(value);
      if (match) return match;
      before.push(value);
    }
  };
  return { says, exited };
}

test("the example comes back as it is told, misses nothing, and stops when it is told to", async (t) => {
  const server = await serve(t);
  const bob = await server.open("bob");
  await bob.ok("join", { room: "lobby" });
  const alice = start(t, server);
  const [, connection_id] = await alice.says(/^ready: alice, (\w{32})$/);
  await alice.says(/^joined: lobby$/);
  await bob.ok("send", { room: "lobby", body: "one" });
  await alice.says(/^bob: "one"$/);

  const hint = { connection_id, retry_after_ms: 300, spread_ms: 100 };
  assert.equal((await call(new URL("dev/restart", server.page), "POST", hint)).status, 204);
  const [, id, delay_ms] = await alice.says(/^service_restart: The service is restarting \((\w{32})\); attempt 1 in (\d+) ms$/);
  assert.equal(id, connection_id);
  assert.ok(delay_ms >= 300 && delay_ms <= 400, delay_ms);
  await bob.ok("send", { room: "lobby", body: "two" });
  const [, again] = await alice.says(/^ready: alice, (\w{32})$/);
  assert.notEqual(again, connection_id);
  await alice.says(/^bob: "two"$/);

  assert.equal((await server.api("DELETE", `/connections/${again}`, { message: "Enough" })).status, 204);
  await alice.says(new RegExp(`^kicked: Enough \\(${again}\\); not trying again$`));
  assert.deepEqual(await alice.exited, [1, null]);
});

test("the example takes a server that is gone for what it is, and finds the next one", async (t) => {
  const first = await serve(t);
  const alice = start(t, first);
  await alice.says(/^joined: lobby$/);
  await first.stop("SIGKILL");
  await alice.says(/^The connection was lost; attempt 1 in \d+ ms$/);
  await serve(t, { port: new URL(first.url).port });
  // In development mode each server has a key of its own, and its rooms begin anew.
  await alice.says(/^unauthorized: .* \(\w{32}\); asking for a new token$/);
  await alice.says(/^ready: alice/);
  await alice.says(/^history_lost: .* \(join\)$/);
  await alice.says(/^joined: lobby$/);
});
