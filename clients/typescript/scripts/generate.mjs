// Writes src/catalogue.ts anew from the project's catalogue.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const catalogue = new URL("../../../catalogue/catalogue.json", import.meta.url);
export const target = new URL("../src/catalogue.ts", import.meta.url);

/** What src/catalogue.ts has to be. */
export function generated() {
  const { rows } = JSON.parse(readFileSync(catalogue, "utf8"));
  const named = ({ name }) => `  | ${JSON.stringify(name)}`;
  return `// Generated from catalogue/catalogue.json by scripts/generate.mjs. Do not edit.

/** The names of the built-in catalogue. A server may have rows of its own. */
export type CatalogueName =
${rows.map(named).join("\n")};

/** What a client has to know of a row. */
export interface Row {
  readonly name: CatalogueName;
  readonly code: number;
  /** The close codes that stand for it, in the dialects \`app\` and \`iana\`. */
  readonly app: number | null;
  readonly iana: number | null;
  readonly retry: "never" | "now" | "backoff" | "after" | "reauthenticate";
  readonly retryAfterMs: number;
  readonly spreadMs: number;
  /** In the words that a person is shown when the server had none. */
  readonly message: string;
}

const row = (
  name: CatalogueName,
  code: number,
  app: number | null,
  iana: number | null,
  retry: Row["retry"],
  message: string,
  retryAfterMs = 0,
  spreadMs = 0,
): Row => ({ name, code, app, iana, retry, retryAfterMs, spreadMs, message });

/** In the order in which they are looked up. */
export const ROWS: readonly Row[] = [
${rows.map((row) => `  ${line(row)},`).join("\n")}
];
`;
}

function line({ name, code, close, retry, message, retry_after_ms, spread_ms }) {
  const after = retry === "after" ? [retry_after_ms, spread_ms] : [];
  const values = [name, code, close.app, close.iana, retry, message, ...after];
  return `row(${values.map((value) => JSON.stringify(value)).join(", ")})`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(target, generated());
