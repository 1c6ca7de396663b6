// A proxy in front of a server that breaks connections on purpose, each in one way.
//
// | cut            | what the client sees                      | what the server sees                 |
// |----------------|-------------------------------------------|--------------------------------------|
// | rst            | RST                                       | RST                                  |
// | fin            | FIN without a Close                       | FIN without a Close                  |
// | silence        | nothing any more, and no end              | the same                             |
// | inside_frame   | half of the next frame, and FIN           | RST                                  |
// | inside_request | RST                                       | half of the next frame, and FIN      |
// | unanswered     | RST, as soon as it has said something     | all that was said, and then FIN      |
// | before_close   | all that is said, but RST for the Close   | its Close is never answered, and RST |
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { parseFrame } from "../support/raw.mjs";

export const CUTS = ["rst", "fin", "silence", "inside_frame", "inside_request", "unanswered", "before_close"];

const CLOSE = 8;

/** Starts it in front of `port`. Resolves to `{ url, pipes(), stop() }`; `pipes` are those that join a client and the server now. */
export async function startProxy(port) {
  let all = [];
  const proxy = createServer((client) => all.push(new Pipe(client, connect(port, "127.0.0.1"))));
  await once(proxy.listen(0, "127.0.0.1"), "listening");
  return {
    url: `ws://127.0.0.1:${proxy.address().port}/ws`,
    pipes() {
      all = all.filter((pipe) => !pipe.isGone);
      return all.filter((pipe) => pipe.isWhole);
    },
    stop() {
      proxy.close();
      for (const pipe of all) pipe.cut("rst");
    },
  };
}

/** A connection of a client and one to the server, as one. */
class Pipe {
  #client;
  #server;
  #isOpen = false;
  #isOver = false;
  /** What was done to it, or will be at the next moment that fits. */
  #kind;

  constructor(client, server) {
    this.#client = client;
    this.#server = server;
    this.#carry(client, server, (frame) => this.#fromClient(frame));
    this.#carry(server, client, (frame) => this.#fromServer(frame));
  }

  /** Both have said that they speak WebSocket, and nothing was cut. */
  get isWhole() {
    return this.#isOpen && !this.#isOver && this.#kind === undefined;
  }

  get isGone() {
    return this.#client.destroyed && this.#server.destroyed;
  }

  cut(kind) {
    this.#kind = kind;
    if (kind === "rst") this.#reset();
    if (kind !== "fin") return;
    this.#isOver = true;
    this.#client.end();
    this.#server.end();
  }

  /** What comes from one is passed on to the other in whole frames, so that there is a place to cut. */
  #carry(from, to, pass) {
    let waiting = Buffer.alloc(0);
    let hasHead = false;
    from.setNoDelay(true);
    from.on("data", (bytes) => {
      if (this.#kind === "silence") return;
      waiting = Buffer.concat([waiting, bytes]);
      if (!hasHead) {
        const end = waiting.indexOf("\r\n\r\n") + 4;
        if (end < 4) return;
        to.write(waiting.subarray(0, end));
        waiting = waiting.subarray(end);
        hasHead = true;
        if (from === this.#server) this.#isOpen = true;
      }
      for (let parsed; (parsed = parseFrame(waiting)); ) {
        const frame = waiting.subarray(0, parsed.size);
        waiting = waiting.subarray(parsed.size);
        if (!pass({ bytes: frame, opcode: parsed.frame.opcode })) return;
      }
    });
    from.on("error", () => {});
    from.on("end", () => this.#kind === "silence" || to.end());
    from.on("close", () => {
      if (this.#kind === "silence") return;
      this.#isOver = true;
      if (from.errored) to.resetAndDestroy();
      else to.destroySoon();
    });
  }

  /** Passes a frame on; false when that was the last one. */
  #fromClient({ bytes }) {
    if (this.#isOver) return false;
    switch (this.#kind) {
      case "inside_request":
        return this.#break(this.#server, this.#client, bytes);
      case "unanswered":
        this.#server.end(bytes);
        this.#client.resetAndDestroy();
        return false;
      default:
        return this.#server.write(bytes) || true;
    }
  }

  #fromServer({ bytes, opcode }) {
    if (this.#isOver) return false;
    if (this.#kind === "inside_frame" && bytes.length > 1) return this.#break(this.#client, this.#server, bytes);
    if (this.#kind === "before_close" && opcode === CLOSE) return this.#reset();
    return this.#client.write(bytes) || true;
  }

  #break(to, from, bytes) {
    this.#isOver = true;
    to.end(bytes.subarray(0, Math.ceil(bytes.length / 2)));
    from.resetAndDestroy();
    return false;
  }

  #reset() {
    this.#isOver = true;
    this.#client.resetAndDestroy();
    this.#server.resetAndDestroy();
    return false;
  }
}
