// The floods, who stands them, and what is asked of ours.

const MIB = 2 ** 20;
/** What one connection may cost, whatever it does: more than a message (64 KiB) and all that may wait for it (1 MiB). */
const ONE_MIB = 4;
/** 1,000 that are open: 8 KiB for each, an eighth of what they announce. */
const CROWD_MIB = 8;
/** 1,000 that are new: 8 KiB is what hyper reads a head into, and as much again is for the connection. */
const NEW_MIB = 16;

export const FLOODS = [
  { kind: "pings-unread", title: "Pings, never reading" },
  { kind: "pings", title: "Pings, reading the Pongs" },
  { kind: "pongs", title: "Pongs that nobody asked for" },
  { kind: "fragments", title: "One message in fragments of 1 byte, without end" },
  { kind: "empty-fragments", title: "One message in empty fragments, without end" },
  { kind: "declared-limit", title: "1,000 connections that announce almost 64 KiB and send 1 byte", most: CROWD_MIB },
  { kind: "declared-gib", title: "1,000 connections that announce 1 GiB and send 1 byte", most: CROWD_MIB },
  { kind: "echo-unread", title: "Messages of 32 KiB to be echoed, never reading" },
  { kind: "bombs", title: "Messages of 60 KiB that inflate to 60 MiB", start: "deflate" },
  { kind: "handshakes", title: "1,000 handshakes, a byte at a time, without end", most: NEW_MIB },
];

/** In the order of the columns. */
export const BY = ["saywhy", "saywhy-unmetered", "tungstenite", "tokio-websockets", "fastwebsockets", "soketto", "ws"];

const COMPRESS = ["saywhy", "saywhy-unmetered", "ws"];

/** Why this one is not measured at this flood, if it is not. */
export function absence({ start }, by) {
  if (start !== "deflate" || COMPRESS.includes(by)) return undefined;
  // Its feature for it is one of flate2, too: it would replace what ours inflates with.
  return by === "soketto" ? "not measured" : "not supported";
}

export const isOurs = (by) => by.startsWith("saywhy");

/** What is wrong with ours, as sentences. */
export function faults({ title, most = ONE_MIB }, { grown_bytes, witness }) {
  return [
    grown_bytes > most * MIB && `${title}: it took ${mib(grown_bytes)}, and ${most} MiB are allowed`,
    witness !== "heard" && `${title}: ${witness}`,
  ].filter(Boolean);
}

/** `0.1 MiB, 1008`, and what became of the other client if it was not heard. */
export function inShort({ grown_bytes, ends, witness }) {
  const said = Object.entries(ends).sort(([, a], [, b]) => b - a);
  const shown = said.length === 1 ? said[0][0] : said.map(([end, count]) => `${count} × ${end}`).join(" and ");
  return `${mib(grown_bytes)}, ${shown}${witness === "heard" ? "" : `; ${witness}`}`;
}

const mib = (bytes) => `${bytes < 10 * MIB ? (bytes / MIB).toFixed(1) : Math.round(bytes / MIB).toLocaleString("en")} MiB`;
