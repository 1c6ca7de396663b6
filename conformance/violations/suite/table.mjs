// The tables of README.md, between its markers.
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { KINDS, inShort, isBreach, isTaken, kindOf, pageInShort } from "./judge.mjs";

const README = new URL("../README.md", import.meta.url);
const BEGIN = "<!-- measured: begin -->\n";
const END = "<!-- measured: end -->";

export function writeTables(columns) {
  const text = readFileSync(README, "utf8");
  const [start, end] = [text.indexOf(BEGIN) + BEGIN.length, text.indexOf(END)];
  writeFileSync(README, text.slice(0, start) + tables(columns) + text.slice(end));
}

function tables(columns) {
  const there = columns.filter(({ results }) => results);
  const as = (role) => there.filter((column) => column.role === role);
  const day = new Date().toISOString().slice(0, 10);
  const skipped = columns.filter((column) => column.skipped).map(({ name, role }) => `${name} as ${role}`);
  return [
    `Measured on ${day} by \`conformance/violations/run --write\`, Node ${process.versions.node}, Linux ${release()}, ${cpus().length} cores.`,
    ...(skipped.length > 0 ? [`Not there: ${skipped.join(", ")}.`] : []),
    "\n### In short\n",
    summary(there),
    "\n### Servers, and what they answer to a client\n",
    answers(as("server")),
    "\n### Clients, and what they answer to a server\n",
    answers(as("client")),
    "",
  ].join("\n");
}

/** How often each gave which kind of answer. */
function summary(columns) {
  const rows = columns.map(({ name, role, version, cases, results }) => {
    const breaches = cases.flatMap((one, at) => (isBreach(one) ? [{ one, seen: results[at] }] : []));
    const counts = KINDS.map((kind) => breaches.filter(({ seen }) => kindOf(seen) === kind).length);
    const other = breaches.filter(({ one, seen }) => seen.close && seen.close.code !== one.answer.code).length;
    const hasty = breaches.filter(({ one, seen }) => seen.close && !one.closes && seen.end).length;
    const legal = cases.flatMap((one, at) => (isBreach(one) ? [] : [isTaken(one, results[at])]));
    return [name, role, version, ...counts, other, hasty, `${legal.filter(Boolean).length} of ${legal.length}`];
  });
  const head = ["", "as", "version", ...KINDS, "another code than ours", "does not wait for a Close", "legal cases taken as such"];
  return table(head, rows, 3);
}

/** A row for each case, a column for each subject, and one more for what a page sees. */
function answers(columns) {
  const head = ["", "RFC 6455", ...columns.flatMap(({ name, browser }) => (browser ? [name, "its page"] : [name]))];
  const rows = columns[0].cases.map((one, at) => [
    one.name,
    `§${one.section}`,
    ...columns.flatMap(({ results, browser }) => {
      const answer = inShort(results[at], one.closes);
      return browser ? [answer, pageInShort(results[at])] : [answer];
    }),
  ]);
  return table(head, rows, head.length);
}

function table(head, rows, texts) {
  const line = (cells) => `| ${cells.map((cell) => String(cell).replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map((_, at) => (at < texts ? "---" : "--:"))), ...rows.map(line)].join("\n");
}
