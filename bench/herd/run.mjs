// `bench/herd/run`: what a crowd of clients does to a server that restarts, or that says no. Writes HERD.md and plots/herd.svg.
//
// Nothing is measured here: time is a number, every draw comes from a seed, and each run writes the same.
import { existsSync, writeFileSync } from "node:fs";
import { histograms } from "./plot.mjs";
import { seeded } from "../../clients/typescript/tests/support/generator.mjs";

const CLIENTS = 10_000;
const BIN_MS = 100;
/** Up to here come the slowest. */
const SHOWN_MS = 18_000;
/** `drain.window_ms`, and the second before it. */
const WINDOW_MS = 10_000;
const FIRST_MS = 1_000;

const STORM_CLIENTS = 1_000;
const STORM_MS = 20_000;
/** From one connection's beginning to its Close. */
const CONNECTION_MS = 10;
const REFUSALS = [4_401, 1_011, 1_013];
/** What a client of ours must not exceed where it is told no. */
const MOST = 5;

const bench = new URL("../", import.meta.url);
const dist = new URL("../clients/typescript/dist/retry.js", bench);

function main() {
  if (!existsSync(dist)) throw new Error("the client is not built\nhint: npm --prefix clients/typescript run build");
  return import("./policies.mjs").then(({ POLICIES }) => {
    const [ours, ...others] = POLICIES;
    const herds = [
      { name: `${ours.name}, goodbye`, policy: ours, code: 1_012, hints: hints(), rule: "a time of its own, which the server says" },
      { name: `${ours.name}, Close 1012`, policy: ours, code: 1_012, rule: "1 s + up to 5 s, what its row has" },
      { name: `${ours.name}, no word`, policy: ours, code: 1_006, rule: "full jitter from 1 s, × 2, up to 30 s" },
      ...others.map((policy) => ({ name: policy.name, policy, code: 1_006, rule: policy.rule })),
    ].map((herd) => ({ ...herd, ...returns(herd) }));
    const storms = POLICIES.map((policy) => ({ policy, of: REFUSALS.map((code) => storm(policy, code)) }));
    const worst = storms[0].of[0].most;
    if (worst > MOST) throw new Error(`a client of ours connects ${worst} times to a server that says no`);
    writeFileSync(new URL("plots/herd.svg", bench), plot(herds));
    writeFileSync(new URL("HERD.md", bench), page(herds, storms));
    console.log("wrote bench/HERD.md and bench/plots/herd.svg");
  });
}

/** What a drain tells each of them: a place of its own in the window, drawn at random (PROTOCOL.md, section 11). */
function hints() {
  const random = seeded(1);
  const places = Array.from({ length: CLIENTS }, (_, place) => place);
  for (let at = CLIENTS - 1; at > 0; at -= 1) {
    const other = Math.floor(random() * (at + 1));
    [places[at], places[other]] = [places[other], places[at]];
  }
  const share = WINDOW_MS / CLIENTS;
  return places.map((place) => ({ code: 1_012, name: "service_restart", retry: "after", retryAfterMs: FIRST_MS + place * share, spreadMs: share }));
}

/** When each of a crowd comes back that has lost its sessions at the same moment. */
function returns({ policy, code, hints = [] }) {
  const times = Array.from({ length: CLIENTS }, (_, at) => policy.make(seeded(at)).again({ code, lasted: true, said: hints[at] }));
  const counts = Array(SHOWN_MS / BIN_MS).fill(0);
  for (const time of times) counts[Math.floor(time / BIN_MS)] += 1;
  return { counts, peak: Math.max(...counts), lastMs: Math.max(...times) };
}

/** How often each client connects to a server that accepts, and closes with that code before it has said anything. */
function storm({ make }, code) {
  const each = Array.from({ length: STORM_CLIENTS }, (_, at) => {
    const client = make(seeded(at));
    let count = 1;
    for (let now = CONNECTION_MS; ; now += CONNECTION_MS) {
      const delayMs = client.again({ code, lasted: false });
      if (delayMs === undefined || (now += delayMs) >= STORM_MS) return count;
      count += 1;
    }
  });
  return { mean: each.reduce((sum, one) => sum + one, 0) / STORM_CLIENTS, most: Math.max(...each) };
}

function plot(herds) {
  const rows = herds.map(({ name, counts, policy }) => ({ label: name, counts, isOurs: policy.isOurs }));
  const shape = { bins: SHOWN_MS / BIN_MS, secondsPerBin: BIN_MS / 1_000, rows };
  return histograms(`${number(CLIENTS)} clients after a restart`, `in each ${BIN_MS} ms, logarithmic; right: the most`, shape);
}

function page(herds, storms) {
  const herdRows = herds.map(({ name, peak, lastMs, policy, rule }) =>
    strong(policy, [name, number(peak), lastMs < BIN_MS ? "at once" : `${(lastMs / 1_000).toFixed(1)} s`, rule]));
  const stormRows = storms.map(({ policy, of }) =>
    strong(policy, [policy.name, ...of.map(({ mean, most }) => (most === Math.round(mean) ? number(most) : `${mean.toFixed(1)} (${number(most)})`))]));
  return `# Herds and storms

What clients do to a server that restarts, and to one that says no: ours next to what others do by default, as their own
sources have it. Made by \`bench/herd/run\`; do not edit. Nothing is measured: the clients are simulated, ours by its own
retry machine, on a clock that is a number, with draws that come from a seed.

## A restart

${number(CLIENTS)} clients lose their sessions at the same moment, and there is a server to come back to.

![When they come back](plots/herd.svg)

${table(["client", `most in ${BIN_MS} ms`, "all are back after", "by default"], "|---|--:|--:|---|", herdRows)}

- *Goodbye*: each was told a time of its own within ${WINDOW_MS / 1_000} s, as a [drain](../PROTOCOL.md#draining) does it. The server chooses
  how many come at once; a client's own rule cannot, since it does not know how many there are.
- *No word* is what a crash looks like. There is nothing to know then but that others were hit too: a wait that is drawn
  is all that can be done, and a longer one costs whoever was alone.

## A storm

Connections of one client within ${STORM_MS / 1_000} s to a server that accepts each, and closes it with this code before it has said anything;
the mean of ${number(STORM_CLIENTS)} clients, and the most. A connection takes ${CONNECTION_MS} ms.

${table(["client", ...REFUSALS.map((code) => `Close ${code}`)], `|---|${"--:|".repeat(REFUSALS.length)}`, stormRows)}

4401 is what many a server means by "not signed in"; to try again is of no use. 1011 and 1013 are "our mistake" and "later". Socket.IO
goes on waiting for its own handshake, 20 s, and SignalR does not try again when the first attempt fails.

## Where it was read

${table(["client", "package, version, file"], "|---|---|", storms.map(({ policy: { name, source } }) => [name, source]))}
`;
}

const number = (value) => value.toLocaleString("en");
const strong = ({ isOurs }, cells) => (isOurs ? cells.map((cell) => `**${cell}**`) : cells);
const table = (heads, rule, rows) => [heads, ...rows].map((cells) => `| ${cells.join(" | ")} |`).toSpliced(1, 0, rule).join("\n");

main().catch((error) => {
  console.error(`error: ${error.message}`);
  process.exit(1);
});
