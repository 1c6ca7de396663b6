// Plays one scenario in Node, Deno or Bun: `run.mjs STAGE NAME`. Prints why it did not hold, if it did not. It ends when
// nothing of the client is left, and not before.
import { play } from "./scenarios.mjs";

const [stage, name] = process.argv.slice(2);
const options = globalThis.WebSocket ? {} : { WebSocket: (await import("ws")).default };
const why = await play(name, stage, { options });
console.log(JSON.stringify({ why }));
