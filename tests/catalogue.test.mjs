// Every row of the catalogue, over a real socket: by what really causes it, and as a refusal in each form and dialect.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { ROOMY, TIMESTAMP, serve } from "./support/client.mjs";
import { closeInfo } from "./support/raw.mjs";

const limit = { timeout: 120_000 };
const { rows } = JSON.parse(readFileSync(new URL("../catalogue/catalogue.json", import.meta.url), "utf8"));
const room = "lobby";

// A cause resolves to what the client was told: `told`, a message, and `close`, where the session ended.

/** A session does something wrong and goes on. */
const replied = (type, data) => async (t) => {
  const alice = await (await serve(t)).open("alice");
  const told = await alice.ask(type, data);
  await alice.settle();
  return { told };
};

/** A session ends by itself, or by what `act` does to it. */
const ended = (config, act = () => {}) => async (t) => {
  const server = await serve(t, { config });
  const alice = await server.open("alice");
  await act(alice, server);
  return heard(alice);
};

const heard = async (session) => ({ told: await session.take("error", "goodbye"), close: await session.closed });

/** A peer without a WebSocket library writes these frames. */
const wrote = (...frames) => async (t) => {
  const peer = await (await serve(t)).raw({ who: "alice" });
  for (const frame of frames) await peer.sendFrame(frame);
  return listen(peer);
};

/** Reads what a raw peer is told, answers its Close, and sees the connection end in good order. */
async function listen(peer) {
  const texts = [];
  for await (const { opcode, payload } of peer.frames) {
    if (opcode === 1) texts.push(JSON.parse(payload));
    if (opcode !== 8) continue;
    await peer.sendFrame({ opcode: 8, payload });
    peer.fin(); // behind a frame that was announced and not sent, the server takes this Close for its payload
    assert.deepEqual(await peer.ended, { error: null, rest: Buffer.alloc(0) });
    return { told: texts.at(-1), close: closeInfo(payload), texts };
  }
  throw new Error("the connection ended without a Close");
}

const byRefusal = (name) => async (t) => {
  const server = await serve(t);
  return heard(server.connect({ at: new URL(`/dev/refuse/${name}`, server.url).href }));
};

/** A session whose handler fails as it is told. */
async function faults(t) {
  const server = await serve(t, { panics: true });
  const session = server.connect({ at: new URL("/dev/faults", server.url).href });
  await session.take("ready");
  return session;
}

