// What a page loads of this package: bundled and minified by esbuild, then gzipped. Fails when it is more than it may be.

import { build } from "esbuild";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const BUDGET_BYTES = 10_450;
const IMPORTS = ["connect", "connectPlain", "connect, connectPlain, diagnose", "SaywhyError"];

const resolveDir = fileURLToPath(new URL("..", import.meta.url));
const budgetBytes = Number(process.argv[2] ?? BUDGET_BYTES);

for (const names of IMPORTS) {
  const stdin = { contents: `export { ${names} } from "@saywhy/client"`, resolveDir };
  const { outputFiles } = await build({ stdin, bundle: true, minify: true, format: "esm", target: "es2022", write: false });
  const [{ contents }] = outputFiles;
  const gzipped = gzipSync(contents, { level: 9 }).length;
  process.stdout.write(`${names}: ${gzipped} bytes gzipped, ${contents.length} minified\n`);
  if (names === "connect" && gzipped > budgetBytes) {
    process.stdout.write(`connect may have ${budgetBytes} bytes\n`);
    process.exitCode = 1;
  }
}
