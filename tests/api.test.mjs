// The HTTP API for back ends: every request, every way to get it wrong, and what the members of a room notice of it.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ROOMY, SECRET, call, serve } from "./support/client.mjs";

const limit = { timeout: 120_000 };
const room = "lobby";

/** An answer is a problem document (RFC 9457) that says this. */
function assertProblem(answer, status, name, detail, more = {}) {
  assert.deepEqual([answer.status, answer.type], [status, "application/problem+json"], answer.text);
  const { code, retry, title, type, ...rest } = answer.body;
  assert.deepEqual(rest, { detail, name, status, ...more });
  assert.equal(type, `urn:saywhy:error:${name}`);
  assert.deepEqual([typeof code, typeof retry, typeof title], ["number", "string", "string"]);
}

describe("the key", limit, () => {
  test("every request needs it", async (t) => {
    const server = await serve(t);
    const alice = await server.open("alice");
    const words = "The API needs its key: Authorization: Bearer …";
    const requests = [
      ["GET", "/rooms"], ["PUT", "/rooms/new", { state: "open" }], ["DELETE", "/rooms/lobby"], ["GET", "/rooms/lobby/members"],
      ["POST", "/rooms/lobby/messages", { body: 1 }], ["GET", "/connections"], ["DELETE", `/connections/${alice.id}`],
      ["GET", "/nothing"], ["PATCH", "/rooms"],
    ];
    const wrong = [
      {},
      { authorization: "" },
      { authorization: "Bearer" },
      { authorization: "Bearer " },
      { authorization: `Bearer ${server.apiKey}x` },
      { authorization: `Bearer ${server.apiKey.slice(1)}` },
      { authorization: `Basic ${server.apiKey}` },
      { authorization: server.apiKey },
      { authorization: `Bearer ${await server.mint("alice")}` },
      { "x-api-key": server.apiKey },
    ];
    for (const request of requests) {
      for (const headers of wrong) {
        const answer = await server.api(...request.concat(Array(3 - request.length).fill(undefined)), headers);
        assertProblem(answer, 401, "unauthorized", words);
        assert.equal(answer.body.retry, "reauthenticate");
      }
    }
    await alice.settle();
    assert.deepEqual((await server.api("GET", "/rooms")).body.rooms.map(({ room }) => room), ["closed", "lobby", "staff"]);
    assert.equal((await server.api("GET", "/rooms", undefined, { authorization: `bearer ${server.apiKey}` })).status, 200);
  });

  test("is the operator's own where the configuration has one", async (t) => {
    const key = "the key of the test's API";
    const server = await serve(t, { config: `[api]\nkey = "${key}"\n[token]\nhs256_secret = "${SECRET}"` });
    assert.equal(server.apiKey, undefined, "not announced");
    assert.equal((await server.api("GET", "/rooms", undefined, { authorization: `Bearer ${key}` })).status, 200);
    assert.ok(!server.log().includes(key));
  });
});

