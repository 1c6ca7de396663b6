// From results to rows: medians, spreads and ratios.
import { WORKS, value } from "./works.mjs";

export const workOf = (id) => WORKS.find((work) => work.id === id);

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Ours by theirs: the median of the ratios within each round, so that what slows a round down slows both. */
function ratio(ours, theirs) {
  const rounds = Math.min(ours.length, theirs.length);
  return median(Array.from({ length: rounds }, (_, round) => ours[round] / theirs[round]));
}

/** Ours, as far as comparing goes: the first of a work. */
export const oursOf = (measured) => measured.by[0];

/** `{ rows: [{ by, median, min, max, ratio, … }], verdict }` of one work as it was measured. */
export function rowsOf(measured) {
  const work = workOf(measured.work);
  const of = (by) => (measured.rounds[by] ?? []).map((result) => value(work, result));
  const ours = of(oursOf(measured));
  const rows = measured.by
    .filter((by) => of(by).length > 0)
    .map((by) => {
      const values = of(by);
      const results = measured.rounds[by];
      const isOurs = by.startsWith("saywhy");
      return {
        by,
        isOurs,
        median: median(values),
        min: Math.min(...values),
        max: Math.max(...values),
        ratio: isOurs || ours.length === 0 ? undefined : ratio(ours, values),
        stages: results[0].stages && results[0].stages.map((_, at) => median(results.map((result) => result.stages[at].cpu_us))),
        user: median(results.map((result) => result.user_us / result.cpu_us)),
        perSecond: median(results.map((result) => result.per_s)),
      };
    });
  return { work, rows, verdict: verdict(work, rows, of) };
}

function verdict(work, rows, of) {
  const said = [];
  if (work.against && rows.some((row) => row.isOurs)) {
    const { best, name, goal } = work.against;
    const peer = rows.filter(({ by }) => best.includes(by)).sort((a, b) => a.median - b.median)[0];
    for (const row of peer ? rows.filter((row) => row.isOurs) : []) {
      const of_ = best.length > 1 ? `${name} (${peer.by})` : name;
      said.push({ who: row.by, what: `÷ ${of_}`, is: ratio(of(row.by), of(peer.by)), goal });
    }
  }
  if (work.limit) {
    const row = rows.find(({ by }) => by === work.limit.of);
    const what = work.metric === "growth" ? "18,000 ÷ 1,000" : "bytes per connection";
    if (row) said.push({ who: row.by, what, is: row.median, goal: work.limit.at_most });
  }
  return said;
}

/** Three digits that mean something. */
export function digits(number) {
  if (number === undefined || Number.isNaN(number)) return "";
  if (number >= 1_000) return Math.round(number).toLocaleString("en");
  return number >= 100 ? number.toFixed(0) : number >= 10 ? number.toFixed(1) : number >= 1 ? number.toFixed(2) : number.toFixed(3);
}

export const quotient = (number) => (number === undefined ? "" : number.toFixed(2));

/** Heads and rows of a table for people; the first column is to the left. */
export function layout({ work, rows }, label) {
  const quantity = { bytes: "bytes", growth: "ratio", latency: "µs" }[work.metric] ?? `µs per ${work.unit}`;
  const growth = work.metric === "growth";
  const direct = rows.find(({ by }) => by === "direct");
  const last = work.metric === "latency" ? "µs added" : "ours ÷ theirs";
  const heads = ["", ...(growth ? ["µs at 1,000", "µs at 18,000"] : []), quantity, "from–to", last];
  const lines = rows.map((row) => [
    label(row.by),
    ...(growth ? row.stages.map(digits) : []),
    growth ? quotient(row.median) : digits(row.median),
    `${digits(row.min)}–${digits(row.max)}`,
    work.metric === "latency" ? (direct && row !== direct ? digits(row.median - direct.median) : "") : quotient(row.ratio),
  ]);
  return growth ? [heads.slice(0, -1), ...lines.map((line) => line.slice(0, -1))] : [heads, ...lines];
}

export const spoken = ({ who, what, is, goal }) => {
  const shown = goal >= 100 ? digits(is) : quotient(is);
  return `${who} ${what} = ${shown}${goal === undefined ? "" : ` (goal: at most ${goal >= 100 ? digits(goal) : goal.toFixed(2)})`}`;
};
