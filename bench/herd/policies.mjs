// When each client comes back, by default, as its own source has it: package, version and file stand beside it. What could
// not be read there is left out.
//
// `make(random)` is one client; its `again({ code, lasted, said })` is how many ms after a connection ended it makes the next
// one, or `undefined` when it makes none. `lasted` is false for a connection that was opened and closed at once, before
// anything was said over it. `said` is a goodbye, for those who listen.
import { RetryMachine } from "../../clients/typescript/dist/retry.js";

export const POLICIES = [
  {
    name: "Saywhy",
    isOurs: true,
    source: "clients/typescript/src/retry.ts",
    make(random) {
      const machine = new RetryMachine();
      let nowMs = 0;
      return {
        again({ code, lasted, said }) {
          for (const type of ["started", "open", "ready"]) machine.handle(nowMs, { type }, random());
          if (said) machine.handle(nowMs, { type: "goodbye", said }, random());
          if (lasted) nowMs += 60_000;
          let decision = machine.handle(nowMs, { type: "ended", code }, random());
          if (decision.do === "reauthenticate") decision = machine.handle(nowMs, { type: "token_renewed" }, random());
          if (decision.do === "give_up") return undefined;
          nowMs += decision.delayMs;
          return decision.delayMs;
        },
      };
    },
  },
  {
    name: "Socket.IO",
    // build/esm/manager.js: reconnectionDelay 1000, reconnectionDelayMax 5000, randomizationFactor 0.5; onclose() resets the
    // backoff. build/esm/contrib/backo2.js: the formula. manager.js open(): a socket that closes before its handshake is
    // waited for until `timeout`, 20000.
    source: "socket.io-client 4.8.4, build/esm/manager.js",
    rule: "1 s ± 0.5, × 2, up to 5 s",
    make: (random) => ({
      again({ lasted }) {
        if (!lasted) return 20_000;
        const part = random();
        const deviation = Math.floor(part * 0.5 * 1_000);
        return (Math.floor(part * 10) & 1) === 0 ? 1_000 - deviation : 1_000 + deviation;
      },
    }),
  },
  {
    name: "Phoenix",
    // reconnectAfterMs; onConnOpen() resets the timer, and onConnClose() starts it whatever the code.
    source: "phoenix 1.8.16, assets/js/phoenix/socket.js",
    rule: "10, 50, 100, … 2000 ms, then 5 s; from the start after every open",
    make: () => ({ again: () => 10 }),
  },
  {
    name: "SignalR",
    // [0, 2000, 10000, 30000, null]. dist/esm/HubConnection.js: only where withAutomaticReconnect() was asked for, and not when
    // start() fails.
    source: "@microsoft/signalr 10.0.11, dist/esm/DefaultReconnectPolicy.js",
    rule: "0, 2, 10, 30 s, then no more",
    make: () => ({ again: ({ lasted }) => (lasted ? 0 : undefined) }),
  },
  {
    name: "reconnecting-websocket",
    // DEFAULT: minReconnectionDelay 1000 + Math.random() * 4000, drawn once; grows by 1.3 up to 10000; minUptime 5000.
    source: "reconnecting-websocket 4.4.0, reconnecting-websocket.ts",
    rule: "1 to 5 s, × 1.3, up to 10 s",
    make: (random) => growing(1_000 + random() * 4_000),
  },
  {
    name: "PartySocket",
    // DEFAULT: minReconnectionDelay 3000; grows by 1.3 up to 10000; minUptime 5000.
    source: "partysocket 1.3.0, dist/ws.js",
    rule: "3 s, × 1.3, up to 10 s",
    make: () => growing(3_000),
  },
  {
    name: "graphql-ws",
    // retryAttempts 5; retryWait: 2^retries s + 300 to 3000 ms. shouldRetryConnectOrThrow(): 1001, 1005, 1006, 1012 to 1014 are
    // tried again, the others up to 1999, 4400, 4401, 4406, 4409, 4429, 4500 and 4004, 4005 are not.
    source: "graphql-ws 6.4.2, dist/client.js",
    rule: "1 s × 2ⁿ + 0.3 to 3 s, five times",
    make(random) {
      let retries = 0;
      return {
        again({ code, lasted }) {
          const isFatal = code <= 1_999 && ![1_000, 1_001, 1_005, 1_006, 1_012, 1_013, 1_014].includes(code);
          if (isFatal || [4_004, 4_005, 4_400, 4_401, 4_406, 4_409, 4_429, 4_500].includes(code)) return undefined;
          if (lasted) retries = 0;
          if (retries === 5) return undefined;
          return 2 ** retries++ * 1_000 + Math.floor(random() * 2_700 + 300);
        },
      };
    },
  },
  {
    name: "Centrifuge",
    // minReconnectDelay 500, maxReconnectDelay 20000; backoff(); attempts are forgotten on the answer to `connect`. Final are 3500
    // to 3999 and 4500 to 4999.
    source: "centrifuge 5.8.0, build/index.mjs",
    rule: "0.5 s + full jitter from 0.5 s, × 2, up to 20 s",
    make(random) {
      let step = 0;
      return {
        again({ code, lasted }) {
          if ((code >= 3_500 && code < 4_000) || (code >= 4_500 && code < 5_000)) return undefined;
          if (lasted) step = 0;
          const most = Math.min(20_000, 500 * 2 ** Math.min(step++, 31));
          return Math.min(20_000, 500 + Math.floor(random() * (most + 1)));
        },
      };
    },
  },
  {
    name: "Pusher",
    // buildConnectionCallbacks() and buildErrorCallbacks(): retryIn(1000). protocol/protocol.ts getCloseAction(): refused are 4001 to
    // 4099 and 4300 and above; at once, 4000 and 4200 to 4299.
    source: "pusher-js 8.6.0, src/core/connection/connection_manager.ts",
    rule: "1 s",
    make: () => ({
      again({ code }) {
        if ((code > 4_000 && code < 4_100) || code >= 4_300) return undefined;
        return code === 4_000 || (code >= 4_200 && code < 4_300) ? 0 : 1_000;
      },
    }),
  },
  {
    name: "Action Cable",
    // staleThreshold 6 s, reconnectionBackoffRate 0.15: getPollInterval(), reconnectIfStale(). Pings come every 3 s.
    source: "@rails/actioncable 8.1.400, src/connection_monitor.js",
    rule: "looks every 6 to 12 s, then every 6 s × 1.15ⁿ",
    make: (random) => polling(random),
  },
  {
    name: "stompjs",
    // reconnectDelay 5000; reconnectTimeMode LINEAR.
    source: "@stomp/stompjs 7.5.0, esm6/client.js",
    rule: "5 s",
    make: () => ({ again: () => 5_000 }),
  },
];

