import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const START_LIMIT_MS = 20_000;
const STOP_LIMIT_MS = 10_000;
const builtBinary = fileURLToPath(new URL("../../target/debug/saywhy", import.meta.url));

// No server may outlive its test, however the test ends. A signal by itself ends Node without an "exit" event.
const running = new Set();
process.on("exit", () => running.forEach((abandon) => abandon()));
for (const [signal, number] of [["SIGHUP", 1], ["SIGINT", 2], ["SIGTERM", 15]]) {
  process.once(signal, () => process.exit(128 + number));
}

/** Certificates of localhost that the tests of the configuration have too. No browser takes them without being told to. */
export const certificates = fileURLToPath(new URL("../../crates/cli/tests/config/tls/", import.meta.url));

/**
 * Starts `saywhy serve` on free ports, or on the one that another had, over TLS if `tls` is set, with the certificate in that folder or one of ours, with `config` (TOML text) as its `--config` file, and waits until it is ready.
 * Resolves to { page, routes: [ws URL], api, apiKey, file: that of its configuration, pid, log(): stderr so far, exited: Promise<{code, signal}>,
 * stop(signal = "SIGINT"): Promise<{code, signal}> }.
 */
export async function startServer({ args = [], env = {}, config, tls = false, port = 0 } = {}) {
  const directory = config === undefined ? undefined : mkdtempSync(join(tmpdir(), "saywhy-test-"));
  const command = ["serve", "--listen", `127.0.0.1:${port}`, "--api-listen", "127.0.0.1:0"];
  const file = directory && join(directory, "saywhy.toml");
  if (file) {
    writeFileSync(file, config);
    command.push("--config", file);
  }
  const folder = tls === true ? certificates : tls;
  if (folder) command.push("--tls-cert", join(folder, "certificate.pem"), "--tls-key", join(folder, "key.pem"));
  const child = spawn(process.env.SAYWHY_BIN ?? builtBinary, [...command, ...args], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const removeConfig = () => directory && rmSync(directory, { recursive: true, force: true });
  const abandon = () => {
    child.kill("SIGKILL");
    removeConfig();
  };
  running.add(abandon);

  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));

  let spawnError;
  child.on("error", (error) => (spawnError = error));
  // "close" rather than "exit": only then is all of stderr in. It also comes after a failed spawn.
  const exited = new Promise((resolve) => {
    child.on("close", (code, signal) => {
      running.delete(abandon);
      removeConfig();
      resolve({ code, signal });
    });
  });

  const stop = (signal = "SIGINT") => {
    child.kill(signal);
    return within(STOP_LIMIT_MS, exited, () => {
      child.kill("SIGKILL");
      return `saywhy did not stop on ${signal}`;
    });
  };
  const within = async (ms, promise, onTimeout) => {
    let timer;
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(failure(`${onTimeout()} within ${ms / 1000} s`)), ms);
    });
    return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
  };
  const failure = (what) => new Error(`${what}; its stderr:\n${stderr || "(nothing)"}`);

  const diedEarly = exited.then(({ code, signal }) => {
    if (spawnError) throw new Error(`cannot run saywhy (cargo build, or set SAYWHY_BIN): ${spawnError.message}`);
    throw failure(`saywhy ended (${signal ?? `exit code ${code}`}) before it was ready`);
  });
  diedEarly.catch(() => {}); // once ready, its end is no longer an error

  const announced = await within(START_LIMIT_MS, Promise.race([readAnnouncement(child.stdout), diedEarly]), () => {
    child.kill("SIGKILL");
    return "saywhy was not ready";
  });
  return { ...announced, file, pid: child.pid, log: () => stderr, exited, stop };
}

/** The lines `key value` up to `ready`; the rest of stdout is read and dropped, so that the server never blocks on it. */
function readAnnouncement(stdout) {
  const announced = { page: undefined, routes: [], api: undefined, apiKey: undefined };
  return new Promise((resolve) => {
    createInterface({ input: stdout }).on("line", (line) => {
      const [key, ...rest] = line.split(" ");
      const value = rest.join(" ");
      if (key === "page") announced.page = value;
      else if (key === "route") announced.routes.push(value);
      else if (key === "api") announced.api = value;
      else if (key === "api-key") announced.apiKey = value;
      else if (line === "ready") resolve(announced);
    });
  });
}