describe("rooms", limit, () => {
  test("are listed, opened, closed and forgotten", async (t) => {
    const server = await serve(t);
    const { api } = server;
    const alice = await server.open("alice");
    const list = async () => {
      const { status, body } = await api("GET", "/rooms");
      assert.deepEqual([status, body.next], [200, null]);
      return Object.fromEntries(body.rooms.map(({ room, state, members, ...rest }) => [room, [state, members, rest]]));
    };
    await alice.ok("join", { room });
    assert.deepEqual(await list(), { closed: ["closed", 0, {}], lobby: ["open", 1, {}], staff: ["open", 0, {}] });

    const opened = await api("PUT", "/rooms/new", { state: "open" });
    assert.deepEqual([opened.status, opened.body], [200, { room: "new", state: "open" }]);
    assert.deepEqual((await api("PUT", "/rooms/new", { state: "open" })).body, opened.body, "again");
    const closed = await api("PUT", "/rooms/lobby", { state: "closed" });
    assert.deepEqual([closed.status, closed.body], [200, { room, state: "closed" }]);
    assert.deepEqual((await alice.take("room_closed")).data, { room });
    assert.equal((await alice.error("send", { room, body: 1 })).message, "The room is closed");
    await api("PUT", "/rooms/lobby", { state: "open" });
    assert.deepEqual((await alice.take("room_opened")).data, { room });
    await alice.ok("send", { room, body: 1 });

    const removed = await api("DELETE", "/rooms/lobby");
    assert.deepEqual([removed.status, removed.text], [204, ""]);
    assert.deepEqual((await alice.take("room_closed")).data, { room });
    assert.deepEqual(Object.keys(await list()), ["closed", "new", "staff"]);
    for (const request of [["DELETE", "/rooms/lobby"], ["GET", "/rooms/lobby/members"], ["PUT", "/rooms/lobby", { state: "closed" }]]) {
      assertProblem(await api(...request), 404, "not_found", "Room not found");
    }

    // Names are any text; those that no client could say are refused.
    for (const name of ["a/b", "ü ?#&", "%41", "x".repeat(128)]) {
      const path = `/rooms/${encodeURIComponent(name)}`;
      assert.deepEqual((await api("PUT", path, { state: "open" })).body, { room: name, state: "open" });
      assert.equal((await api("DELETE", path)).status, 204);
    }
    for (const name of ["x".repeat(129), "a\nb", "\u009b"]) {
      const answer = await api("PUT", `/rooms/${encodeURIComponent(name)}`, { state: "open" });
      const words = "A room's name has 1 to 128 bytes and no control characters";
      assertProblem(answer, 400, "bad_request", words, { details: { field: "data.room" } });
    }
  });

  test("are listed by the thousand", async (t) => {
    const server = await serve(t);
    const names = Array.from({ length: 2_001 }, (_, n) => `room-${String(n).padStart(4, "0")}`);
    const alice = await server.open("alice");
    assert.ok(alice);
    for (let n = 0; n < names.length; n += 100) {
      await Promise.all(names.slice(n, n + 100).map((name) => server.api("PUT", `/rooms/${name}`, { state: "open" })));
    }
    const pages = [];
    for (let after = ""; after !== null; after = pages.at(-1).next) {
      pages.push((await server.api("GET", `/rooms?after=${encodeURIComponent(after)}`)).body);
    }
    assert.deepEqual(pages.map(({ rooms }) => rooms.length), [1_000, 1_000, 4]);
    assert.deepEqual(pages.flatMap(({ rooms }) => rooms.map(({ room }) => room)), ["closed", "lobby", ...names, "staff"]);
    assert.deepEqual((await server.api("GET", "/rooms?after=zzz")).body, { next: null, rooms: [] });
  });

  test("have members", async (t) => {
    const server = await serve(t);
    const members = async () => (await server.api("GET", "/rooms/lobby/members")).body;
    assert.deepEqual(await members(), { room, members: [] });
    for (const who of ["bob", "alice", "alice"]) await (await server.open(who)).ok("join", { room });
    assert.deepEqual(await members(), { room, members: ["alice", "bob"] });
  });
});

