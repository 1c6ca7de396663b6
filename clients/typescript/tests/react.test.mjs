// The hooks on a server. In browsers they are tested by tests/client-react.test.mjs of the project.
import assert from "node:assert/strict";
import test from "node:test";
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { useConnection, usePlainConnection } from "../dist/react.js";
import { TestServer, settled } from "../dist/testing.js";

test("on a server there is markup, and no connection", async () => {
  const server = new TestServer();
  const seen = [];
  const Chat = ({ hook, url }) => {
    const { client, state, ready, error, waiting } = hook(url, server.platform);
    seen.push({ client, ready, error, waiting });
    return createElement("p", null, state);
  };
  for (const hook of [useConnection, usePlainConnection]) {
    assert.equal(renderToString(createElement(Chat, { hook, url: "wss://test/" })), "<p>connecting</p>");
    assert.equal(renderToString(createElement(Chat, { hook, url: null })), "<p>closed</p>");
  }
  await settled();
  assert.equal(server.connections.length, 0);
  const nothing = { client: undefined, ready: undefined, error: undefined, waiting: undefined };
  assert.deepEqual(seen, [nothing, nothing, nothing, nothing]);
});
