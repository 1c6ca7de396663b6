// Generated from catalogue/catalogue.json by scripts/generate.mjs. Do not edit.

/** The names of the built-in catalogue. A server may have rows of its own. */
export type CatalogueName =
  | "bad_request"
  | "not_found"
  | "invalid_action"
  | "unauthorized"
  | "forbidden"
  | "rate_limited"
  | "replaced"
  | "slow_consumer"
  | "kicked"
  | "history_lost"
  | "protocol_error"
  | "unsupported_data"
  | "invalid_payload"
  | "policy_violation"
  | "message_too_big"
  | "timeout"
  | "internal_error"
  | "service_restart"
  | "overloaded"
  | "bad_gateway"
  | "gateway_timeout"
  | "going_away";

/** What a client has to know of a row. */
export interface Row {
  readonly name: CatalogueName;
  readonly code: number;
  /** The close codes that stand for it, in the dialects `app` and `iana`. */
  readonly app: number | null;
  readonly iana: number | null;
  readonly retry: "never" | "now" | "backoff" | "after" | "reauthenticate";
  readonly retryAfterMs: number;
  readonly spreadMs: number;
  /** In the words that a person is shown when the server had none. */
  readonly message: string;
}

const row = (
  name: CatalogueName,
  code: number,
  app: number | null,
  iana: number | null,
  retry: Row["retry"],
  message: string,
  retryAfterMs = 0,
  spreadMs = 0,
): Row => ({ name, code, app, iana, retry, retryAfterMs, spreadMs, message });

/** In the order in which they are looked up. */
export const ROWS: readonly Row[] = [
  row("bad_request", 4000, 4000, 1008, "never", "The message could not be understood"),
  row("not_found", 4001, 4001, 1008, "never", "There is nothing of that name"),
  row("invalid_action", 4002, 4002, 1008, "never", "That is not possible in the present state"),
  row("unauthorized", 4003, 4003, 3000, "reauthenticate", "Sign in and try again"),
  row("forbidden", 4004, 4004, 3003, "never", "You may not do that"),
  row("rate_limited", 4005, 4005, 1013, "after", "Too many requests", 1000, 500),
  row("replaced", 4006, 4006, 1008, "never", "A newer connection took over"),
  row("slow_consumer", 4007, 4007, 1013, "backoff", "You were not reading fast enough"),
  row("kicked", 4008, 4008, 1008, "never", "You were removed"),
  row("history_lost", 4009, null, null, "never", "That position is no longer kept"),
  row("protocol_error", 1002, 1002, 1002, "never", "The WebSocket protocol was broken"),
  row("unsupported_data", 1003, 1003, 1003, "never", "Binary messages are not accepted here"),
  row("invalid_payload", 1007, 1007, 1007, "never", "The text was not UTF-8"),
  row("policy_violation", 1008, 1008, 1008, "never", "Too many errors"),
  row("message_too_big", 1009, 1009, 1009, "never", "The message was too big"),
  row("timeout", 3008, 3008, 3008, "backoff", "Nothing was heard from you in time"),
  row("internal_error", 5000, 1011, 1011, "backoff", "Something went wrong on our side"),
  row("service_restart", 1012, 1012, 1012, "after", "The service is restarting", 1000, 5000),
  row("overloaded", 1013, 1013, 1013, "after", "Too busy at the moment", 5000, 5000),
  row("bad_gateway", 1014, 1014, 1014, "backoff", "The service behind this one failed"),
  row("gateway_timeout", 1014, 1014, 1014, "backoff", "The service behind this one did not answer in time"),
  row("going_away", 1001, 1001, 1001, "backoff", "The server is going away"),
];
