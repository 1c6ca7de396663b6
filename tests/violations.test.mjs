// Every case of conformance/violations against the real binary, and what a page sees when it is the server that is wrong:
// why a Close of ours has to be legal to the byte.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { MESSAGE_BYTES, casesOf } from "../conformance/violations/suite/cases.mjs";
import { dial, listen } from "../conformance/violations/suite/connect.mjs";
import { control } from "../conformance/violations/suite/control.mjs";
import { faults } from "../conformance/violations/suite/judge.mjs";
import { play } from "../conformance/violations/suite/play.mjs";
import { browsers } from "./support/browsers.mjs";
import { serve } from "./support/client.mjs";
import { CROWD } from "./support/crowd.mjs";
import { browserFor } from "./support/pages.mjs";
import { recordSocket } from "./support/socket-script.mjs";

const AT_ONCE = 8; // Chromium holds back what is more than that
const CONFIG = `
[limits]
message_bytes = ${MESSAGE_BYTES}
${CROWD}[[route]]
path = "/ws"
token = "none"
rooms = { open = ["lobby"] }
`;

describe("breaches of RFC 6455", { concurrency: true, timeout: 60_000 }, () => {
  test("the server says what was wrong, in a message and a Close", async (t) => {
    const { port } = new URL((await serve(t, { config: CONFIG })).url);
    const judged = casesOf("client").map(async (one) => {
      const seen = await play(await dial({ port, path: "/ws", greets: true }), one, "client");
      return faults(one, seen, "client", true).map((fault) => `${one.name}: ${fault}`);
    });
    assert.deepEqual((await Promise.all(judged)).flat(), []);
  });

  test("a server that is wrong would have been noticed", async () => {
    assert.deepEqual(await control(), []);
  });

  for (const browser of browsers) {
    describe(browser.name, () => {
      const held = browserFor(browser, { before, after });

      /** What a page sees of a server that sends these cases. */
      const view = async (t, cases) => {
        const server = await listen((path, wire) => play(wire, cases[path.slice(1)], "server"));
        t.after(server.end);
        const page = await held.browser.newPage();
        t.after(() => page.close());
        const views = [];
        for (let at = 0; at < cases.length; at += AT_ONCE) {
          const some = cases.slice(at, at + AT_ONCE).map((_, n) => record(page, `ws://127.0.0.1:${server.port}/${at + n}`));
          views.push(...(await Promise.all(some)));
        }
        return views;
      };
      const record = async (page, url) => {
        const { code, reason } = (await page.evaluate(recordSocket, { url })).at(-1);
        return { code, reason };
      };

      test("a legal Close reaches the page, with each code and with a reason of 123 bytes", async (t) => {
        const cases = casesOf("server").filter(({ name }) => name.startsWith("legal: Close"));
        const expected = cases.map(({ send }) => sent(send.at(-1)));
        assert.ok(cases.length > 10 && expected.some(({ reason }) => reason.length === 123));
        assert.deepEqual(await view(t, cases), expected);
      });

      test("any other is 1006 to the page", async (t) => {
        const names = ["opcode 3", "Close of 126 bytes", "Close whose reason is not UTF-8", "breach, then Close"];
        const cases = casesOf("server").filter(({ name }) => names.includes(name));
        assert.deepEqual(await view(t, cases), names.map(() => ({ code: 1006, reason: "" })));
      });
    });
  }
});

/** What a Close frame of cases.json says. */
function sent({ hex = "" }) {
  const payload = Buffer.from(hex, "hex");
  if (payload.length === 0) return { code: 1005, reason: "" };
  return { code: payload.readUInt16BE(0), reason: payload.subarray(2).toString() };
}
