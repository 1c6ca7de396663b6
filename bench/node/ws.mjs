// Node `ws`, after its README: `node ws.mjs <echo|limited|deflate|refuse|rooms> <port>`, until it is killed.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const [work, port] = process.argv.slice(2);
const options = { host: "127.0.0.1", port: Number(port), backlog: 4096 };

const WORDS = JSON.stringify({
  type: "error",
  data: { code: 4003, message: "A token is needed: sign in", name: "unauthorized", fatal: true, retry: "reauthenticate" },
  meta: { request_id: "0190b3f2a97c7a3e8f5d1c2b3a4d5e6f", timestamp: "2026-11-20T12:00:00Z" },
});

function echo(more) {
  new WebSocketServer({ ...options, ...more }).on("connection", (socket) => {
    socket.on("error", console.error);
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
}

/** For who breaks more than the limit on a message. */
const maxPayload = 64 * 1024;

const works = {
  echo: () => echo(),
  limited: () => echo({ maxPayload }),
  deflate: () => echo({ maxPayload, perMessageDeflate: true }),

  // "/refused" accepts, says why and closes; everything else is answered 401, as the README has it.
  refuse() {
    const wss = new WebSocketServer({ noServer: true });
    wss.on("connection", (socket) => {
      socket.on("error", console.error);
      socket.send(WORDS);
      socket.close(4003, "A token is needed: sign in");
    });
    const server = createServer();
    server.on("upgrade", (request, socket, head) => {
      socket.on("error", console.error);
      if (request.url === "/refused") return wss.handleUpgrade(request, socket, head, (ws) => wss.emit("connection", ws));
      socket.write("HTTP/1.1 401 Unauthorized\r\n\r\n");
      socket.destroy();
    });
    server.listen(options);
  },

  // The broadcast of the README, to those with the same path.
  rooms() {
    const rooms = new Map();
    new WebSocketServer(options).on("connection", (socket, request) => {
      const members = rooms.get(request.url) ?? new Set();
      rooms.set(request.url, members.add(socket));
      socket.on("error", console.error);
      socket.on("close", () => members.delete(socket));
      socket.on("message", (data, isBinary) => {
        for (const member of members) {
          if (member.readyState === member.OPEN) member.send(data, { binary: isBinary });
        }
      });
    });
  },
};

works[work]();
