// Histograms above each other on one axis of time, in SVG, for light and dark pages.
import { STYLE, escaped } from "../suite/plot.mjs";

const WIDTH = 720;
const LABELS = 180;
const RIGHT = 60;
const ROW = 40;
const GAP = 12;
const TITLE = 34;
/** Each step up is ten times as much. */
const DECADES = 4;

/** `rows`: `{ label, counts, isOurs }`, where `counts[n]` is how many came in the n-th of `bins`. */
export function histograms(title, quantity, { bins, secondsPerBin, rows }) {
  const x = (bin) => LABELS + (bin / bins) * (WIDTH - LABELS - RIGHT);
  const height = (count) => (count === 0 ? 0 : (Math.min(DECADES, Math.log10(count) + 0.15) / DECADES) * ROW);
  const body = [
    `<text class="title" x="0" y="14">${escaped(title)}</text>`,
    `<text class="quiet" x="${WIDTH}" y="14" text-anchor="end">${escaped(quantity)}</text>`,
  ];
  rows.forEach(({ label, counts, isOurs }, at) => {
    const base = TITLE + at * (ROW + GAP) + ROW;
    body.push(`<text x="${LABELS - 8}" y="${base - ROW / 2 + 4.5}" text-anchor="end">${escaped(label)}</text>`);
    body.push(`<line class="spread" x1="${LABELS}" x2="${WIDTH - RIGHT}" y1="${base}" y2="${base}"/>`);
    const bars = counts.flatMap((count, bin) => {
      if (count === 0) return [];
      const top = (base - height(count)).toFixed(1);
      return [`M${x(bin).toFixed(1)} ${base}V${top}H${x(bin + 1).toFixed(1)}V${base}`];
    });
    body.push(`<path class="${isOurs ? "ours" : "theirs"}" d="${bars.join("")}"/>`);
    body.push(`<text x="${WIDTH - RIGHT + 8}" y="${base - ROW / 2 + 4.5}">${Math.max(...counts).toLocaleString("en")}</text>`);
  });
  const end = TITLE + rows.length * (ROW + GAP);
  for (let second = 0; second <= bins * secondsPerBin; second += 2) {
    body.push(`<text class="quiet" x="${x(second / secondsPerBin)}" y="${end + 8}" text-anchor="middle">${second} s</text>`);
  }
  const size = end + 16;
  const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${size}" width="${WIDTH}" height="${size}" role="img">`;
  return `${head}\n<style>${STYLE}\n</style>\n${body.join("\n")}\n</svg>\n`;
}