const causes = {
  bad_request: {
    "a field is missing": replied("join", {}),
    "a subprotocol that is not spoken": async (t) => {
      const server = await serve(t);
      const session = server.connect({ protocols: ["mqtt"], headers: { origin: new URL(server.page).origin } });
      const close = await session.closed;
      assert.deepEqual(session.seen, [], "no JSON into a foreign subprotocol");
      return { close };
    },
  },
  not_found: {
    "a room": replied("join", { room: "nowhere" }),
    "a path": async (t) => {
      const server = await serve(t);
      return heard(server.connect({ at: new URL("/no/such/path", server.url).href }));
    },
  },
  invalid_action: { "not joined": replied("send", { room, body: 1 }) },
  unauthorized: {
    "no token": async (t) => heard((await serve(t)).connect()),
    "an expired one": async (t) => {
      const server = await serve(t);
      return heard(server.connect({ token: await server.mint("alice", { expires_in_s: -60 }) }));
    },
    "a bad one, to renew": ended("", (alice) => alice.send({ type: "authenticate", data: { token: "not-a-token" } })),
  },
  forbidden: {
    "no permission": async (t) => {
      const alice = await (await serve(t)).open("alice", { rooms: {} });
      return { told: await alice.ask("join", { room }) };
    },
    "a page of a foreign origin": async (t) => heard((await serve(t)).connect({ headers: { origin: "https://evil.example" } })),
  },
  rate_limited: {
    "too many messages": async (t) => {
      const server = await serve(t, { config: "[limits]\nmessages_per_s = 1\nmessage_burst = 1" });
      const alice = await server.open("alice");
      const answers = await Promise.all([alice.ask("ping", {}), alice.ask("ping", {})]);
      return { told: answers[1] };
    },
    "too many from one address": async (t) => {
      const server = await serve(t, { config: "[limits]\nconnections_per_address = 1" });
      await server.open("alice");
      return heard(server.connect());
    },
    "too many of one identity": async (t) => {
      const server = await serve(t, { config: "[limits]\nconnections_per_identity = 1" });
      const token = await server.mint("alice");
      await server.open("alice", { token });
      return heard(server.connect({ token }));
    },
  },
  replaced: {
    "a newer connection": ended(`[[route]]\npath = "/ws"\nrooms = {}\none_per_identity = true`, (_, server) => server.open("alice")),
  },
  slow_consumer: {
    "nothing is read": async (t) => {
      const server = await serve(t, { config: ROOMY });
      const peer = await server.raw({ who: "alice" });
      await peer.sendFrame({ payload: JSON.stringify({ type: "join", data: { room } }) });
      while ((await server.api("GET", "/rooms/lobby/members")).body.members.length === 0);
      peer.pause();
      // More than kernels keep, and then more than the queue takes.
      const body = "x".repeat(60_000);
      for (let n = 0; n < 300; n++) await server.api("POST", "/rooms/lobby/messages", { body });
      peer.resume();
      return listen(peer);
    },
    "more than anyone could read": async (t) => {
      const session = await faults(t);
      session.send({ type: "slow", data: {} });
      return heard(session);
    },
  },
  kicked: {
    "by the operator": ended("", (alice, server) => server.api("DELETE", `/connections/${alice.id}`)),
    "with words": ended("", (alice, server) => server.api("DELETE", `/connections/${alice.id}`, { message: "Enough" })),
  },
  history_lost: {
    "a log that is gone": replied("join", { room, since: { epoch: "0".repeat(16), offset: 1, tag: "0".repeat(16) } }),
  },
  protocol_error: {
    "no mask": wrote({ payload: "{}", mask: false }),
    "a reserved bit": wrote({ payload: "{}", rsv: 4 }),
    "an unknown opcode": wrote({ opcode: 3 }),
    "nothing to continue": wrote({ opcode: 0, payload: "{}" }),
    "a message within a message": wrote({ payload: "{", fin: false }, { payload: "}" }),
    "a fragmented Ping": wrote({ opcode: 9, fin: false }),
    "a long Ping": wrote({ opcode: 9, payload: "x".repeat(126) }),
    "a length of 2⁶³": wrote({ declaredLength: 2 ** 63 }),
  },
  unsupported_data: { "a binary message": ended("", (alice) => alice.send(Buffer.from([1, 2, 3]))) },
  invalid_payload: {
    "no UTF-8": wrote({ payload: Buffer.from([0xff]) }),
    "no UTF-8, over two fragments": wrote({ payload: Buffer.from([0xc3]), fin: false }, { opcode: 0, payload: "x", fin: false }),
  },
  policy_violation: {
    "too many errors": ended("[limits]\nerrors = 1", async (alice) => {
      await alice.error("leave", { room });
      await alice.error("leave", { room });
    }),
    "too many Pings": ended("[limits]\nmessages_per_s = 1\nmessage_burst = 1", (alice) => {
      for (let n = 0; n < 10; n++) alice.socket.ping();
    }),
  },
  message_too_big: {
    "one frame": ended("", (alice) => alice.send({ type: "send", data: { room, body: "x".repeat(70_000) } })),
    "by its header alone": wrote({ payload: "{}", declaredLength: 2 ** 40 }),
    "two fragments": wrote({ payload: "x".repeat(60_000), fin: false }, { opcode: 0, payload: "x".repeat(60_000), fin: false }),
  },
  timeout: {
    "no Ping is answered": async (t) => listen(await (await serve(t, { config: "[limits]\nheartbeat_ms = 200" })).raw({ who: "alice" })),
  },
  internal_error: {
    "a handler fails": async (t) => ({ told: await (await faults(t)).ask("fail", {}) }),
    "a handler fails for good": async (t) => {
      const session = await faults(t);
      session.send({ type: "break", data: {} });
      return heard(session);
    },
    "a handler panics": async (t) => {
      const session = await faults(t);
      session.send({ type: "panic", data: {} });
      return heard(session);
    },
    "a panic while it is decided": async (t) => {
      const server = await serve(t, { panics: true });
      return heard(server.connect({ at: new URL("/dev/panic", server.url).href }));
    },
  },
  service_restart: {
    "goodbye": ended("", (_, server) => void server.stop("SIGTERM")),
    "a newcomer": async (t) => {
      // One that answers no Close holds the drain up.
      const server = await serve(t);
      await server.raw({ who: "alice" });
      void server.stop("SIGTERM");
      for (;;) {
        const newcomer = await heard(server.connect());
        if (newcomer.told.data.name !== "unauthorized") return newcomer;
      }
    },
  },
  overloaded: {
    "too many connections": async (t) => {
      const server = await serve(t, { config: "[limits]\nconnections = 1" });
      await server.open("alice");
      return heard(server.connect());
    },
    "too many rooms": async (t) => {
      const server = await serve(t, { config: `[[route]]\npath = "/ws"\nrooms = { max_rooms = 3 }` });
      return { told: await (await server.open("alice")).ask("open_room", { room: "one more" }) };
    },
  },
  // Their causes come with the gateway.
  bad_gateway: { "the application says so": byRefusal("bad_gateway") },
  gateway_timeout: { "the application says so": byRefusal("gateway_timeout") },
  going_away: { "no message for too long": ended("[limits]\nidle_ms = 200") },
};

