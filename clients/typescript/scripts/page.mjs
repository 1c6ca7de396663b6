// The client as the page of development mode uses it: one file, so that the binary needs no Node to be built.

import { build } from "esbuild";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const target = fileURLToPath(new URL("../../../web/client.js", import.meta.url));

export async function bundled() {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("../src/index.ts", import.meta.url))],
    bundle: true,
    format: "esm",
    target: "es2022",
    legalComments: "none",
    banner: { js: "// Made of clients/typescript by `just generate`.\n" },
    // Paths in its comments would be those of whoever made it.
    absWorkingDir: fileURLToPath(new URL("..", import.meta.url)),
    write: false,
  });
  return outputFiles[0].text;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(target, await bundled());
