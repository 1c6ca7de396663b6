// `bench/report`: from results to the tables of SUITE.md and to plots.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CONTENDERS } from "./contenders.mjs";
import { plot } from "./plot.mjs";
import { digits, layout, quotient, rowsOf, spoken } from "./table.mjs";

const bench = new URL("..", import.meta.url).pathname;
const MARKS = ["<!-- results: made by bench/report -->", "<!-- /results -->"];

const GROUPS = [
  { id: "echo", title: "Echo" },
  { id: "refusal", title: "Refusals" },
  { id: "rooms", title: "Rooms" },
  { id: "relay", title: "Relaying to a back end" },
  { id: "idle", title: "Memory of idle connections" },
  { id: "growth", title: "Growth" },
];

const label = (by) => CONTENDERS[by].label;

function newest() {
  const all = readdirSync(join(bench, "results")).filter((file) => file.endsWith(".json")).sort();
  if (all.length === 0) throw new Error("there are no results\nhint: bench/run");
  return [join(bench, "results", all.at(-1))];
}

/** Of several files the later one counts where both have a work. */
function read(files) {
  const found = new Map();
  for (const file of files) {
    const result = JSON.parse(readFileSync(file, "utf8"));
    for (const measured of result.measured) found.set(measured.work, { result, table: rowsOf(measured) });
  }
  return found;
}

function markdown(lines) {
  const row = (cells) => `| ${cells.join(" | ")} |`;
  const [heads, ...rows] = lines;
  return [row(heads), `|${heads.map((_, at) => (at === 0 ? "---" : "--:")).join("|")}|`, ...rows.map(row)].join("\n");
}

const QUANTITIES = { bytes: "bytes per connection", growth: "ratio", latency: "µs for a round trip" };

function section({ id, title }, found) {
  const here = [...found].filter(([work]) => work === id || work.startsWith(`${id}-`)).map(([, one]) => one);
  if (here.length === 0) return "";
  const panels = here.map(({ table: { work, rows } }) => ({
    title: work.title,
    quantity: QUANTITIES[work.metric] ?? `CPU µs per ${work.unit}`,
    bars: rows.map((row) => ({
      label: label(row.by),
      value: row.median,
      min: row.min,
      max: row.max,
      shown: work.metric === "growth" ? quotient(row.median) : digits(row.median),
      isOurs: row.isOurs,
    })),
  }));
  mkdirSync(join(bench, "plots"), { recursive: true });
  writeFileSync(join(bench, "plots", `${id}.svg`), plot(panels));
  const tables = here.map(({ table, result }) => {
    const bold = (line, at) => (table.rows[at].isOurs ? line.map((cell) => cell && `**${cell}**`) : line);
    const [heads, ...lines] = layout(table, label);
    const words = table.verdict.map((one) => `- ${spoken({ ...one, who: label(one.who) })}`).join("\n");
    const made = `\`bench/run ${table.work.id}\`, ${result.rounds} rounds, ${result.started.slice(0, 10)}, commit \`${result.commit}\``;
    return `**${table.work.title}.** ${table.work.says}\n\n${markdown([heads, ...lines.map(bold)])}\n\n${words && `${words}\n\n`}${made}\n`;
  });
  return `### ${title}\n\n![${title}](plots/${id}.svg)\n\n${tables.join("\n")}`;
}

function setting(found) {
  const results = [...new Set([...found.values()].map(({ result }) => result))];
  const { machine } = results.at(-1);
  const versions = Object.assign({}, ...results.map(({ versions }) => versions));
  const load = [...found.values()].flatMap(({ result }) => result.measured.flatMap(({ rounds }) => Object.values(rounds).flat()));
  const busy = load.map(({ load_average }) => load_average).sort((a, b) => a - b);
  const peers = Object.entries(versions).filter(([by]) => !by.startsWith("saywhy"));
  return `${machine.processor}, ${machine.cores} cores, ${machine.memory_gib} GiB, Linux ${machine.kernel}. ${peers
    .map(([by, version]) => `${label(by)} ${version}`)
    .join(" · ")}. The load average of the machine while this was measured: ${busy[0].toFixed(1)} to ${busy.at(-1).toFixed(1)}; what is above 2 were others.`;
}

try {
  const files = process.argv.slice(2);
  const found = read(files.length > 0 ? files : newest());
  const text = [setting(found), ...GROUPS.map((group) => section(group, found)).filter(Boolean)].join("\n\n");
  const page = join(bench, "SUITE.md");
  const [before, rest] = readFileSync(page, "utf8").split(MARKS[0]);
  const after = rest.split(MARKS[1])[1];
  writeFileSync(page, `${before}${MARKS[0]}\n\n${text.trim()}\n\n${MARKS[1]}${after}`);
  console.log("wrote bench/SUITE.md and bench/plots");
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exit(1);
}
