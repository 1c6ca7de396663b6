// What was seen, against what is right; and in as few words as a table has room for.

/** Characters of a reason in a table. */
const MOST = 110;
const PROTOCOL_ERROR = 1002;

/** What is wrong with what ours did, as sentences; `speaks` says whether it sends messages of errors. */
export function faults({ answer, closes }, seen, sender, speaks) {
  if (answer.goes_on) return seen.goesOn ? [] : [`is legal, but: ${inShort(seen)}`];
  if (!seen.close) return [`no Close, but: ${inShort(seen)}`];
  const told = seen.messages.map(errorOf).findLast((error) => error?.fatal);
  const row = speaks ? answer.row : undefined;
  return [
    seen.close.code !== answer.code && `the code is ${seen.close.code}, not ${answer.code}`,
    seen.close.reason !== answer.reason && `the reason is "${seen.close.reason}", not "${answer.reason}"`,
    told?.name !== row && `the message before it is ${told?.name ?? "missing"}, not ${row ?? "none"}`,
    row && told?.message !== answer.reason && `the message says "${told?.message}"`,
    !closes && seen.end && `${seen.end} came before our Close`,
    seen.finish !== "FIN" && `it ended with ${seen.finish ?? "nothing"}, not FIN`,
    sender === "server" && closes && seen.end && `${seen.end} is the server's to send first`,
  ].filter(Boolean);
}

function errorOf(text) {
  try {
    const { type, data } = JSON.parse(text);
    return type === "error" ? data : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a case breaks a rule, and does not only look as if it did. */
export function isBreach({ answer }) {
  return Boolean(answer.reason);
}

/** The kinds of answers to a breach, from the best to the worst. */
export const KINDS = ["code and reason", "code, no reason", "no code", "accepted", "silence"];

export function kindOf(seen) {
  if (seen.close?.code != null) return seen.close.reason ? KINDS[0] : KINDS[1];
  if (seen.close || seen.end) return KINDS[2];
  return seen.goesOn ? KINDS[3] : KINDS[4];
}

/** Whether something legal was taken for it: it went on, or was answered with a Close that finds no fault. */
export function isTaken({ answer }, seen) {
  return answer.goes_on ? seen.goesOn : seen.close !== undefined && seen.close.code !== PROTOCOL_ERROR;
}

/** `1002 "why"`, with an arrow where the peer ended the connection without waiting for our Close. */
export function inShort({ messages, close, end, goesOn }, closes = false) {
  if (!close) return end ? `${end} only` : goesOn ? "accepted" : "silence";
  const message = messages.some((text) => errorOf(text)?.fatal) ? "message, " : "";
  const said = close.code === null ? "Close without a code" : `${close.code}${words(close.reason)}`;
  return `${message}${said}${end && !closes ? ` → ${end}` : ""}`;
}

function words(reason) {
  if (!reason) return ", no reason";
  return reason.length > MOST ? ` "${reason.slice(0, 10)}…", ${Buffer.byteLength(reason)} bytes` : ` "${reason}"`;
}

/** What a page saw: the code, the reason, and whether the browser calls it clean. */
export function pageInShort({ page, goesOn, close, end }) {
  if (!close && !end) return goesOn ? "open" : "waits";
  return `${page.code}${page.reason ? words(page.reason) : ""}${page.wasClean ? ", clean" : ""}`;
}
