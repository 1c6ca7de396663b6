// The size of what a page loads: all modules, without comments, gzipped. A bundler's minifier makes it smaller still.

import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const dist = new URL("../dist/", import.meta.url);
const modules = readdirSync(dist).filter((name) => name.endsWith(".js"));
const text = modules.map((name) => readFileSync(new URL(name, dist), "utf8")).join("\n");
// The compiler's output has comments on lines of their own, and indentation; nothing else is touched.
const bare = text
  .replace(/^\s*\/\*[\s\S]*?\*\/$/gm, "")
  .replace(/^\s*\/\/.*$/gm, "")
  .replace(/^\s+/gm, "");
const kib = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`;
process.stdout.write(`${modules.length} modules, ${kib(bare.length)}, gzip ${kib(gzipSync(bare, { level: 9 }).length)}\n`);
