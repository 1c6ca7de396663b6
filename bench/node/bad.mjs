// Servers that are bad on purpose, for `bench/floods --control`: `node bad.mjs <greedy|deaf> <port>`.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const [vice, port] = process.argv.slice(2);
/** What a connection costs, and whatever arrives on it at once. */
const EACH = 64 * 1024;
const kept = [];
const keep = () => vice === "greedy" && kept.push(Buffer.alloc(EACH, 1));
let connections = 0;

const server = createServer();
server.on("connection", (socket) => {
  keep();
  connections += 1;
  socket.on("close", () => (connections -= 1));
});

// Without the limits by which ws ends most floods, so that they last.
const lax = { maxPayload: 2 ** 31 - 1, maxFragments: 0, maxBufferedChunks: 0, autoPong: false, perMessageDeflate: true };
new WebSocketServer({ server, ...lax }).on("connection", (client, request) => {
  client.on("error", () => {});
  request.socket.on("data", keep);
  client.on("message", (data, isBinary) => {
    // Hears a client as long as it is the only one.
    if (vice === "deaf" && connections > 1) return;
    client.send(data, { binary: isBinary });
  });
});

server.listen({ host: "127.0.0.1", port: Number(port), backlog: 4096 });
