// What a server may do to a page, and a page to a server. Played over TCP and by `@saywhy/client/testing`.

const OFFERED = ["saywhy.v1", "saywhy.bearer.t"];
const then = (event, ...actions) => ({ [event]: actions });
/** A session that begins well, and then `act`. */
const after = (act) => (session) => {
  session.accept();
  session.send("hello");
  act(session);
};
/** The same, when the page has shown that it has heard so much. */
const afterHeard = (act) => ({
  on: then("message", ["send", "heard"]),
  async serve(session) {
    session.accept();
    session.send("hello");
    await session.received();
    act(session);
  },
});

/**
 * `serve` scripts the server, which answers a Close, and ends the connection when its own is answered. `protocols`, `binaryType`
 * and `on` are the page's, see `playSocket`. `waitMs` is how long it takes Chromium to lose its patience.
 */
export const SCENARIOS = {
  "the handshake is refused": { serve: (session) => session.refuseHandshake() },
  "the server hangs up instead of an answer": { serve: (session) => session.drop() },
  "refused in words, then with a Close": {
    protocols: OFFERED,
    serve(session) {
      session.accept();
      session.send('{"type":"error"}');
      session.close(4003, "Sign in");
    },
  },
  "refused with a Close only": {
    serve(session) {
      session.accept();
      session.close(4003, "Sign in");
    },
  },
  "a restart, with a hint": {
    serve: after((session) => {
      session.send('{"type":"goodbye"}');
      session.close(1012, "The service is restarting");
    }),
  },
  "a Close with nothing in it": { serve: after((session) => session.close()) },
  "a Close with a code only": { serve: after((session) => session.close(1011)) },
  "a reason of 123 bytes": { serve: after((session) => session.close(4000, "é".repeat(61) + "x")) },
  // What was read together with it is lost.
  "a reason of 124 bytes": { serve: after((session) => session.close(4000, "x".repeat(124))) },
  "a reason that is not UTF-8": afterHeard((session) => session.close(4000, Uint8Array.of(0x61, 0xff))),
  ...Object.fromEntries(
    [0, 999, 1004, 1005, 1006, 1014, 1015, 1016, 2999, 3000, 4999, 5000].map((code) => [
      `a Close with ${code}`, afterHeard((session) => session.close(code, "because")),
    ]),
  ),
  "two Closes": afterHeard((session) => {
    session.close(4001, "first");
    session.close(4002, "second");
  }),
  "a message after the Close": afterHeard((session) => {
    session.close(4001, "first");
    session.send("too late");
  }),
  "a drop": afterHeard((session) => session.drop()),
  "a drop right behind a message": { serve: after((session) => session.drop()) },
  "a reset": afterHeard((session) => session.drop({ reset: true })),
  "a drop inside a message": afterHeard((session) => session.drop({ inside: "half of it" })),
  "a Close, and no end of the connection": {
    waitMs: 2_000,
    serve: after((session) => {
      session.close(4001, "bye");
      session.freeze();
    }),
  },
  "both close at once": { on: then("message", ["close", 4000]), serve: after((session) => session.close(4001, "bye")) },
  "messages, each in a task of its own": {
    serve: after((session) => {
      session.send("");
      session.send("é");
      session.close(1000);
    }),
  },
  "a binary message": { serve: after((session) => (session.send(Uint8Array.of(0, 255)), session.close(1000))) },
  "a binary message, as a buffer": {
    binaryType: "arraybuffer",
    serve: after((session) => (session.send(Uint8Array.of(0, 255)), session.close(1000))),
  },
  "closed by the page, with code and reason": { on: then("open", ["close", 4000, "bye"]), serve: (session) => session.accept() },
  "closed by the page, without": { on: then("open", ["close"]), serve: (session) => session.accept() },
  "closed by the page, twice": { on: then("open", ["close", 4000, "bye"], ["close", 4001]), serve: (session) => session.accept() },
  "closed by the page while it connects": { on: then("start", ["close", 4000, "bye"]) },
  "closed by the page when it is over": { on: then("close", ["close", 4000, "bye"]), serve: after((session) => session.close(4001)) },
  "closed by the page while messages are on their way": {
    on: then("message", ["close", 4000]),
    serve: after((session) => session.send("not heard")),
  },
  "arguments that close() does not take": {
    on: then(
      "open",
      ...[1001, 1005, 1006, 2999, 5000, 0, -1].map((code) => ["close", code]),
      ["close", 4000, "x".repeat(124)],
      ["close", 4000, "é".repeat(62)],
      ["close", 4000, "x".repeat(123)],
    ),
    serve: (session) => session.accept(),
  },
  "half-open, closed by the page, and gone": {
    on: then("message", ["close", 4000]),
    async serve(session, { pageCloses }) {
      session.accept();
      session.send("hello");
      session.freeze();
      session.send("never arrives");
      await pageCloses();
      session.drop();
    },
  },
  "half-open, closed by the page, for ever": {
    waitMs: 60_000,
    on: then("message", ["close", 4000]),
    serve: after((session) => session.freeze()),
  },
  "sent while it connects": { on: then("start", ["send", "early"]), serve: after((session) => session.close(1000)) },
  "sent when it is over": {
    on: { ...then("message", ["close"], ["send", "late é"], ["send", [1, 2, 3]]), ...then("close", ["send", "later"]) },
    serve: after(() => {}),
  },
  "a subprotocol is selected": { protocols: OFFERED, serve: after((session) => session.close(1000)) },
  "of two subprotocols the second is selected": {
    protocols: ["a", "b"],
    serve(session) {
      session.accept({ protocol: "b" });
      session.close(1000);
    },
  },
  "no subprotocol is selected": {
    protocols: OFFERED,
    serve(session) {
      session.accept({ protocol: "" });
      session.send("hello");
      session.close(1000);
    },
  },
  "a subprotocol is selected that was not offered": {
    protocols: OFFERED,
    serve(session) {
      session.accept({ protocol: "other" });
      session.send("hello");
      session.close(1000);
    },
  },
  "a subprotocol twice": { protocols: ["a", "a"] },
  "a subprotocol that is none": { protocols: ["not a token"] },
  "an address that is none": { url: "ws://" },
  "an address with a fragment": { url: "ws://127.0.0.1:9/#here" },
  "an address of something else": { url: "ftp://127.0.0.1/" },
};
