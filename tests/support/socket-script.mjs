/**
 * The plain client whose view the tests assert; give it to `page.evaluate(recordSocket, {...})`.
 *
 * `onopen` lists what to send once open: a string, `{ bytes: [..] }`, or `{ close: [code, reason] }` to close.
 * `flood` is sent too, 20 times every 5 ms for as long as the socket is open.
 * Resolves, at the socket's close or after `timeoutMs`, to every event in order, each with `t`, the ms from the start:
 *   { type: "open", protocol } | { type: "message", data: string | { bytes } } | { type: "error" }
 *   { type: "close", code, reason, wasClean }, always the last, or instead
 *   { type: "timeout" }, or { type: "throw", name, message } if the browser refuses to make such a socket.
 *
 * Its source is sent to the page, so it must not use anything from outside its own body.
 */
export function recordSocket({ url, protocols = [], onopen = [], flood, timeoutMs = 10_000 }) {
  return new Promise((resolve) => {
    const start = performance.now();
    const events = [];
    const record = (type, details) => events.push({ type, t: Math.round(performance.now() - start), ...details });

    let socket;
    try {
      socket = new WebSocket(url, protocols);
    } catch ({ name, message }) {
      record("throw", { name, message });
      return resolve(events);
    }
    socket.binaryType = "arraybuffer";

    const timer = setTimeout(() => {
      record("timeout");
      resolve(events);
      socket.close();
    }, timeoutMs);

    socket.onopen = () => {
      record("open", { protocol: socket.protocol });
      for (const item of onopen) {
        if (item.close) socket.close(...item.close);
        else socket.send(item.bytes ? new Uint8Array(item.bytes) : item);
      }
      if (flood === undefined) return;
      const pour = () => {
        for (let drops = 0; drops < 20 && socket.readyState === WebSocket.OPEN; drops++) socket.send(flood);
        if (socket.readyState === WebSocket.OPEN) setTimeout(pour, 5);
      };
      pour();
    };
    socket.onmessage = ({ data }) => {
      record("message", { data: typeof data === "string" ? data : { bytes: [...new Uint8Array(data)] } });
    };
    socket.onerror = () => record("error");
    socket.onclose = ({ code, reason, wasClean }) => {
      clearTimeout(timer);
      record("close", { code, reason, wasClean });
      resolve(events);
    };
  });
}
