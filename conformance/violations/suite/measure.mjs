// All cases against one subject.
import { browsers } from "../../../tests/support/browsers.mjs";
import { recordSocket } from "../../../tests/support/socket-script.mjs";
import { casesOf, frame } from "./cases.mjs";
import { dial, listen } from "./connect.mjs";
import { play } from "./play.mjs";
import { start, startServer } from "./processes.mjs";

/** Connections at a time: more, and a busy machine would look like a silent peer. */
const AT_ONCE = 8;
/** All that a client may take. */
const CLIENT_MS = 120_000;

/** What a server answers to each breach of a client, as `{ results }`. */
export async function measureServer(subject) {
  const { port, end } = await startServer(subject.server);
  try {
    const results = await mapSome(casesOf("client"), async (one) => {
      const wire = await dial({ port, path: subject.path, greets: subject.greets });
      return play(wire, one, "client");
    });
    return { results };
  } finally {
    await end();
  }
}

async function mapSome(items, work) {
  const results = [];
  let next = 0;
  const worker = async () => {
    for (let at; (at = next++) < items.length; ) results[at] = await work(items[at]);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

/** What a client answers to each breach of a server; of a browser also what the `page` saw, and its `version`. */
export async function measureClient(subject) {
  const cases = casesOf("server");
  const results = [];
  let onAll;
  const all = new Promise((resolve) => (onAll = resolve));
  const server = await listen(async (path, wire) => {
    const at = caseOf(path, subject.isAutobahns);
    if (at === undefined) return chat(path, wire, cases.length);
    results[at] = await play(wire, cases[at], "server");
    if (Object.keys(results).length === cases.length) onAll();
  });
  try {
    const url = `ws://127.0.0.1:${server.port}`;
    if (!subject.browser) {
      await inProcess(subject, url, cases, all);
      return { results };
    }
    const { views, version } = await inPage(subject.browser, url, cases, all);
    return { results: results.map((result, at) => ({ ...result, page: views[at] })), version };
  } finally {
    server.end();
  }
}

/** Our client speaks with Autobahn's server: it asks for the number of cases, for each, and for a report. */
function caseOf(path, isAutobahns) {
  const number = (isAutobahns ? /^\/runCase\?case=(\d+)/ : /^\/(\d+)$/).exec(path)?.[1];
  return number === undefined ? undefined : number - (isAutobahns ? 1 : 0);
}

function chat(path, wire, count) {
  if (path === "/getCaseCount") wire.send(frame(1, String(count), "server"));
  wire.send(frame(8, [3, 0xe8], "server"));
  wire.until(() => wire.close, CLIENT_MS).then(() => wire.socket.end());
}

async function inProcess(subject, url, cases, all) {
  const client = start(subject.client(url, String(cases.length)));
  try {
    await within(CLIENT_MS, Promise.race([all, client.exited.then(() => settled(all))]), () => client.said());
  } finally {
    await client.end();
  }
}

/** A client that is done may be so before its last case has been looked at. */
const settled = (all) => within(10_000, all, () => "the client ended before its last case");

async function inPage(name, url, cases, all) {
  const launched = await browsers.find((one) => one.name === name).launch();
  try {
    const page = await launched.newPage();
    const views = cases.map((_, at) => page.evaluate(recordSocket, { url: `${url}/${at}`, timeoutMs: CLIENT_MS }));
    await within(CLIENT_MS, all, () => `${name} did not play all cases`);
    const ends = (await Promise.all(views)).map((events) => events.at(-1));
    return { views: ends, version: launched.version() };
  } finally {
    await launched.close();
  }
}

async function within(ms, promise, words) {
  let timer;
  const limit = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(words() || `not within ${ms} ms`)), ms)));
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}
