// @saywhy/client and servers that know nothing of it, in real browsers: what is written and heard, and what a plain GET
// tells of a handshake that was refused.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import test, { after, before, describe } from "node:test";
import { WebSocketServer } from "ws";
import { browsers } from "./support/browsers.mjs";
import { browserFor } from "./support/pages.mjs";

const dist = new URL("../clients/typescript/dist/", import.meta.url);

/** Pages with the client's modules beside them; an echo at /feed that says two bytes first; /busy refuses everybody. */
async function servePages(t) {
  const feed = new WebSocketServer({ noServer: true });
  feed.on("connection", (socket) => {
    socket.send(Buffer.from([1, 2]));
    socket.on("message", (data) => socket.send(`echo ${data}`));
  });
  const http = createServer(async ({ url }, response) => {
    if (url === "/busy") return response.writeHead(503, { "retry-after": "9" }).end();
    const isModule = url.endsWith(".js");
    response.setHeader("content-type", isModule ? "text/javascript" : "text/html");
    return response.end(isModule ? await readFile(new URL(`.${url}`, dist)) : "<!doctype html>");
  });
  http.on("upgrade", (request, socket, head) => {
    if (request.url === "/busy") return socket.end("HTTP/1.1 503 Service Unavailable\r\n\r\n");
    return feed.handleUpgrade(request, socket, head, (opened) => feed.emit("connection", opened));
  });
  await once(http.listen(0, "127.0.0.1"), "listening");
  t.after(() => http.close() && http.closeAllConnections());
  return `http://127.0.0.1:${http.address().port}`;
}

for (const browser of browsers) {
  describe(browser.name, { concurrency: 1 }, () => {
    const held = browserFor(browser, { before, after });

    async function openPage(t) {
      const page = await held.browser.newPage();
      t.after(() => page.close());
      await page.goto(await servePages(t));
      return page;
    }

    test("text and bytes, both ways", async (t) => {
      const page = await openPage(t);
      const seen = await page.evaluate(async () => {
        const { connectPlain } = await import("/index.js");
        const feed = connectPlain("/feed");
        const heard = [];
        const all = new Promise((resolve) => {
          feed.on("data", (data) => {
            heard.push(data instanceof ArrayBuffer ? [...new Uint8Array(data)] : data);
            if (heard.length === 3) resolve();
          });
        });
        const written = [feed.write("early")];
        const { protocol } = await feed.ready();
        written.push(feed.write(new TextEncoder().encode("bytes")));
        await all;
        const { close } = await feed.close();
        return { heard, written, protocol, code: close.code };
      });
      assert.deepEqual(seen, { heard: [[1, 2], "echo early", "echo bytes"], written: ["queued", "sent"], protocol: "", code: 1000 });
    });

    test("a refusal that only a plain GET can read", async (t) => {
      const page = await openPage(t);
      const causes = await page.evaluate(async () => {
        const { connect, diagnose } = await import("/index.js");
        const causes = [];
        for (const options of [{}, { diagnose }]) {
          const chat = connect("/busy", options);
          const { cause } = await new Promise((resolve) => chat.on("waiting", resolve));
          const { name, source, closeCode, retryAfterMs } = cause;
          causes.push({ name, source, closeCode, retryAfterMs });
          await chat.close();
        }
        return causes;
      });
      assert.deepEqual(causes, [
        { name: "connection_lost", source: "network", closeCode: 1006, retryAfterMs: undefined },
        { name: "overloaded", source: "http", closeCode: 1006, retryAfterMs: 9_000 },
      ]);
    });
  });
}