describe("publishing", limit, () => {
  test("reaches the members, in order, as it was written", async (t) => {
    const server = await serve(t);
    const alice = await server.open("alice");
    await alice.ok("join", { room });
    const publish = (body, headers) => server.api("POST", "/rooms/lobby/messages", body, headers);
    const first = await publish('{"body":{"n": 1.0e2,"a":[ ]},"from":"shop"}');
    assert.equal(first.status, 201);
    const { data, meta, text } = await alice.take("message");
    assert.deepEqual(first.body, { room, position: data.position });
    assert.deepEqual([data.from, data.position.offset], ["shop", 1]);
    assert.ok(text().includes('"body":{"n": 1.0e2,"a":[ ]}},"meta"'), text());
    assert.deepEqual(Object.keys(meta), ["timestamp"]);
    await publish({ body: null });
    assert.deepEqual((await alice.take("message")).data.from, "api");

    const once = { body: "once", idempotency_key: "order-7" };
    const { body: answer } = await publish(once);
    assert.deepEqual((await publish(once)).body, answer);
    await alice.settle();
    assert.deepEqual(alice.said(room).map(({ position }) => position.offset), [1, 2, 3]);

    assertProblem(await server.api("POST", "/rooms/nowhere/messages", { body: 1 }), 404, "not_found", "Room not found");
    assertProblem(await server.api("POST", "/rooms/closed/messages", { body: 1 }), 409, "invalid_action", "The room is closed");
  });

  test("a body that is wrong is explained", async (t) => {
    const server = await serve(t);
    const publish = (body) => server.api("POST", "/rooms/lobby/messages", body);
    const wrong = "The body is not what this request takes: ";
    for (const [body, words] of [
      ["{", "EOF while parsing an object at line 1 column 1"],
      ["", "EOF while parsing a value at line 1 column 0"],
      ["[1", "EOF while parsing a list at line 1 column 2"],
      ["{}", "missing field `body` at line 1 column 2"],
      ['{"body":1,"form":"me"}', "unknown field `form`, expected one of `body`, `from`, `idempotency_key` at line 1 column 16"],
      ['{"body":1,"from":7}', "invalid type: integer `7`, expected a string at line 1 column 18"],
    ]) {
      assertProblem(await publish(body), 400, "bad_request", wrong + words);
    }
    assertProblem(await publish({ body: 1, idempotency_key: "" }), 400, "bad_request", "idempotency_key is 1 to 64 visible ASCII characters");
    assertProblem(await server.api("PUT", "/rooms/new", { state: "ajar" }), 400, "bad_request", `${wrong}unknown variant \`ajar\`, expected \`open\` or \`closed\` at line 1 column 15`);
  });

  test("what no member could take is refused, and ends nobody's session", async (t) => {
    const server = await serve(t, { config: ROOMY });
    const alice = await server.open("alice");
    await alice.ok("join", { room });
    const publish = (body) => server.api("POST", "/rooms/lobby/messages", body);
    for (const bytes of [65_537, 1_500_000]) {
      const answer = await publish({ body: "x".repeat(bytes) });
      assertProblem(answer, 413, "message_too_big", "The message was too big", { details: { limit_bytes: 65_536 } });
    }
    assertProblem(await publish(`{"body":"${"x".repeat(2 * 1024 * 1024)}"}`), 413, "message_too_big", "The body is bigger than the API takes");
    assert.equal((await publish({ body: "x".repeat(65_000) })).status, 201);
    await alice.settle();
    assert.deepEqual(alice.said(room).map(({ body }) => body.length), [65_000]);
  });
});

