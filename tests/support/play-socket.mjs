/**
 * What a page does with a WebSocket, and everything that it sees of it, in order; give it to `page.evaluate`, or call it
 * with another constructor.
 *
 * `on` has what to do at `start` (right after the constructor), `open`, `message` and `close`: a list of
 * `["send", text]`, `["send", [bytes]]`, `["close", ...arguments]`.
 * Resolves, at the event `close` or at an exception of the constructor, to a list of
 *   { event, readyState, .. } with `protocol`, `data`, or `code`, `reason` and `wasClean`
 *   { did, readyState, bufferedAmount, threw? } as soon as the call is over
 *   { microtask } for one that an event made: it has to run before the next event.
 * Meanwhile `globalThis.isClosing` says whether the page has begun to close it.
 *
 * Its source is sent to the page, so it must not use anything from outside its own body.
 */
export function playSocket({ url, protocols = [], binaryType, on = {} }, WebSocket = globalThis.WebSocket) {
  globalThis.isClosing = false;
  return new Promise((resolve) => {
    const log = [];
    let socket;
    try {
      socket = new WebSocket(url, protocols);
    } catch (error) {
      return resolve([{ threw: error.name, isDOMException: error instanceof DOMException }]);
    }
    const act = (at) => {
      for (const [did, ...args] of on[at] ?? []) {
        const entry = { did };
        const bytes = Array.isArray(args[0]);
        try {
          socket[did](...(bytes ? [new Uint8Array(args[0])] : args));
        } catch (error) {
          Object.assign(entry, { threw: error.name, isDOMException: error instanceof DOMException });
        }
        log.push({ ...entry, readyState: socket.readyState, bufferedAmount: socket.bufferedAmount });
        globalThis.isClosing ||= socket.readyState === WebSocket.CLOSING;
      }
    };
    const note = (event, facts) => {
      log.push({ event: event.type, readyState: socket.readyState, ...facts });
      void Promise.resolve().then(() => log.push({ microtask: event.type }));
      act(event.type);
    };
    const { protocol, extensions, readyState, bufferedAmount } = socket;
    log.push({ event: "made", path: new URL(socket.url).pathname, protocol, extensions, readyState, bufferedAmount, binaryType: socket.binaryType });
    if (binaryType) socket.binaryType = binaryType;

    socket.onopen = (event) => note(event, { protocol: socket.protocol, extensions: socket.extensions });
    socket.onmessage = (event) => {
      const { data } = event;
      if (typeof data === "string") note(event, { data });
      else if (data instanceof ArrayBuffer) note(event, { buffer: [...new Uint8Array(data)] });
      else note(event, { blob: data.size, type: data.type });
    };
    socket.addEventListener("error", (event) => note(event, { isPlain: event.constructor === Event }));
    socket.addEventListener("close", (event) => {
      const { code, reason, wasClean } = event;
      note(event, { code, reason, wasClean });
      // So that whatever comes after the end is seen too.
      setTimeout(() => resolve(log), 50);
    });
    act("start");
  });
}
