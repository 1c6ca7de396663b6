// The package as it would be published: packs it, and lets those judge it who know how packages are imported.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** There is no CommonJS in it, so who needs that is left out: old Node, and old TypeScript. */
const JUDGES = [
  ["publint", "--strict"],
  ["attw", "--profile", "esm-only", "--format", "ascii", "--no-color"],
];

/** Packs the package that is in `folder`; `use` gets `{ files, tarball }` as long as there is a tarball. */
export function packed(use, folder = root) {
  const into = mkdtempSync(join(tmpdir(), "saywhy-package-"));
  try {
    // What is built is there, and may be in use.
    const args = ["pack", "--ignore-scripts", "--json", "--pack-destination", into];
    const { status, stdout, stderr } = spawnSync("npm", args, { cwd: folder, encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
    const [{ files, filename }] = JSON.parse(stdout);
    return use({ files: files.map(({ path }) => path).sort(), tarball: join(into, filename) });
  } finally {
    rmSync(into, { recursive: true });
  }
}

/** What each judge says who is not content. */
export function complaints(tarball) {
  return JUDGES.flatMap(([name, ...options]) => {
    const judge = join(root, "node_modules/.bin", name);
    const { status, stdout, stderr } = spawnSync(judge, [tarball, ...options], { encoding: "utf8" });
    return status === 0 ? [] : [`${name}: ${stdout}${stderr}`];
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  spawnSync("npm", ["run", "licences", "--silent"], { cwd: root });
  packed(({ files, tarball }) => {
    process.stdout.write(`${files.join("\n")}\n`);
    for (const complaint of complaints(tarball)) {
      process.stdout.write(`${complaint}\n`);
      process.exitCode = 1;
    }
  });
}
