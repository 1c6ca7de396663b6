// Where the client has to run, and how a scenario is played there. Each is `{ name, missing, start() }`.
//
// `missing` says what is not installed, and how it would be. `start` resolves to `{ play(t, scenario), stop() }`, and `play` to
// `undefined`, or to why it did not hold.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { browsers } from "../browsers.mjs";
import { SCENARIOS } from "./scenarios.mjs";
import { setStage } from "./stage.mjs";

const LIMIT_MS = 50_000;
const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const program = (name, path, ...args) => {
  const file = here(`node_modules/${path}`);
  return {
    name,
    missing: existsSync(file) ? undefined : `there is no ${name}: npm --prefix tests/support/runtimes ci, on Linux and x64`,
    async start() {
      return {
        async play(t, scenario) {
          const { stage } = await setStage(t, SCENARIOS[scenario]?.server);
          const command = [...args, here("run.mjs"), stage, scenario];
          const { stdout } = await promisify(execFile)(file, command, { timeout: LIMIT_MS, killSignal: "SIGKILL" });
          return JSON.parse(stdout).why;
        },
        stop() {},
      };
    },
  };
};

const browser = ({ name, launch }, { isWorker = false, hasHands = false } = {}) => ({
  name: isWorker ? `${name}, in a worker` : name,
  missing: undefined,
  async start() {
    const running = await launch();
    return {
      async play(t, scenario) {
        const { stage, restart } = await setStage(t, SCENARIOS[scenario]?.server);
        const context = await running.newContext();
        t.after(() => context.close());
        const page = await context.newPage();
        if (hasHands) {
          await page.exposeFunction("cable", async (command, hint) => {
            await context.setOffline(command === "pull");
            if (command === "pull") await restart(hint);
          });
          await page.exposeFunction("tab", await handOn(page));
        }
        await page.goto(stage);
        return page.evaluate(isWorker ? inWorker : inPage, { name: scenario, stage });
      },
      stop: () => running.close(),
    };
  },
});

/** Sent to the page, like the next one. */
const inPage = async ({ name, stage }) =>
  (await import("/tests/support/runtimes/scenarios.mjs")).play(name, stage, globalThis);

const inWorker = (scenario) =>
  new Promise((resolve, reject) => {
    const worker = new Worker("/tests/support/runtimes/worker.mjs", { type: "module" });
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
    worker.postMessage(scenario);
  });

/** What hides a page of Chromium from its user, and from its timers. Without it Playwright keeps every page in front. */
async function handOn(page) {
  // There is no public way to the session that keeps it there; the exact version pin keeps this one valid.
  const session = page._connection.toImpl(page).delegate._mainFrameSession._client;
  await session.send("Emulation.setFocusEmulationEnabled", { enabled: false });
  const hand = {
    hide: async () => (await page.context().newPage()).bringToFront(),
    show: () => page.bringToFront(),
    async nap() {
      for (const state of ["frozen", "active"]) await session.send("Page.setWebLifecycleState", { state });
    },
  };
  return async (command) => void (await hand[command]());
}

const [chromium, firefox] = ["chromium", "firefox"].map((name) => browsers.find((one) => one.name === name));

export const runtimes = [
  ...(chromium ? [browser(chromium, { hasHands: true }), browser(chromium, { isWorker: true })] : []),
  ...(firefox ? [browser(firefox)] : []),
  program("Node 20", "node-20/bin/node"),
  program("Node 24", "node-24/bin/node"),
  program("Deno", "@deno/linux-x64-glibc/deno", "run", "--quiet", "--no-config", "--no-lock", "--allow-net=127.0.0.1", "--allow-env"),
  program("Bun", "@oven/bun-linux-x64/bin/bun"),
];
