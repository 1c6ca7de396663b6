import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { generated, target } from "../scripts/generate.mjs";
import { bundled, target as pageTarget } from "../scripts/page.mjs";

test("src/catalogue.ts is what the catalogue has now; else: npm run generate", () => {
  assert.equal(readFileSync(target, "utf8"), generated());
});

test("web/client.js is what the sources make now; else: just generate", async () => {
  assert.equal(readFileSync(pageTarget, "utf8"), await bundled());
});

test("examples/journey.ts has the journey as it was promised", () => {
  const journey = readFileSync(new URL("../examples/journey.ts", import.meta.url), "utf8");
  const promised = `
const chat = connect("wss://example.com/ws", { token: () => auth.token(), signal });
chat.on("waiting", ({ cause, delayMs }) => banner(\`\${cause.message}; trying again in \${delayMs} ms\`));
await chat.ready();                                   // rejects with SaywhyError when refused
const reply = await chat.request("join", { room: "lobby" });
if (!reply.ok) toast(reply.error.message);            // recoverable: still connected
for await (const message of chat) render(message);    // survives reconnects
const ending = await chat.closed;                     // resolves, never rejects
`;
  assert.ok(journey.includes(promised.replaceAll("\n", "\n  ").trimEnd()));
});
