import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import test from "node:test";
import { fileURLToPath } from "node:url";

const size = (...args) => spawnSync(process.execPath, [fileURLToPath(new URL("../scripts/size.mjs", import.meta.url)), ...args], { encoding: "utf8" });

test("what a page loads is no more than it may be", () => {
  const { status, stdout } = size();
  assert.equal(status, 0, stdout);
});

test("a page that loads more would be noticed", () => {
  const { status, stdout } = size("1000");
  assert.equal(status, 1);
  assert.match(stdout, /^connect may have 1000 bytes$/m);
});
