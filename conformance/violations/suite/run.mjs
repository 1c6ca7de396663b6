// Measures, judges ours, and writes the tables.
import { parseArgs } from "node:util";
import { casesOf } from "./cases.mjs";
import { control } from "./control.mjs";
import { faults, inShort, pageInShort } from "./judge.mjs";
import { measureClient, measureServer } from "./measure.mjs";
import { CLIENTS, SERVERS } from "./subjects.mjs";
import { writeTables } from "./table.mjs";

const USAGE = `usage: conformance/violations/run [--write] [--control] [NAME ...]

What do WebSocket implementations answer to each breach of RFC 6455? Without names all are measured, as servers and as
clients; with names those only, and every answer is printed. What is missing on this machine is skipped.

  --write     writes the tables of README.md
  --control   measures servers that are wrong on purpose, and fails when one is taken for right
  --help      prints this

It fails when ours answers a single case differently from cases.json.`;

const WAYS = [
  { role: "server", sender: "client", subjects: SERVERS, measure: measureServer },
  { role: "client", sender: "server", subjects: CLIENTS, measure: measureClient },
];

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { write: { type: "boolean" }, control: { type: "boolean" }, help: { type: "boolean" } },
  });
  if (values.help) return console.log(USAGE);
  if (values.control) return fail(await control(console.log));
  const wrong = [];
  const measured = [];
  for (const way of WAYS) {
    for (const subject of way.subjects.filter(({ name }) => isNamed(name, positionals))) {
      const column = await look(subject, way);
      measured.push(column);
      wrong.push(...(column.wrong ?? []));
      if (positionals.length > 0 && column.results) print(column);
    }
  }
  if (measured.length === 0) throw new Error(`nobody is called ${positionals.join(" or ")}`);
  if (values.write) writeTables(measured);
  return fail(wrong);
}

function isNamed(name, wanted) {
  return wanted.length === 0 || wanted.some((one) => name.replaceAll("`", "").toLowerCase().includes(one.toLowerCase()));
}

async function look(subject, { role, sender, measure }) {
  const column = { role, cases: casesOf(sender), ...subject };
  try {
    await subject.prepare();
    const { results, version = subject.version() } = await measure(subject);
    const wrong = subject.isOurs ? judge(subject, results, column.cases, sender) : [];
    console.log(`${subject.name} ${version} as ${role}: ${results.length} cases${subject.isOurs ? `, ${wrong.length} faults` : ""}`);
    return { ...column, results, version, wrong };
  } catch (error) {
    if (subject.isOurs) throw error;
    const why = (error.stderr || error.message).trim();
    console.log(`${subject.name} as ${role}: skipped: ${why}`);
    return { ...column, skipped: why };
  }
}

function judge({ name, speaks }, results, cases, sender) {
  return cases.flatMap((one, at) => faults(one, results[at], sender, speaks).map((fault) => `${name}: "${one.name}": ${fault}`));
}

function print({ cases, results }) {
  cases.forEach((one, at) => {
    const page = results[at].page ? `; the page: ${pageInShort(results[at])}` : "";
    console.log(`  ${one.name}: ${inShort(results[at], one.closes)}${page}`);
  });
}

function fail(sentences) {
  for (const one of sentences) console.error(one);
  if (sentences.length > 0) process.exitCode = 1;
}

main().then(
  () => process.exit(),
  (error) => {
    console.error(`error: ${error.stderr || error.message}`);
    process.exit(2);
  },
);