/** reconnecting-websocket, and what grew out of it: a session of 5 s sets it back. */
function growing(leastMs) {
  let count = 0;
  return {
    again({ lasted }) {
      if (lasted) count = 0;
      return Math.min(10_000, leastMs * 1.3 ** count++);
    },
  };
}

/** Action Cable: a timer of its own, which looks whether anything was heard for 6 s, and whether that is not too fresh. */
function polling(random) {
  const STALE_MS = 6_000;
  let attempts = 0;
  let nowMs = 0;
  let pollAtMs;
  let heardAtMs = 0;
  const intervalMs = () => STALE_MS * 1.15 ** Math.min(attempts, 10) * (1 + (attempts === 0 ? 1 : 0.15) * random());
  pollAtMs = intervalMs();
  return {
    again({ lasted }) {
      if (lasted) {
        // Somewhere between two looks, and between two Pings.
        attempts = 0;
        pollAtMs = nowMs + intervalMs() * random();
        heardAtMs = nowMs - 3_000 * random();
      }
      const endedAtMs = nowMs;
      for (;;) {
        nowMs = pollAtMs;
        const isStale = nowMs - heardAtMs > STALE_MS;
        if (isStale) attempts += 1;
        pollAtMs += intervalMs();
        if (isStale && nowMs - endedAtMs >= STALE_MS) return nowMs - endedAtMs;
      }
    },
  };
}
