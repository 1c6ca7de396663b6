// permessage-deflate in real browsers and in `ws`: agreed on where a route has it, and the same messages come through.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";
import { browsers } from "./support/browsers.mjs";
import { ROOMY, serve } from "./support/client.mjs";
import { browserFor } from "./support/pages.mjs";

const config = (compression) => `${ROOMY}
[[route]]
path = "/ws"
token = "none"
rooms = { open = ["lobby"] }
${compression}
`;
const TAKEOVERS = [false, true];
const WORDS = Array.from({ length: 200 }, (_, n) => `word ${(n * 7919) % 1000} and grün`).join(" ");

/** Joins, says the same three times, and resolves to what was heard and agreed on. Its source is sent to pages. */
function converse({ url, words }) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, "saywhy.v1");
    const heard = [];
    const say = (type, data) => socket.send(JSON.stringify({ type, data, meta: { request_id: type } }));
    socket.onerror = () => reject(new Error("the connection failed"));
    socket.onclose = ({ code, reason }) => reject(new Error(`closed with ${code} ${reason}`));
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.type === "ready") say("join", { room: "lobby" });
      if (message.type === "ok" && message.meta.request_id === "join") {
        for (let times = 0; times < 3; times++) say("send", { room: "lobby", body: words });
      }
      if (message.type === "error") reject(new Error(event.data));
      if (message.type === "message") heard.push(message.data.body);
      if (heard.length < 3) return;
      socket.onclose = null;
      resolve({ heard, extensions: socket.extensions });
      socket.close();
    };
  });
}

const isRight = ({ heard, extensions }) => {
  assert.deepEqual(heard, [WORDS, WORDS, WORDS]);
  // Chromium goes on with the parameters.
  assert.match(extensions, /^permessage-deflate/);
};

describe("compression", { timeout: 60_000 }, () => {
  for (const takesOver of TAKEOVERS) {
    const name = takesOver ? "with context takeover" : "without context takeover";
    const start = (t) => serve(t, { config: config(`compression = { context_takeover = ${takesOver} }`) });

    test(`ws, ${name}`, async (t) => {
      const { url } = await start(t);
      globalThis.WebSocket = WebSocket;
      isRight(await converse({ url, words: WORDS }));
    });

    for (const browser of browsers) {
      describe(browser.name, () => {
        const held = browserFor(browser, { before, after });
        test(name, async (t) => {
          const { url, page: home } = await start(t);
          const page = await held.browser.newPage();
          t.after(() => page.close());
          await page.goto(`${home}style.css`); // of the same origin, and says nothing itself
          isRight(await page.evaluate(converse, { url, words: WORDS }));
        });
      });
    }
  }

  test("is not there unless it is asked for", async (t) => {
    const { url } = await serve(t, { config: config("") });
    const socket = new WebSocket(url, "saywhy.v1");
    await new Promise((resolve) => socket.on("open", resolve));
    assert.equal(socket.extensions, "");
    socket.close();
  });
});
