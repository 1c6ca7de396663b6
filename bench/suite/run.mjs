// `bench/run`: builds, measures in interleaved rounds, prints tables, keeps the results.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { CONTENDERS, commit, target } from "./contenders.mjs";
import { measure } from "./processes.mjs";
import { layout, rowsOf, spoken } from "./table.mjs";
import { WORKS, choose } from "./works.mjs";

const HELP = `bench/run [work…] [options]

  --rounds N     rounds, in each of which every contender has its turn (5)
  --by A,B       only these contenders: ${Object.keys(CONTENDERS).join(" ")}
  --no-build     measure what was built last
  --quick        2 rounds of half the length: to see that it works, not to quote

Works, or the beginning of their names (all):
${WORKS.map(({ id, title }) => `  ${id.padEnd(20)} ${title}`).join("\n")}
`;

const bench = new URL("..", import.meta.url).pathname;
const say = (words) => process.stderr.write(`\r\x1b[K${words}\n`);

function fail(words) {
  say(`error: ${words}`);
  process.exit(1);
}

function options() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        rounds: { type: "string" },
        by: { type: "string" },
        "no-build": { type: "boolean" },
        quick: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    });
    const rounds = Number(values.rounds ?? (values.quick ? 2 : 5));
    if (!(Number.isInteger(rounds) && rounds > 0)) throw new Error("--rounds takes a number");
    const by = values.by?.split(",");
    const unknown = by?.find((name) => !CONTENDERS[name]);
    if (unknown) throw new Error(`there is no contender ${unknown}\nhint: ${Object.keys(CONTENDERS).join(", ")}`);
    return { ...values, rounds, by, works: choose(positionals) };
  } catch (error) {
    return fail(error.message);
  }
}

function check() {
  if (availableParallelism() < 2) fail("a core for the server and one for the load are needed, and this machine has one");
  if (spawnSync("taskset", ["--version"]).error) fail("there is no taskset\nhint: apt-get install util-linux");
  const files = Number(execFileSync("sh", ["-c", "ulimit -n"], { encoding: "utf8" }));
  if (files < 19_000) fail(`only ${files} open files are allowed\nhint: ulimit -n 20000`);
}

function build() {
  const env = { ...process.env, CARGO_TARGET_DIR: target };
  const run = (what, command, args, cwd) => {
    say(`building ${what}`);
    if (spawnSync(command, args, { cwd, env, stdio: ["ignore", 2, 2] }).status !== 0) fail(`${what} could not be built`);
  };
  run("the load and the Rust peers", "cargo", ["build", "--release", "--quiet", "--locked"], bench);
  run("saywhy", "cargo", ["build", "--release", "--quiet", "--package", "saywhy-cli"], join(bench, ".."));
  if (!existsSync(join(bench, "node_modules/ws"))) {
    run("the packages of Node", "npm", ["ci", "--silent", "--no-audit", "--no-fund"], bench);
  }
}

function machine() {
  const memory = readFileSync("/proc/meminfo", "utf8").match(/MemTotal:\s+(\d+)/)[1];
  return { processor: cpus()[0].model.trim(), cores: cpus().length, memory_gib: Math.round(memory / 2 ** 20), kernel: release() };
}

/** Each contender once, another one first in each round. */
async function rounds(work, by, count, options, failures) {
  const rounds = {};
  for (let round = 0; round < count; round++) {
    const order = by.map((_, at) => by[(at + round) % by.length]);
    for (const name of order) {
      process.stderr.write(`\r\x1b[K${work.id} · round ${round + 1} of ${count} · ${name}`);
      const before = loadavg()[0];
      const result = await measure(work, name, options).catch((error) => {
        failures.push(error.message);
        say(`error: ${error.message}`);
      });
      if (!result) continue;
      if (result.failed > 0) {
        failures.push(`${work.id} by ${name}: ${result.failed} of ${result.attempts}: ${JSON.stringify(result.failures)}`);
        say(`error: ${failures.at(-1)}`);
      }
      (rounds[name] ??= []).push({ round, load_average: before, ...result });
    }
  }
  process.stderr.write("\r\x1b[K");
  return rounds;
}

function show(measured) {
  const table = rowsOf(measured);
  const lines = layout(table, (by) => CONTENDERS[by].label);
  const widths = lines[0].map((_, at) => Math.max(...lines.map((line) => line[at].length)));
  const words = (line) => line.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at]))).join("  ");
  console.log(`${table.work.title} (${table.work.id})`);
  for (const line of lines) console.log(`  ${words(line)}`);
  for (const one of table.verdict) console.log(`  → ${spoken(one)}`);
  console.log();
}

const chosen = options();
if (chosen.help) {
  process.stdout.write(HELP);
  process.exit(0);
}
check();
if (!chosen["no-build"]) build();
mkdirSync(join(bench, "results"), { recursive: true });

const started = new Date();
const failures = [];
const measured = [];
for (const work of chosen.works) {
  const asked = work.by.filter((by) => !chosen.by || chosen.by.includes(by));
  const by = asked.filter((by) => CONTENDERS[by].isThere?.() ?? true);
  for (const absent of asked.filter((name) => !by.includes(name))) {
    say(`${work.id}: without ${absent}, which is not installed\nhint: ${CONTENDERS[absent].hint}`);
  }
  if (by.length === 0) continue;
  // The window of memory is not one of time.
  const short = chosen.quick && work.metric !== "bytes" ? ["--cpu-ms", "500", "--warm-up-ms", "200"] : [];
  const one = { work: work.id, by, rounds: await rounds(work, by, chosen.rounds, short, failures) };
  if (Object.keys(one.rounds).length === 0) continue;
  measured.push(one);
  show(one);
}

const names = new Set(measured.flatMap(({ by }) => by));
const result = {
  command: ["bench/run", ...process.argv.slice(2)].join(" "),
  started: started.toISOString(),
  took_s: Math.round((Date.now() - started) / 1_000),
  rounds: chosen.rounds,
  commit: commit(),
  machine: machine(),
  versions: Object.fromEntries([...names].map((name) => [name, CONTENDERS[name].version()])),
  failures,
  measured,
};
const file = join(bench, "results", `${started.toISOString().slice(0, 19).replaceAll(":", "-")}.json`);
writeFileSync(file, `${JSON.stringify(result, null, 1)}\n`);
console.log(`${result.took_s} s; results in bench/results/${file.split("/").pop()}; bench/report makes tables of them`);
if (failures.length > 0) fail(`${failures.length} measurements failed`);