describe("connections", limit, () => {
  test("are listed, the oldest first, by the thousand", async (t) => {
    const server = await serve(t, { config: `${ROOMY}\nconnections = 10000` });
    const sessions = [];
    const token = await server.mint("alice");
    for (let n = 0; n < 1_005; n += 67) {
      sessions.push(...(await Promise.all(Array.from({ length: 67 }, () => server.open("alice", { token })))));
    }
    const first = (await server.api("GET", "/connections")).body;
    assert.deepEqual([first.total, first.connections.length], [1_005, 1_000]);
    assert.deepEqual(first.connections[0], { id: first.connections[0].id, user: "alice", path: "/ws" });
    assert.equal(first.next, first.connections.at(-1).id);
    const second = (await server.api("GET", `/connections?after=${first.next}`)).body;
    assert.deepEqual([second.total, second.connections.length, second.next], [1_005, 5, null]);
    const ids = [...first.connections, ...second.connections].map(({ id }) => id);
    assert.deepEqual(ids, sessions.map(({ id }) => id).sort());
    assertProblem(await server.api("GET", "/connections?after=yesterday"), 400, "bad_request", "The API cannot read this request");
  });

  test("are removed with words for it", async (t) => {
    const server = await serve(t);
    const [alice, bob] = [await server.open("alice"), await server.open("bob")];
    await bob.ok("join", { room });
    await alice.ok("join", { room });
    const kicked = await server.api("DELETE", `/connections/${alice.id}`, { message: "Spam is not welcome here" });
    assert.deepEqual([kicked.status, kicked.text], [204, ""]);
    const { data, meta } = await alice.take("error");
    assert.deepEqual(data, { code: 4008, message: "Spam is not welcome here", name: "kicked", fatal: true, retry: "never" });
    assert.equal(meta.request_id, alice.id);
    assert.deepEqual(await alice.closed, { code: 4008, reason: "Spam is not welcome here" });
    assert.deepEqual((await bob.take("left")).data, { room, member: "alice" });
    assert.equal((await server.ending(alice.id)).cause, "kicked");
    assertProblem(await server.api("DELETE", `/connections/${alice.id}`), 404, "not_found", "There is no such connection");

    await server.api("DELETE", `/connections/${bob.id}`);
    assert.deepEqual(await bob.closed, { code: 4008, reason: "You were removed" });
    assert.deepEqual((await server.api("GET", "/connections")).body, { connections: [], total: 0, next: null });
  });

  test("are removed with any row of the catalogue, and with one of the operator's own", async (t) => {
    const server = await serve(t, {
      config: `[[error]]\nname = "room_full"\ncode = 4100\nhttp = 409\nretry = "backoff"\nmessage = "The room is full"`,
    });
    const remove = async (body) => {
      const session = await server.open("alice");
      const { status } = await server.api("DELETE", `/connections/${session.id}`, body);
      assert.equal(status, 204);
      const [{ data }, { code, reason }] = [await session.take("error", "goodbye"), await session.closed];
      assert.equal(data.fatal, true);
      return [data.code, data.name, data.message, data.retry, code, reason];
    };
    assert.deepEqual(await remove({ name: "room_full" }), [4100, "room_full", "The room is full", "backoff", 4100, "The room is full"]);
    assert.deepEqual(await remove({ name: "room_full", message: "Full up" }), [4100, "room_full", "Full up", "backoff", 4100, "Full up"]);
    assert.deepEqual(await remove({ name: "forbidden" }), [4004, "forbidden", "You may not do that", "never", 4004, "You may not do that"]);
    assert.deepEqual((await remove({ name: "history_lost" })).slice(4), [1008, "That position is no longer kept"]);
    // Too long for a Close: whole in the message, cut at a character in the reason; nothing in it that a terminal obeys.
    const long = `\u001b[2J\r\n${"ü".repeat(200)}`;
    const [, , message, , , reason] = await remove({ message: long });
    assert.deepEqual([message, reason], [long, ` [2J  ${"ü".repeat(58)}`]);

    const alice = await server.open("alice");
    const kick = (body, id = alice.id) => server.api("DELETE", `/connections/${id}`, body);
    assertProblem(await kick({ name: "room_fool" }), 400, "bad_request", "The catalogue has no row of that name");
    assertProblem(await kick(undefined, "alice"), 400, "bad_request", "That is not the id of a connection");
    assertProblem(await kick(undefined, "0".repeat(32)), 404, "not_found", "There is no such connection");
    assert.equal((await kick({ mesage: "x" })).status, 400);
    await alice.settle();
  });
});

