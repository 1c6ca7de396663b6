// From what a page observed to words for its reader.

/** What is known once the events are in. Everything comes from the events: nothing is looked up. */
export function outcomeOf(events) {
  const messages = events.filter((event) => event.message).map((event) => event.message);
  const close = events.find((event) => event.kind === "close") ?? null;
  const said =
    messages.find((message) => message.type === "error" && message.data?.fatal) ??
    messages.find((message) => message.type === "goodbye") ??
    messages.findLast((message) => message.type === "error");
  const data = said?.data ?? {};
  return {
    code: data.code ?? null,
    name: data.name ?? "",
    message: data.message ?? "",
    retry: data.retry ?? "",
    retryAfterMs: data.retry_after_ms ?? null,
    spreadMs: data.spread_ms ?? 0,
    details: data.details ?? {},
    requestId: said?.meta?.request_id ?? "",
    connectionId: messages.find((message) => message.type === "ready")?.data?.connection_id ?? "",
    opened: events.some((event) => event.kind === "open"),
    silence: events.find((event) => event.kind === "silence") ?? null,
    close,
  };
}

/**
 * Whether the page could tell one failure from another: there were words, or a close code that means something.
 * 1005 and 1006 are what a browser reports when it was told nothing.
 */
export function isExplained({ message, close }) {
  return message !== "" || (close !== null && (close.reason !== "" || ![1000, 1005, 1006].includes(close.code)));
}

/** What a front end can show with nothing but this at hand. */
export function sentenceOf({ message, silence, opened, close }) {
  if (message) return message;
  if (silence) return "";
  if (!close) return "";
  if (close.reason) return close.reason;
  if (close.code !== 1006) return `Disconnected (${close.code})`;
  return opened ? "Connection lost (1006)" : "Connection failed (1006)";
}

/** `close` is `null` when the session goes on: then it is the message that should not come again. */
export function retryInWords({ retry, retryAfterMs, spreadMs, close }) {
  switch (retry) {
    case "never":
      return close === null ? "do not send that again" : "do not try again";
    case "now":
      return "try again at once";
    case "after": {
      if (retryAfterMs === null) return "try again later";
      const [from, to] = [retryAfterMs, retryAfterMs + spreadMs].map((ms) => (ms / 1000).toFixed(1));
      return from === to ? `try again in ${from} s` : `try again in ${from}–${to} s`;
    }
    case "backoff":
      return "try again, backing off from 1 s to 30 s";
    case "reauthenticate":
      return "sign in, then try once";
    default:
      return "";
  }
}

const CODE_NAMES = {
  1000: "Normal Closure",
  1001: "Going Away",
  1002: "Protocol Error",
  1003: "Unsupported Data",
  1005: "No Status Received",
  1006: "Abnormal Closure",
  1007: "Invalid Payload",
  1008: "Policy Violation",
  1009: "Message Too Big",
  1011: "Internal Error",
  1012: "Service Restart",
  1013: "Try Again Later",
  1014: "Bad Gateway",
};

/** The registered name of a close code, or "". */
export function codeName(code) {
  return CODE_NAMES[code] ?? "";
}
