// Servers that are wrong on purpose, each in its own way: what the judge has to notice.
import { casesOf, frame } from "./cases.mjs";
import { dial, listen } from "./connect.mjs";
import { faults, isBreach } from "./judge.mjs";
import { play } from "./play.mjs";

const CLOSE = 8;
const PING = 9;
const PONG = 10;
const LONG_MS = 60_000;

/** What it does instead, and in which cases that is wrong. */
const LIARS = {
  honest: { what: "answers as it should", isWrong: () => false },
  lax: { what: "takes everything for legal", isWrong: ({ answer }) => !answer.goes_on, answer: () => ({}) },
  mute: { what: "gives no reason", isWrong: isBreach, answer: ({ code }) => ({ code, reason: "" }) },
  vague: { what: "says 1000 to everything", isWrong: isBreach, answer: (right) => (right.reason ? { ...right, code: 1000 } : right) },
  strict: { what: "closes for what is legal too", isWrong: ({ answer }) => answer.goes_on, answer: ({ code = 1002, reason = "No" }) => ({ code, reason }) },
  hasty: { what: "does not wait for our Close", isWrong: ({ answer, closes }) => !answer.goes_on && !closes, isHasty: true },
  rude: { what: "ends with RST", isWrong: ({ answer }) => !answer.goes_on, isRude: true },
};

/** Resolves to what the judge missed or made up, as sentences; `say` is told of each server. */
export async function control(say = () => {}) {
  // One after the other: all of them in one process would keep each other waiting.
  const wrong = [];
  for (const [name, liar] of Object.entries(LIARS)) wrong.push(...(await judged(name, liar, say)));
  return wrong;
}

async function judged(name, liar, say) {
  const cases = casesOf("client");
  const server = await listen((path, wire) => lie(wire, cases[path.slice(1)], liar));
  const wrong = await Promise.all(
    cases.map(async (one, at) => {
      const seen = await play(await dial({ port: server.port, path: `/${at}` }), one, "client");
      const isNoticed = faults(one, seen, "client", false).length > 0;
      return isNoticed !== Boolean(liar.isWrong(one)) && `${name}: ${isNoticed ? "blamed" : "not noticed"} at "${one.name}"`;
    }),
  );
  server.end();
  say(`${name}, which ${liar.what}: ${cases.filter(liar.isWrong).length} of ${cases.length} answers are wrong`);
  return wrong.filter(Boolean);
}

/** Answers as `cases.json` says, but for its lie. The bytes of the case are not looked into. */
async function lie(wire, one, { answer = (right) => right, isHasty, isRude }) {
  const { code, reason } = answer(one.answer);
  if (code === undefined) return answerPing(wire);
  await wire.until(() => wire.end || wire.heard >= one.bytes.length, LONG_MS);
  const head = code === null ? [] : [code >> 8, code & 255];
  await wire.send(frame(CLOSE, [...head, ...Buffer.from(reason)], "server"));
  if (isRude) return wire.socket.resetAndDestroy();
  const closes = one.closes || isHasty;
  if (!closes) await wire.until(() => wire.end || wire.heard > one.bytes.length, LONG_MS);
  wire.socket.end();
}

async function answerPing(wire) {
  const isProbe = ({ opcode, payload }) => opcode === PING && payload.toString() === "still there?";
  await wire.until(() => wire.end || wire.frames.some(isProbe), LONG_MS);
  const probe = wire.frames.find(isProbe);
  if (probe) wire.send(frame(PONG, probe.payload, "server"));
}
