// What is published, and what of it ends up in a page.
import assert from "node:assert/strict";
import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { runInNewContext } from "node:vm";
import { complaints, packed } from "../scripts/package.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const path = (name) => join(root, name);
const modules = readdirSync(path("src"), { recursive: true }).filter((name) => name.endsWith(".ts")).map((name) => name.slice(0, -3));

/** What a bundler makes of these lines: the modules that something is left of, and the script. */
async function bundled(contents) {
  const stdin = { contents, resolveDir: root };
  const format = { format: "iife", globalName: "bundle" };
  const { metafile, outputFiles } = await build({ stdin, bundle: true, ...format, external: ["react"], metafile: true, write: false });
  const [{ inputs }] = Object.values(metafile.outputs);
  const left = Object.keys(inputs).filter((name) => inputs[name].bytesInOutput > 0);
  return { modules: left.map((name) => name.replace(/^.*dist\/|\.js$/g, "")), script: outputFiles[0].text };
}

test("the package has what is built of the sources, and the licences; nothing else", () => {
  spawnSync("npm", ["run", "licences", "--silent"], { cwd: root });
  const built = modules.flatMap((name) => [`dist/${name}.d.ts`, `dist/${name}.js`, `dist/${name}.js.map`]);
  const expected = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "package.json", ...built].sort();
  // Else something old is in dist/: remove it, and build anew.
  packed(({ files }) => assert.deepEqual(files, expected));
});

test("whoever imports it finds code and types", () => {
  packed(({ tarball }) => assert.deepEqual(complaints(tarball), []));
});

test("a package of which something is missing would be noticed", () => {
  const spoilt = mkdtempSync(join(tmpdir(), "saywhy-spoilt-"));
  try {
    cpSync(path("dist"), join(spoilt, "dist"), { recursive: true, filter: (name) => !name.endsWith("/react.d.ts") });
    const { devDependencies, scripts, ...manifest } = JSON.parse(readFileSync(path("package.json"), "utf8"));
    writeFileSync(join(spoilt, "package.json"), JSON.stringify(manifest));
    packed(({ tarball }) => assert.deepEqual(complaints(tarball).map((words) => words.split(":")[0]), ["publint", "attw"]), spoilt);
  } finally {
    rmSync(spoilt, { recursive: true });
  }
});

test("each module has a map with the source in it", () => {
  for (const name of modules) {
    const { sources, sourcesContent } = JSON.parse(readFileSync(path(`dist/${name}.js.map`), "utf8"));
    assert.equal(sources.length, 1);
    assert.deepEqual(sourcesContent, [readFileSync(path(`src/${name}.ts`), "utf8")], `${name}: npm run build`);
  }
});

test("who needs an error only does not load a client", async () => {
  const MACHINE = /RetryMachine = class/;
  const error = await bundled('export { SaywhyError } from "@saywhy/client"');
  assert.doesNotMatch(error.script, MACHINE);
  assert.ok(!["client", "lifeline", "connection", "plain"].some((name) => error.modules.includes(name)), error.modules);
  const client = await bundled('export { connect } from "@saywhy/client"');
  assert.match(client.script, MACHINE);
  assert.ok(["client", "lifeline", "connection"].every((name) => client.modules.includes(name)), client.modules);
  assert.ok(!client.modules.includes("plain"), client.modules);
});

test("neither testing nor React is in the client", async () => {
  const isOther = (name) => /^(react|testing\b)/.test(name);
  const all = await bundled('export * from "@saywhy/client"');
  assert.deepEqual(all.modules.filter(isOther), []);
  assert.doesNotMatch(all.script, /"react"/);
  const others = await bundled('export * from "@saywhy/client/testing"; export * from "@saywhy/client/react"');
  assert.ok(others.modules.includes("testing/socket") && others.modules.includes("react"), others.modules);
  assert.match(others.script, /"react"/);
});

test("to be imported it needs no page: there is none in a worker", async () => {
  const worker = { EventTarget };
  for (const name of ["@saywhy/client", "@saywhy/client/testing"]) {
    const { script } = await bundled(`export * from "${name}"`);
    const names = runInNewContext(`${script}; Object.keys(bundle)`, { ...worker });
    assert.ok(names.includes(name.endsWith("testing") ? "TestServer" : "connect"), names);
  }
  const { script } = await bundled("export const { title } = document;");
  assert.throws(() => runInNewContext(script, { ...worker }), /document is not defined/);
});
