import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { component } from "../dist/examples/chat.js";
import { connect } from "../dist/index.js";
import { TestServer } from "../dist/testing.js";

/** The first code below a heading, without its imports. */
function codeBelow(heading) {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const [, code] = /```tsx?\n([\s\S]*?)```/.exec(readme.slice(readme.indexOf(`\n## ${heading}\n`)));
  return code.replace(/^import .*\n/gm, "").trim();
}

const AsyncFunction = (async () => {}).constructor;

test("the test that the README shows passes, and could fail", async () => {
  const code = codeBelow("Testing");
  const run = (code) => new AsyncFunction("connect", "TestServer", "assert", code)(connect, TestServer, assert);
  await run(code);
  await assert.rejects(run(code.replace("3_999", "4_000")), assert.AssertionError);
});

test("the component that the README shows is examples/chat.tsx, and renders", () => {
  const example = readFileSync(new URL("../examples/chat.tsx", import.meta.url), "utf8");
  assert.ok(example.includes(codeBelow("React").replaceAll("\n", "\n  ")));
  const markup = renderToString(createElement(component({ token: () => "t", Room: () => null })));
  assert.equal(markup, "<p>Connecting<!-- --> </p>");
});
