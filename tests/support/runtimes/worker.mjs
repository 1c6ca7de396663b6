// Plays one scenario in a worker.
import { play } from "./scenarios.mjs";

addEventListener("message", async ({ data: { name, stage } }) => postMessage(await play(name, stage)));