describe("by its cause", limit, () => {
  const produced = new Set();
  for (const [name, ways] of Object.entries(causes)) {
    test(name, async (t) => {
      const row = rows.find((row) => row.name === name);
      assert.ok(row, "the catalogue has no such row");
      for (const [way, cause] of Object.entries(ways)) {
        await t.test(way, async (t) => {
          const { told, close } = await cause(t);
          if (told) assertTold(told, row, close !== undefined);
          if (close) assert.equal(close.code, row.close.app);
          if (told && close) assert.equal(close.reason, told.data.message);
          produced.add(name);
        });
      }
    });
  }
  test("there is no row without a cause", () => {
    assert.deepEqual(rows.map(({ name }) => name).filter((name) => !produced.has(name)), []);
  });
});

function assertTold({ type, data, meta }, row, fatal) {
  const { message, retry_after_ms, spread_ms, details, ...rest } = data;
  assert.deepEqual(rest, { code: row.code, name: row.name, fatal, retry: row.retry });
  assert.ok(message.length > 0 && Buffer.byteLength(message) <= 123, message);
  assert.equal(Number.isInteger(retry_after_ms), row.retry === "after", JSON.stringify(data));
  assert.ok(spread_ms === undefined || row.retry === "after");
  assert.ok(details === undefined || Object.values(details).every((value) => /string|number|boolean/.test(typeof value)));
  assert.ok(type === "error" || (type === "goodbye" && row.name === "service_restart"), type);
  assert.match(meta.request_id, /^[!-~]{1,64}$/);
  assert.match(meta.timestamp, TIMESTAMP);
}

describe("as a refusal", limit, () => {
  const room_full = {
    name: "room_full", code: 4100, http: 409, retry: "after", retry_after_ms: 1_500, spread_ms: 0, message: "The room is full",
    close: { app: 4100, iana: 1008, policy: 1008, http: 4409, "graphql-ws": 1013 },
  };
  const config = `[[error]]\nname = "room_full"\ncode = 4100\nhttp = 409\nretry = "after"\nretry_after_ms = 1500\nspread_ms = 0
message = "The room is full"`;

  for (const dialect of ["app", "iana", "policy", "http", "graphql-ws"]) {
    test(`in the dialect ${dialect}`, async (t) => {
      const server = await serve(t, { config, args: ["--dialect", dialect] });
      for (const row of [...rows, room_full]) {
        const peer = await server.raw({ at: new URL(`/dev/refuse/${row.name}`, server.url).href, protocols: ["saywhy.v1"] });
        assert.deepEqual([peer.status, peer.headers["saywhy-refused"]], [101, row.name]);
        const { told, close, texts } = await listen(peer);
        assert.deepEqual(close, { code: row.close[dialect] ?? 1008, reason: row.message }, row.name);
        assert.equal(texts.length, dialect === "graphql-ws" ? 0 : 1, row.name);
        if (told === undefined) continue;
        assertTold(told, row, true);
        assert.equal(told.data.message, row.message);
        assert.deepEqual([told.data.retry_after_ms, told.data.spread_ms ?? 0], [row.retry_after_ms, row.spread_ms ?? 0]);
      }
    });
  }

  test("in HTTP", async (t) => {
    const server = await serve(t, { config });
    for (const row of [...rows, room_full]) {
      const { status, headers, body } = await server.raw({ at: new URL(`/dev/refuse/${row.name}`, server.url).href });
      const { request_id, ...problem } = JSON.parse(body);
      const after = row.retry === "after" ? { retry_after_ms: row.retry_after_ms, spread_ms: row.spread_ms } : {};
      assert.deepEqual(problem, {
        type: `urn:saywhy:error:${row.name}`, title: row.message, status: row.http, detail: row.message,
        code: row.code, name: row.name, retry: row.retry, ...after,
      });
      assert.deepEqual([status, headers["content-type"]], [row.http, "application/problem+json"]);
      const seconds = row.retry === "after" ? String(Math.ceil(row.retry_after_ms / 1_000)) : undefined;
      assert.equal(headers["retry-after"], seconds, row.name);
      assert.equal((await server.ending(request_id)).cause, row.name);
    }
  });
});
