// What is measured. A work has a unit, the arguments of the load, and those who do it; `against` names whom ours is
// compared with, and the goal.

const RUST = ["tungstenite", "tungstenite-4k", "tokio-websockets", "fastwebsockets"];
const BEST_RUST = { best: RUST, name: "the best Rust crate" };

const echo = (...args) => ({
  unit: "message",
  by: ["saywhy", ...RUST, "ws"],
  start: "echo",
  load: () => ["echo", ...args],
});

const rooms = (...args) => ({
  unit: "delivery",
  by: ["saywhy-serve", "ws"],
  start: "rooms",
  load: (by) => ["rooms", ...(by === "ws" ? ["--protocol", "plain"] : ["--protocol", "saywhy", "--path", "/ws"]), ...args],
});

const PROXIES = ["nginx", "haproxy", "caddy"];

/** The same load through a proxy, in front of an echo server whose cost does not count. */
const relay = (...args) => ({
  unit: "message",
  by: ["saywhy-serve", ...PROXIES],
  start: "relay",
  load: () => ["echo", ...args],
});

const idle = (...args) => ({ ...echo(), unit: "connection", load: () => ["idle", "--connections", "10000", ...args], metric: "bytes" });

export const WORKS = [
  {
    id: "echo-64",
    title: "Echo, 64 B, ping-pong",
    says: "64 connections, each with one text message under way.",
    ...echo("--connections", "64", "--bytes", "64"),
    against: { ...BEST_RUST, goal: 1.05 },
  },
  {
    id: "echo-64-pipelined",
    title: "Echo, 64 B, pipelined",
    says: "64 connections, each with 256 text messages under way, sent with one write.",
    ...echo("--connections", "64", "--bytes", "64", "--batch", "256"),
    against: { ...BEST_RUST, goal: 1.05 },
  },
  {
    id: "echo-16k",
    title: "Echo, 16 KiB",
    says: "64 connections, each with one binary message under way.",
    ...echo("--connections", "64", "--bytes", "16384", "--binary"),
    against: { ...BEST_RUST, goal: 1.05 },
  },
  {
    id: "echo-1m",
    title: "Echo, 1 MiB",
    says: "8 connections, each with one binary message under way.",
    ...echo("--connections", "8", "--bytes", "1048576", "--binary"),
    against: { ...BEST_RUST, goal: 1.05 },
  },
  {
    id: "refusal-close",
    title: "Refusal that a browser can read",
    says:
      "64 connections at a time: handshake, 101 with message and Close, the client's Close, FIN. nginx answers the same " +
      "handshake with a 401 that no browser shows to a script.",
    unit: "connection",
    by: ["saywhy", "saywhy-serve", "tungstenite", "ws", "nginx"],
    start: "refuse",
    load: (by) => ["refusal", "--browser", "--form", by === "nginx" ? "http" : "close", "--path", refused(by)],
    against: { best: ["nginx"], name: "nginx's 401", goal: 1.15 },
  },
  {
    id: "refusal-http",
    title: "Refusal in HTTP",
    says: "64 connections at a time: handshake, 401, the client's FIN. Ours has a problem document as its body.",
    unit: "connection",
    by: ["saywhy", "saywhy-serve", "ws", "nginx"],
    start: "refuse",
    load: (by) => ["refusal", "--form", "http", "--path", by === "ws" ? "/" : refused(by)],
    against: { best: ["nginx"], name: "nginx's 401", goal: 1.0 },
  },
  {
    id: "rooms-1x1000",
    title: "Rooms, 1 room of 1,000",
    says: "A member says 128 B; when all have heard it, the next message follows.",
    ...rooms("--rooms", "1", "--members", "1000"),
    against: { best: ["ws"], name: "ws", goal: 1.0 },
  },
  {
    id: "rooms-1x1000-burst",
    title: "Rooms, 1 room of 1,000, bursts",
    says: "A member says 16 messages of 128 B with one write; when all have heard them, the next 16 follow.",
    ...rooms("--rooms", "1", "--members", "1000", "--burst", "16"),
    against: { best: ["ws"], name: "ws", goal: 1.0 },
  },
  {
    id: "rooms-1000x5",
    title: "Rooms, 1,000 rooms of 5",
    says: "A message of 128 B at a time in a room, in 64 of the rooms at a time.",
    ...rooms("--rooms", "1000", "--members", "5", "--active", "64"),
    against: { best: ["ws"], name: "ws", goal: 1.0 },
  },
  {
    id: "idle-64",
    title: "Idle, after a message of 64 B",
    says: "Resident memory of the server with 10,000 connections that had one message echoed, less that without them.",
    ...idle("--bytes", "64"),
    against: { ...BEST_RUST },
    limit: { of: "saywhy", at_most: 1_500 },
  },
  {
    id: "idle-16k",
    title: "Idle, after a message of 16 KiB",
    says: "The same, but that the message was bigger: who keeps its buffer?",
    ...idle("--bytes", "16384"),
    against: { ...BEST_RUST },
    limit: { of: "saywhy", at_most: 1_500 },
  },
  {
    id: "relay-64",
    title: "Relay, 64 B, ping-pong",
    says: "64 connections through a proxy, each with one text message under way, which an echo server sends back.",
    ...relay("--connections", "64", "--bytes", "64"),
    against: { best: ["nginx"], name: "nginx", goal: 1.0 },
  },
  {
    id: "relay-64-pipelined",
    title: "Relay, 64 B, pipelined",
    says: "The same, each with 256 text messages under way, sent with one write.",
    ...relay("--connections", "64", "--bytes", "64", "--batch", "256"),
    against: { best: ["nginx"], name: "nginx" },
  },
  {
    id: "relay-16k",
    title: "Relay, 16 KiB",
    says: "The same with one binary message of 16 KiB under way.",
    ...relay("--connections", "64", "--bytes", "16384", "--binary"),
    against: { best: PROXIES, name: "the best proxy", goal: 0.85 },
  },
  {
    id: "relay-latency",
    title: "Relay, time for a round trip",
    says:
      "One connection with one text message of 64 B under way: from the client through the proxy to the echo server and back. " +
      "What a proxy adds is the difference to none.",
    ...relay("--connections", "1", "--bytes", "64"),
    by: ["saywhy-serve", ...PROXIES, "direct"],
    metric: "latency",
  },
  {
    id: "relay-idle",
    title: "Relay, idle",
    says: "Resident memory of the proxy with 5,000 connections that had one message of 64 B echoed, less that without them.",
    ...relay(),
    unit: "connection",
    load: () => ["idle", "--connections", "5000", "--bytes", "64"],
    metric: "bytes",
    against: { best: PROXIES, name: "the best proxy" },
    limit: { of: "saywhy-serve", at_most: 1_500 },
  },
  {
    id: "growth-idle",
    title: "Growth, 1,000 to 18,000 connections, most of them idle",
    says: "64 B ping-pong on always the same 64 connections; the others are open and silent. What counts is the ratio.",
    ...echo("--connections", "1000,18000", "--active", "64", "--same", "--bytes", "64"),
    metric: "growth",
    limit: { of: "saywhy", at_most: 1.2 },
  },
  {
    id: "growth-turns",
    title: "Growth, 1,000 to 18,000 connections, all in turn",
    says:
      "64 B ping-pong; 64 connections at a time have a message under way, all in turn, so that each finds the processor's " +
      "caches full of others: whoever is measured, most of the growth is the kernel's.",
    ...echo("--connections", "1000,18000", "--active", "64", "--bytes", "64"),
    metric: "growth",
    against: { ...BEST_RUST },
  },
];

function refused(by) {
  return by === "saywhy-serve" ? "/ws" : "/refused";
}

/** `echo` stands for all works that begin so. */
export function choose(names) {
  if (names.length === 0) return WORKS;
  for (const name of names) {
    if (!WORKS.some(({ id }) => fits(id, name))) {
      throw new Error(`there is no work ${name}\nhint: ${WORKS.map(({ id }) => id).join(", ")}, or the beginning of one`);
    }
  }
  return WORKS.filter(({ id }) => names.some((name) => fits(id, name)));
}

const fits = (id, name) => id === name || id.startsWith(`${name}-`);

/** What counts of a result of the load. */
export function value(work, result) {
  // With one message under way, the time between two answers is that of a round trip.
  if (work.metric === "latency") return 1_000_000 / result.per_s;
  if (work.metric === "growth") return result.stages.at(-1).cpu_us / result.stages[0].cpu_us;
  return work.metric === "bytes" ? result.bytes : result.cpu_us;
}