describe("paths", limit, () => {
  test("each route with rooms has its own API", async (t) => {
    const server = await serve(t, {
      config: `[[route]]\npath = "/ws"\nrooms = {}\n[[route]]\npath = "/games/chess"\nrooms = { open = ["board"] }`,
    });
    const [one, two] = [await server.open("alice"), await server.open("bob", { at: server.routes[1] })];
    const names = async (path) => (await server.api("GET", path)).body.rooms.map(({ room }) => room);
    assert.deepEqual(await names("/rooms"), ["closed", "lobby", "staff"]);
    assert.deepEqual(await names("/at/ws/rooms"), ["closed", "lobby", "staff"], "the first route is at both");
    assert.deepEqual(await names("/at/games/chess/rooms"), ["board"]);

    await server.api("PUT", "/at/games/chess/rooms/lobby", { state: "open" });
    await one.ok("join", { room });
    await two.ok("join", { room });
    await server.api("POST", "/at/games/chess/rooms/lobby/messages", { body: "e4" });
    assert.equal((await two.take("message")).data.body, "e4");
    await one.settle();
    assert.deepEqual(one.said(room), [], "another route's lobby is another room");
    assert.equal((await server.api("GET", "/connections")).body.total, 2);
    assert.equal((await server.api("GET", "/at/games/chess/connections")).body.total, 2, "connections are the server's");
    assertProblem(await server.api("GET", "/at/games/rooms"), 404, "not_found", "The API has no such path");
  });

  test("methods and paths that there are not, HEAD", async (t) => {
    const server = await serve(t);
    const words = "The API does not know this method at this path";
    for (const [method, path, allowed] of [
      ["POST", "/rooms", "GET,HEAD"], ["GET", "/rooms/lobby", "PUT,DELETE"], ["POST", "/rooms/lobby/members", "GET,HEAD"],
      ["GET", "/rooms/lobby/messages", "POST"], ["DELETE", "/connections", "GET,HEAD"], ["PUT", "/connections/x", "DELETE"],
    ]) {
      const answer = await server.api(method, path);
      assertProblem(answer, 405, "bad_request", words);
      assert.equal(answer.headers.allow, allowed);
    }
    for (const path of ["/nothing", "/rooms/", "/rooms/a/b", ""]) {
      assert.deepEqual([(await server.api("GET", path)).status, (await server.api("GET", path)).type], [404, "application/problem+json"], path);
    }
    const head = await server.api("HEAD", "/rooms");
    assert.deepEqual([head.status, head.text, Number(head.headers["content-length"]) > 0], [200, "", true]);
    assert.deepEqual((await server.api("HEAD", "/nothing")).status, 404);
    assertProblem(await server.api("GET", "/rooms/%FF/members"), 400, "bad_request", "The API cannot read this request");

    // Outside of the API, on its own address and on the clients'.
    const api = new URL("/", server.apiUrl);
    assertProblem(await call(new URL("/elsewhere", api)), 404, "not_found", "The API has no such path; it begins at /api/v1");
    assertProblem(await call(new URL("/elsewhere", server.page)), 404, "not_found", "There is nothing at this path");
    assert.equal((await call(new URL("/elsewhere", server.page), "HEAD")).status, 404);
    assert.equal((await call(new URL("/dev/info", api))).status, 404, "no page on the address of the API");

    const upgrade = await call(server.url.replace("ws:", "http:"));
    assertProblem(upgrade, 426, "bad_request", "This is a WebSocket: connect with ws:// or wss://");
    assert.deepEqual([upgrade.headers.upgrade, upgrade.headers["sec-websocket-version"]], ["websocket", "13"]);
  });

  test("a WebSocket at the address of the API is told where it is", async (t) => {
    const server = await serve(t);
    const lost = await server.raw({ at: server.apiUrl.replace("http:", "ws:") });
    assert.deepEqual([lost.status, lost.headers["content-type"]], [401, "application/problem+json"]);
  });

  test("metrics count every ending, and have a 0 for those that nobody explained", async (t) => {
    const server = await serve(t);
    const metrics = async () => {
      const { status, text } = await call(new URL("/metrics", server.apiUrl));
      assert.equal(status, 200);
      return Object.fromEntries(text.split("\n").filter((line) => line && !line.startsWith("#")).map((line) => line.split(/ (?=\d+$)/)));
    };
    assert.deepEqual(await metrics(), { saywhy_unexplained_endings_total: "0" });
    const alice = await server.open("alice");
    await alice.error("leave", { room });
    await alice.close(1000);
    await server.connect().closed;
    assert.equal((await server.raw()).status, 401);
    // A client can know that it is over before the server has said so.
    await server.ended(3);
    assert.deepEqual(await metrics(), {
      saywhy_unexplained_endings_total: "0",
      'saywhy_errors_total{name="invalid_action"}': "1",
      'saywhy_endings_total{stage="session",cause="peer_closed"}': "1",
      'saywhy_endings_total{stage="admission",cause="unauthorized"}': "2",
    });
  });
});
