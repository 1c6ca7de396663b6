// Node `ws`, after its README: `node ws.mjs server PORT`, or `node ws.mjs client URL COUNT` for URL/0, URL/1, ….
import { createRequire } from "node:module";

const { WebSocket, WebSocketServer } = createRequire(new URL("../../../tests/package.json", import.meta.url))("ws");

const [role, where, count] = process.argv.slice(2);
const maxPayload = 64 * 1024;

function echo(socket) {
  socket.on("error", () => {}); // without a listener it would end the process
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
}

if (role === "server") new WebSocketServer({ host: "127.0.0.1", port: Number(where), maxPayload }).on("connection", echo);
else for (let n = 0; n < Number(count); n++) echo(new WebSocket(`${where}/${n}`));
