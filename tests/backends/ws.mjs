// A back end with Node's `ws`, as its authors write one: it knows nothing of what stands in front of it.
// Usage: node ws.mjs PORT
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const http = createServer((_, response) => response.writeHead(404).end());
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: true });

http.on("upgrade", (request, socket, head) => {
  socket.on("error", () => {});
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  if (pathname === "/busy") {
    socket.end("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n");
  } else if (pathname !== "/echo") {
    socket.end("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  } else {
    sockets.handleUpgrade(request, socket, head, (peer) => echo(peer, searchParams));
  }
});

function echo(peer, searchParams) {
  peer.on("error", () => {});
  if (searchParams.has("close")) peer.close(Number(searchParams.get("close")), searchParams.get("reason"));
  peer.on("message", (data, isBinary) => {
    if (!searchParams.has("quiet")) process.stderr.write(`${String(data).slice(0, 20)}\n`);
    if (String(data) === "terminate") return peer.terminate();
    if (String(data) === "exit") process.exit(3);
    peer.send(data, { binary: isBinary });
  });
}

process.on("SIGTERM", () => {
  for (const peer of sockets.clients) peer.close(1012, "back soon");
  setTimeout(() => process.exit(0), 200);
});

http.listen(Number(process.argv[2]), "127.0.0.1");
