// What can be said of the end of a connection, and what its developer can do about it.

import type { Diagnosis } from "./diagnose.js";
import { SaywhyError, saidByServer } from "./error.js";
import type { Ended } from "./lifeline.js";
import { rowOfClose, type Retry } from "./retry.js";

/** What is known besides how it ended. */
export interface Circumstances {
  readonly url: string;
  readonly isOnline: boolean;
  readonly diagnosis: Diagnosis | undefined;
}

/** The server's last word, or else the Close, or else that there was none. `retry` is what the contract made of it. */
export function explain(ended: Ended, retry: Retry, circumstances: Circumstances): SaywhyError {
  const { said, close, wasReady, gaveUp } = ended;
  const { diagnosis } = circumstances;
  if (said) return saidByServer(said, { close, retry });
  if (diagnosis?.said) return saidByServer(diagnosis.said, { close, retry }, { source: "http", help: diagnosis.help });
  if (close && close.code !== 1006 && close.code !== 1015) return saidByClose(close.code, close.reason, retry);
  const message = gaveUp
    ? `The connection was given up: ${gaveUp}`
    : wasReady
      ? "The connection was lost"
      : "No connection could be made";
  const code = close?.code ?? 1006;
  const help = helpOn(ended, circumstances);
  return new SaywhyError("connection_lost", message, "network", { code, retry, fatal: true, closeCode: close?.code, help });
}

function saidByClose(code: number, reason: string, retry: Retry): SaywhyError {
  const row = rowOfClose(code);
  const message = reason || row?.message || `The server closed the connection (${code})`;
  const retryAfterMs = retry === "after" ? row?.retryAfterMs : undefined;
  return new SaywhyError(row?.name ?? "closed", message, "close", { code, retry, retryAfterMs, fatal: true, closeCode: code });
}

function helpOn({ wasOpen, wasReady }: Ended, { url, isOnline, diagnosis }: Circumstances): string | undefined {
  if (wasReady) return undefined;
  if (wasOpen) return "The handshake was answered, but nobody said `ready`. If the server does not speak saywhy.v1: connectPlain().";
  const { protocol, origin } = globalThis.location ?? {};
  const hints = [
    diagnosis?.help ??
      "To a script a refused handshake, a server that is down and a cable that was cut look the same. Look at the network " +
        "panel and the server's log, or pass `diagnose`. A server that does not know saywhy.v1 needs connectPlain().",
  ];
  if (!isOnline) hints.push("The platform says that it is offline.");
  if (protocol === "https:" && url.startsWith("ws:")) hints.push("The page came over https: it may connect to wss: only.");
  if (origin === "null") hints.push("The page is a file or in a sandbox: its origin is null, which servers refuse.");
  return hints.join(" ");
}
