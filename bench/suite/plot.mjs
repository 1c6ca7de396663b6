// Bars in SVG, for light and dark pages.

const WIDTH = 720;
const LABELS = 180;
const BAR = 16;
const GAP = 8;
const TITLE = 26;
const SPACE = 18;

export const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; }
  .quiet { fill: #59636e; }
  .ours { fill: #0969da; }
  .theirs { fill: #b7bfc8; }
  .spread { stroke: #59636e; stroke-width: 1; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .quiet { fill: #9198a1; }
    .ours { fill: #58a6ff; }
    .theirs { fill: #535b64; }
    .spread { stroke: #9198a1; }
  }`;

export const escaped = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

/** `panels`: `{ title, quantity, bars: [{ label, value, min, max, shown, isOurs }] }`; less is better in all of them. */
export function plot(panels) {
  let y = 0;
  const body = [];
  for (const { title, quantity, bars } of panels) {
    y += TITLE;
    body.push(`<text class="title" x="0" y="${y - 10}">${escaped(title)}</text>`);
    body.push(`<text class="quiet" x="${WIDTH}" y="${y - 10}" text-anchor="end">${escaped(quantity)}, less is better</text>`);
    const most = Math.max(...bars.map(({ max }) => max));
    const x = (value) => (LABELS + (value / most) * (WIDTH - LABELS - 70)).toFixed(1);
    for (const { label, value, min, max, shown, isOurs } of bars) {
      const middle = y + BAR / 2;
      body.push(`<text x="${LABELS - 8}" y="${middle + 4.5}" text-anchor="end">${escaped(label)}</text>`);
      body.push(`<rect class="${isOurs ? "ours" : "theirs"}" x="${LABELS}" y="${y}" width="${(x(value) - LABELS).toFixed(1)}" height="${BAR}" rx="2"/>`);
      body.push(`<line class="spread" x1="${x(min)}" x2="${x(max)}" y1="${middle}" y2="${middle}"/>`);
      body.push(`<text x="${Number(x(max)) + 8}" y="${middle + 4.5}">${escaped(shown)}</text>`);
      y += BAR + GAP;
    }
    y += SPACE;
  }
  const height = y - SPACE;
  const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">`;
  return `${head}\n<style>${STYLE}\n</style>\n${body.join("\n")}\n</svg>\n`;
}
