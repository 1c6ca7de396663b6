// Runs in a sandboxed frame, whose origin is `null`: opens the socket that its fragment names, on the host that it
// came from and on no other, and reports each event to the page around it. A classic script, because a module
// would have to be fetched with CORS.
"use strict";
(() => {
  const report = (event) => parent.postMessage(event, "*");
  const url = new URL(decodeURIComponent(location.hash.slice(1)), location.href);
  if (url.host !== location.host) return;
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  report({ kind: "connect" });
  const socket = new WebSocket(url);
  socket.onopen = () => report({ kind: "open" });
  socket.onmessage = ({ data }) => report({ kind: "message", data });
  socket.onerror = () => report({ kind: "error" });
  socket.onclose = ({ code, reason, wasClean }) => report({ kind: "close", code, reason, wasClean });
})();
