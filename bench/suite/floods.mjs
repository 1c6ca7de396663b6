// `bench/floods`: builds, floods everyone with everything, judges ours, prints the table.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, release } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { CONTENDERS, target } from "./contenders.mjs";
import { BY, FLOODS, absence, faults, inShort, isOurs } from "./flood-kinds.mjs";
import { measure } from "./processes.mjs";

const HELP = `bench/floods [flood…] [options]

What one client that means harm costs a server in resident memory, how it is ended, and whether another client is still
heard. It fails when ours grows or does not hear the other one; its peers are measured, not judged.

  --by A,B       only these: ${BY.join(" ")}
  --seconds N    each flood lasts so long at most (5)
  --mib N        and sends so much at most (256)
  --no-build     measure what was built last
  --write        writes the table of bench/FLOODS.md
  --control      judges servers that are bad on purpose, and fails when one is taken for good

Floods (all):
${FLOODS.map(({ kind, title }) => `  ${kind.padEnd(16)} ${title}`).join("\n")}
`;

const bench = new URL("..", import.meta.url).pathname;
const page = join(bench, "FLOODS.md");
const BEGIN = "<!-- measured: begin -->\n";
const END = "<!-- measured: end -->";

/** Connections of the largest floods, and some. */
const FILES = 2_000;

/** Bad in its own way: what the judge has to say about it at every flood. */
const CONTROLS = {
  greedy: /it took/,
  deaf: /no echo/,
};

function options() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      by: { type: "string" },
      seconds: { type: "string", default: "5" },
      mib: { type: "string", default: "256" },
      "no-build": { type: "boolean" },
      write: { type: "boolean" },
      control: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  const by = values.by?.split(",") ?? BY;
  known("contender", by, BY);
  known("flood", positionals, FLOODS.map(({ kind }) => kind));
  const floods = FLOODS.filter(({ kind }) => positionals.length === 0 || positionals.includes(kind));
  if (values.write && (by.length < BY.length || floods.length < FLOODS.length)) throw new Error("--write takes all of them");
  return { ...values, by, floods, load: ["--seconds", values.seconds, "--mib", values.mib] };
}

function known(what, asked, there) {
  const unknown = asked.find((name) => !there.includes(name));
  if (unknown) throw new Error(`there is no ${what} ${unknown}\nhint: ${there.join(", ")}`);
}

function check() {
  if (availableParallelism() < 2) throw new Error("a core for the server and one for the flood are needed, and this machine has one");
  const files = Number(execFileSync("sh", ["-c", "ulimit -n"], { encoding: "utf8" }));
  if (files < FILES) throw new Error(`only ${files} open files are allowed\nhint: ulimit -n ${FILES}`);
}

function build() {
  const env = { ...process.env, CARGO_TARGET_DIR: target };
  const run = (command, args) => {
    if (spawnSync(command, args, { cwd: bench, env, stdio: ["ignore", 2, 2] }).status !== 0) throw new Error(`${command} could not build`);
  };
  run("cargo", ["build", "--release", "--quiet", "--locked"]);
  if (!existsSync(join(bench, "node_modules/ws"))) run("npm", ["ci", "--silent", "--no-audit", "--no-fund"]);
}

function flood({ kind, start = "limited" }, by, load, contender = CONTENDERS[by]) {
  return measure({ id: kind, start, load: () => ["flood", kind] }, by, load, contender);
}

/** Resolves to the rows of the table and to what is wrong with ours. */
async function all({ floods, by, load }) {
  const rows = [];
  const wrong = [];
  for (const one of floods) {
    const cells = [];
    for (const name of by) {
      const cell = await look(one, name, load, wrong);
      console.log(`${one.kind} · ${name}: ${cell}`);
      cells.push(cell);
    }
    rows.push([one.title, ...cells]);
  }
  return { rows, wrong };
}

async function look(one, by, load, wrong) {
  const absent = absence(one, by);
  if (absent) return absent;
  const result = await flood(one, by, load);
  if (isOurs(by)) wrong.push(...faults(one, result).map((fault) => `${CONTENDERS[by].label}: ${fault}`));
  return inShort(result);
}

/** What the judge did not notice, as sentences. */
async function control({ floods, load }) {
  const missed = [];
  for (const [name, words] of Object.entries(CONTROLS)) {
    const contender = { command: (_, port) => [process.execPath, join(bench, "node/bad.mjs"), name, String(port)] };
    for (const one of floods) {
      const result = await flood(one, name, [...load, "--patience-s", "2"], contender);
      const said = faults(one, result);
      const isNoticed = said.some((fault) => words.test(fault));
      console.log(`${one.kind} · ${name}: ${inShort(result)}${isNoticed ? "" : ", not noticed"}`);
      if (!isNoticed) missed.push(`${name}: not noticed at "${one.title}"`);
    }
  }
  return missed;
}

function write(rows) {
  const text = readFileSync(page, "utf8");
  const [start, end] = [text.indexOf(BEGIN) + BEGIN.length, text.indexOf(END)];
  const line = (cells) => `| ${cells.join(" | ")} |`;
  const table = [line(["", ...BY.map((by) => CONTENDERS[by].label)]), line(["", ...BY].map(() => "---")), ...rows.map(line)];
  writeFileSync(page, `${text.slice(0, start)}${setting()}\n\n${table.join("\n")}\n${text.slice(end)}`);
}

function setting() {
  const command = ["bench/floods", ...process.argv.slice(2)].join(" ");
  const versions = [...new Map(BY.map((by) => [by.split("-unmetered")[0], CONTENDERS[by].version()]))];
  const spoken = versions.map(([by, version]) => `${CONTENDERS[by].label} ${version}`).join(" · ");
  return `Measured on ${new Date().toISOString().slice(0, 10)} by \`${command}\`, Linux ${release()}, ${cpus().length} cores.\n${spoken}.`;
}

async function main() {
  const chosen = options();
  if (chosen.help) return process.stdout.write(HELP);
  check();
  if (!chosen["no-build"]) build();
  if (chosen.control) return fail(await control(chosen));
  const { rows, wrong } = await all(chosen);
  if (chosen.write) write(rows);
  return fail(wrong);
}

function fail(sentences) {
  for (const one of sentences) console.error(one);
  process.exitCode = sentences.length > 0 ? 1 : 0;
}

main().catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = 2;
});
