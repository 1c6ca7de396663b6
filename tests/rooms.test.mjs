// Rooms as a client meets them: every row of the table in PROTOCOL.md §9, word for word, and what has to hold under traffic.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ALL, ROOMY, SECRET, TIMESTAMP, call, eventually, serve, sign } from "./support/client.mjs";
import { closeInfo } from "./support/raw.mjs";

const limit = { timeout: 120_000 };
const room = "lobby";
const HEX = /^[0-9a-f]{16}$/;
const NOWHERE = "0".repeat(16);

/** The errors of the table, as `data` of an answer. */
const notFound = { code: 4001, message: "Room not found", name: "not_found", fatal: false, retry: "never" };
const notJoined = { code: 4002, message: "Join the room first", name: "invalid_action", fatal: false, retry: "never" };
const closedRoom = { ...notJoined, message: "The room is closed" };
const tooManyRooms = { ...notJoined, message: "You are in as many rooms as one connection may be" };
const forbidden = {
  code: 4004, message: "Your token does not permit that in this room", name: "forbidden", fatal: false, retry: "never",
};
const badRequest = (message, details) => ({
  code: 4000, message, name: "bad_request", fatal: false, retry: "never", ...(details && { details }),
});
const historyLost = (reason) => ({
  code: 4009, message: "That position is no longer kept", name: "history_lost", fatal: false, retry: "never",
  details: { room, reason },
});

function assertPosition({ epoch, offset, tag, ...rest }, expected) {
  assert.match(epoch, HEX);
  assert.match(tag, HEX);
  assert.equal(tag === NOWHERE, offset === 0);
  assert.deepEqual({ offset, rest }, { offset: expected, rest: {} });
}

const offsets = (messages) => messages.map(({ position }) => position.offset);
const upTo = (last, first = 1) => Array.from({ length: last - first + 1 }, (_, index) => first + index);
const presence = ({ seen }) =>
  seen.filter(({ type }) => type === "joined" || type === "left").map(({ type, data }) => `${type} ${data.member}`);

describe("the table", limit, () => {
  test("ready, ping and pong", async (t) => {
    const server = await serve(t);
    const alice = await server.open("alice");
    const { connection_id } = alice.ready.data;
    assert.match(connection_id, /^[0-9a-f]{32}$/);
    assert.deepEqual(alice.ready.data, {
      connection_id,
      user: "alice",
      heartbeat_ms: 25_000,
      limits: { message_bytes: 65_536, messages_per_s: 50, message_burst: 100 },
    });
    assert.equal(alice.socket.protocol, "saywhy.v1");
    alice.send({ type: "ping" });
    const pong = await alice.take("pong");
    assert.deepEqual([pong.data, Object.keys(pong.meta)], [{}, ["timestamp"]]);
    const answered = await alice.ask("ping", {}, "p!~1");
    assert.deepEqual([answered.type, answered.data], ["pong", {}]);
  });

  test("join", async (t) => {
    const server = await serve(t);
    const alice = await server.open("alice");
    const bob = await server.open("bob", { rooms: { lobby: ["join"], "team-*": ["join", "members"], gone: ["join"] } });

    const { position, ...joined } = await alice.ok("join", { room });
    assert.deepEqual(joined, { room, members: ["alice"], recovered: false });
    assertPosition(position, 0);
    await alice.ok("send", { room, body: 1 });
    const other = await bob.ok("join", { room });
    assert.deepEqual(Object.keys(other).sort(), ["position", "recovered", "room"], "without the permission no members");
    assertPosition(other.position, 1);
    assert.equal(other.position.epoch, position.epoch);

    assert.deepEqual(await bob.error("join", { room: "gone" }), notFound);
    assert.deepEqual(await bob.error("join", { room: "staff" }), forbidden);
    assert.deepEqual(await bob.error("join", { room: "nowhere" }), forbidden, "says nothing of whether it is there");
    assert.deepEqual(await bob.error("join", { room: "team-red" }), notFound, "a pattern permits");
    assert.deepEqual(await bob.error("join", {}), badRequest("A field is missing: data.room", { field: "data.room" }));
    assert.deepEqual(
      await bob.error("join", { room: 7 }),
      badRequest("data.room is not what this type of message takes", { field: "data.room" }),
    );
    for (const name of ["", "x".repeat(129), "é".repeat(65), "a\u0000b", "a\u009bb", "a\nb"]) {
      const words = "A room's name has 1 to 128 bytes and no control characters";
      assert.deepEqual(await alice.error("join", { room: name }), badRequest(words, { field: "data.room" }), name);
    }
    assert.deepEqual(await alice.error("join", { room: "é".repeat(64) }), notFound, "128 bytes are a name");

    // A closed room can be joined and read.
    const closed = await alice.ok("join", { room: "closed" });
    assert.deepEqual([closed.room, closed.recovered], ["closed", false]);

    // Joining again is leaving first.
    await alice.ok("join", { room });
    await bob.settle();
    assert.deepEqual(presence(bob), ["left alice", "joined alice"]);
    await alice.ok("send", { room, body: 2 });
    await alice.settle();
    assert.deepEqual(offsets(alice.said(room)), [1, 2], "heard once");
  });

  test("leave", async (t) => {
    const server = await serve(t);
    const [alice, bob] = [await server.open("alice"), await server.open("bob")];
    assert.deepEqual(await alice.error("leave", { room }), notJoined);
    assert.deepEqual(await alice.error("leave", { room: "nowhere" }), notJoined);
    await alice.ok("join", { room });
    await bob.ok("join", { room });
    assert.deepEqual(await alice.ok("leave", { room }), { room });
    assert.deepEqual(await alice.error("leave", { room }), notJoined);
    await bob.ok("send", { room, body: "did she hear that?" });
    await alice.settle();
    assert.deepEqual(alice.said(room), []);
    assert.deepEqual(presence(bob), ["left alice"]);
  });

  test("send", async (t) => {
    const server = await serve(t);
    const [alice, bob] = [await server.open("alice"), await server.open("bob", { rooms: { lobby: ["join"], "*": ["send"] } })];
    assert.deepEqual(await alice.error("send", { room, body: 1 }), notJoined);
    assert.deepEqual(await alice.error("send", { room: "nowhere", body: 1 }), notFound);
    await alice.ok("join", { room });
    await bob.ok("join", { room });
    assert.deepEqual(await alice.error("send", { room }), badRequest("A field is missing: data.body", { field: "data.body" }));

    const { position, ...sent } = await alice.ok("send", { room, body: { text: "hi" } });
    assert.deepEqual(sent, {});
    assertPosition(position, 1);
    for (const member of [alice, bob]) {
      const { data, meta } = await member.take("message");
      assert.deepEqual(data, { room, position, from: "alice", body: { text: "hi" } });
      assert.deepEqual(Object.keys(meta), ["timestamp"]);
      assert.match(meta.timestamp, TIMESTAMP);
    }

    // Passed on as it was written: no number is rounded, no key moved, no escape undone.
    for (const body of ['{"b": 1.0e2,"a":[ ],"a":12345678901234567890.000}', '"\\u00e9\\ud83d\\ude00/\\/"', "null", "[\t1\r\n,2]"]) {
      bob.send(`{"type":"send","data":{"room":"lobby","body":${body}}}`);
      const { text } = await alice.take("message");
      assert.ok(text().includes(`"from":"bob","body":${body}},"meta":`), text());
    }

    await alice.ok("join", { room: "closed" });
    assert.deepEqual(await alice.error("send", { room: "closed", body: 1 }), closedRoom);
    const carol = await server.open("carol", { rooms: { lobby: ["join"] } });
    await carol.ok("join", { room });
    assert.deepEqual(await carol.error("send", { room, body: 1 }), forbidden);
    assert.deepEqual(await carol.error("send", { room: "nowhere", body: 1 }), forbidden);
  });

  test("history", async (t) => {
    const server = await serve(t, { config: ROOMY });
    const [alice, bob] = [await server.open("alice"), await server.open("bob", { rooms: { lobby: ["join", "send"] } })];
    assert.deepEqual(await bob.error("history", { room }), forbidden);
    assert.deepEqual(await alice.error("history", { room: "nowhere" }), notFound);
    const empty = await alice.ok("history", { room });
    assert.deepEqual(empty.messages, []);
    assertPosition(empty.position, 0);

    await alice.ok("join", { room });
    for (const n of upTo(300)) await alice.ok("send", { room, body: { n } });
    await alice.settle();
    const heard = alice.seen.filter(({ type }) => type === "message");
    const expected = heard.map(({ data, meta }) => ({ ...data, timestamp: meta.timestamp }));
    const read = async (data) => {
      const { messages, position, ...rest } = await alice.ok("history", { room, ...data });
      assert.deepEqual([position, rest], [expected.at(-1).position, {}]);
      return messages;
    };
    assert.deepEqual(await read({}), expected.slice(-256), "as much as is kept, without being a member");
    assert.deepEqual(await read({ limit: 3 }), expected.slice(-3));
    assert.deepEqual(await read({ limit: 1_000_000 }), expected.slice(-256));
    assert.deepEqual(await read({ limit: 0 }), []);
    const since = expected[289].position;
    assert.deepEqual(await read({ since }), expected.slice(290));
    assert.deepEqual(await read({ since, limit: 10 }), expected.slice(290));
    assert.deepEqual(await read({ since: expected[299].position }), []);
    assert.deepEqual(await alice.error("history", { room, since, limit: 9 }), historyLost("too_many_missed"));
    assert.deepEqual(await alice.error("history", { room, since: expected[3].position }), historyLost("trimmed"));
    for (const bad of [-1, 1.5, "3"]) {
      const words = "data.limit is not what this type of message takes";
      assert.deepEqual(await alice.error("history", { room, limit: bad }), badRequest(words, { field: "data.limit" }));
    }
  });

  test("members", async (t) => {
    const server = await serve(t);
    const [bob, alice] = [await server.open("bob"), await server.open("alice")];
    const carol = await server.open("carol", { rooms: { lobby: ["join"] } });
    assert.deepEqual(await alice.ok("members", { room }), { members: [] });
    for (const member of [bob, alice, carol]) await member.ok("join", { room });
    assert.deepEqual(await alice.ok("members", { room }), { members: ["alice", "bob", "carol"] });
    assert.deepEqual(await carol.error("members", { room }), forbidden);
    assert.deepEqual(await alice.error("members", { room: "nowhere" }), notFound);
  });

  test("open_room and close_room", async (t) => {
    const server = await serve(t);
    const alice = await server.open("alice");
    const bob = await server.open("bob", { rooms: { "*": ["join", "send", "history", "members"] } });
    assert.deepEqual(await bob.error("open_room", { room: "new" }), forbidden);
    assert.deepEqual(await bob.error("close_room", { room }), forbidden);
    assert.deepEqual(await alice.error("close_room", { room: "new" }), notFound);

    assert.deepEqual(await alice.ok("open_room", { room: "new" }), { room: "new" });
    await alice.ok("join", { room: "new" });
    await bob.ok("join", { room: "new" });
    await alice.ok("send", { room: "new", body: 1 });
    assert.deepEqual(await alice.ok("close_room", { room: "new" }), { room: "new" });
    for (const member of [alice, bob]) assert.deepEqual((await member.take("room_closed")).data, { room: "new" });
    assert.deepEqual(await alice.ok("close_room", { room: "new" }), { room: "new" }, "closed already");
    assert.deepEqual(await bob.error("send", { room: "new", body: 2 }), closedRoom);
    assert.equal((await bob.ok("history", { room: "new" })).messages.length, 1, "it can still be read");

    await alice.ok("open_room", { room: "new" });
    for (const member of [alice, bob]) assert.deepEqual((await member.take("room_opened")).data, { room: "new" });
    assertPosition((await bob.ok("send", { room: "new", body: 2 })).position, 2);
    await alice.settle();
    assert.deepEqual(alice.seen.filter(({ type }) => type.startsWith("room_")).length, 2, "told of each turn once");
  });

  test("authenticate", async (t) => {
    const server = await serve(t);
    const [alice, bob] = [await server.open("alice"), await server.open("bob")];
    const token = await server.mint("alice", { rooms: { lobby: ["join"] }, expires_in_s: 600 });
    const { exp } = JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
    assert.equal((await alice.ok("members", { room })).members.length, 0);
    assert.deepEqual(await alice.ok("authenticate", { token }), { expires_at: new Date(exp * 1000).toISOString().replace(".000", "") });
    assert.deepEqual(await alice.error("members", { room }), forbidden, "the new token's permissions hold");

    const other = { ...forbidden, message: "That token is of another identity" };
    assert.deepEqual(await alice.error("authenticate", { token: await server.mint("mallory") }), other);
    await alice.ok("join", { room });

    const answer = await bob.ask("authenticate", { token: "not-a-token" }, "renew-7");
    assert.deepEqual(answer.data, {
      code: 4003, message: "Your token is not valid: sign in again", name: "unauthorized", fatal: true,
      retry: "reauthenticate", details: { reason: "token_invalid" },
    });
    assert.deepEqual(await bob.closed, { code: 4003, reason: "Your token is not valid: sign in again" });
    assert.equal((await server.ending(bob.id)).cause, "unauthorized");
  });

  test("what is no request is answered, and the session goes on", async (t) => {
    const server = await serve(t);
    const alice = await server.open("alice");
    const cases = [
      ['{"type":"join","data":{"room":', badRequest("The message is not JSON")],
      ["", badRequest("The message is not JSON")],
      ["[]", badRequest("The message is not an object of type, data and meta")],
      ['{"data":{}}', badRequest("The message has no type")],
      ['{"type":7}', badRequest("The message is not an object of type, data and meta")],
      ['{"type":"dance"}', badRequest("That type of message is not known here", { type: "dance" })],
      ['{"type":"__proto__"}', badRequest("That type of message is not known here", { type: "__proto__" })],
      ['{"type":"join","data":[1]}', badRequest("data is not what this type of message takes", { field: "data" })],
      ['{"type":"ping","meta":{"request_id":"two words"}}', badRequest("meta.request_id is 1 to 64 visible ASCII characters")],
    ];
    for (const [text, expected] of cases) {
      alice.send(text);
      const { data, meta } = await alice.take("error");
      assert.deepEqual(data, expected, text);
      assert.match(meta.request_id, /^[0-9a-f]{32}$/, "an id of the server's");
    }
    alice.send('{"type":"send","data":{"room":"lob,"meta":{"request_id":"mine-1"}}');
    assert.equal((await alice.take("error")).meta.request_id, "mine-1", "read out of the wreck");
    alice.send({ type: "join", data: { room }, unknown: 1 });
    alice.send({ type: "send", data: { room, body: 1, unknown: 1 } });
    await alice.take("message");
    assert.deepEqual(alice.seen.filter(({ type }) => type === "ok"), [], "no answer is asked for, none is given");
  });
});

describe("delivery", limit, () => {
  test("everyone hears everything once, in the same order, whoever else is talking", async (t) => {
    const server = await serve(t, { config: ROOMY });
    const members = await Promise.all(upTo(6).map((n) => server.open(`user-${n}`)));
    for (const member of members) await member.ok("join", { room });
    const talkers = members.slice(0, 4);
    const each = 100;
    const answers = await Promise.all(
      talkers.flatMap((talker, who) => upTo(each).map((n) => talker.ok("send", { room, body: { who, n } }))),
    );
    assert.deepEqual(offsets(answers).sort((a, b) => a - b), upTo(4 * each), "no position twice");
    for (const member of members) await member.settle();
    const heard = members.map((member) => member.said(room));
    assert.deepEqual(offsets(heard[0]), upTo(4 * each));
    for (const same of heard) assert.deepEqual(same, heard[0]);
    for (const who of talkers.keys()) {
      const own = heard[0].filter(({ body }) => body.who === who);
      assert.deepEqual(own.map(({ body }) => body.n), upTo(each), "a sender's messages stay in order");
      assert.ok(own.every(({ from }) => from === `user-${who + 1}`));
    }
  });

  test("T23: names that mean something to others are names like any other here", async (t) => {
    const server = await serve(t, { config: `[[route]]\npath = "/ws"\nrooms = {}` });
    const names = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "__defineGetter__", "null"];
    for (const name of names) {
      const member = await server.open(name);
      assert.equal(member.ready.data.user, name);
      await member.error("join", { room: name }, "not_found");
      assert.equal((await server.api("PUT", `/rooms/${encodeURIComponent(name)}`, { state: "open" })).status, 200);
      await member.ok("join", { room: name });
      assert.deepEqual((await member.ok("members", { room: name })).members, [name]);
      // As a type of message and as a key of one, too.
      await member.error(name, {});
      member.socket.send(`{"type":"ping","data":{"${name}":{"a":1}},"${name}":{},"meta":{"request_id":"x","${name}":1}}`);
      assert.equal((await member.take("pong", "ok")).meta.request_id, "x");
      await member.close(1000);
    }
  });

  test("T25: nothing is delivered to the wrong one of 1,000 interleaved rooms", async (t) => {
    const server = await serve(t, { config: `${ROOMY}\n[[route]]\npath = "/ws"\nrooms = { create = "join", presence = false }` });
    const members = await Promise.all(upTo(20).map((n) => server.open(`user-${n}`)));
    const rooms = upTo(1_000).map((n) => `room-${n}`);
    // Each room has two members, and each member a hundred rooms.
    const mine = (member) => rooms.filter((_, n) => n % 20 === member || (n + 7) % 20 === member);
    await Promise.all(members.flatMap((member, n) => mine(n).map((room) => member.ok("join", { room }))));
    await Promise.all(members.flatMap((member, n) => mine(n).map((room) => member.ok("send", { room, body: room }))));
    for (const [n, member] of members.entries()) {
      await member.settle();
      const heard = member.seen.filter(({ type }) => type === "message").map(({ data }) => data);
      assert.ok(heard.every(({ room, body }) => room === body));
      assert.deepEqual(heard.map(({ room }) => room).sort(), [...mine(n), ...mine(n)].sort());
    }
  });

  test("the same idempotency key says it once", async (t) => {
    const server = await serve(t);
    const [alice, bob] = [await server.open("alice"), await server.open("bob")];
    await alice.ok("join", { room });
    await bob.ok("join", { room });
    const say = (member, body, idempotency_key) => member.ok("send", { room, body, idempotency_key });
    const first = await say(alice, "once", "key-1");
    assert.deepEqual(await say(alice, "once", "key-1"), first);
    assert.deepEqual(await say(alice, "in other words", "key-1"), first);
    assertPosition((await say(bob, "bob's", "key-1")).position, 2); // a key counts for its sender
    assertPosition((await say(alice, "twice", "key-2")).position, 3);

    // The connection is lost with the answer, and the client asks again.
    await alice.terminate();
    const again = await server.open("alice");
    await again.ok("join", { room });
    assert.deepEqual(await say(again, "once", "key-1"), first);
    await bob.settle();
    assert.deepEqual(bob.said(room).map(({ body }) => body), ["once", "bob's", "twice"]);

    const words = "data.idempotency_key is 1 to 64 visible ASCII characters";
    for (const bad of ["", "two words", "x".repeat(65), "é"]) {
      const error = await bob.error("send", { room, body: 1, idempotency_key: bad });
      assert.deepEqual(error, badRequest(words, { field: "data.idempotency_key" }));
    }
  });
});

describe("presence", limit, () => {
  test("tells of people, not of connections", async (t) => {
    const server = await serve(t);
    const bob = await server.open("bob");
    await bob.ok("join", { room });
    const [first, second] = [await server.open("alice"), await server.open("alice")];
    await first.ok("join", { room });
    assert.deepEqual((await bob.take("joined")).data, { room, member: "alice" });
    assert.deepEqual((await second.ok("join", { room })).members, ["alice", "bob"]);
    await first.close(1000);
    assert.deepEqual((await bob.ok("members", { room })).members, ["alice", "bob"]);
    await second.terminate();
    assert.deepEqual((await bob.take("left")).data, { room, member: "alice" });
    assert.deepEqual((await bob.ok("members", { room })).members, ["bob"]);
    await bob.settle();
    assert.deepEqual(presence(bob), ["joined alice", "left alice"]);
    assert.deepEqual([presence(first), presence(second)], [[], []], "nobody is told of oneself");
  });

  test("a join that fails is not seen", async (t) => {
    const server = await serve(t);
    const [bob, alice] = [await server.open("bob"), await server.open("alice")];
    await bob.ok("join", { room });
    await alice.error("join", { room, since: { epoch: NOWHERE, offset: 1, tag: NOWHERE } });
    assert.deepEqual((await bob.ok("members", { room })).members, ["bob"]);
    await bob.settle();
    assert.deepEqual(presence(bob), []);
  });

  test("can be turned off", async (t) => {
    const server = await serve(t, { config: `[[route]]\npath = "/ws"\nrooms = { presence = false }` });
    const [bob, alice] = [await server.open("bob"), await server.open("alice")];
    await bob.ok("join", { room });
    const joined = await alice.ok("join", { room });
    assert.deepEqual(Object.keys(joined).sort(), ["position", "recovered", "room"]);
    await alice.close();
    await server.ending(alice.id);
    await bob.settle();
    assert.deepEqual(presence(bob), []);
  });
});

describe("resuming", limit, () => {
  test("loses nothing and repeats nothing, however often the connection breaks under traffic", async (t) => {
    const config = `${ROOMY}\n[[route]]\npath = "/ws"\nrooms = { history = { entries = 100000 } }`;
    const server = await serve(t, { config });
    const talker = await server.open("talker");
    let since = (await talker.ok("join", { room })).position;
    let listener;
    const talking = (async () => {
      for (let n = 1; listener !== null; n++) await talker.ok("send", { room, body: n });
    })();

    const heard = [];
    for (let round = 0; round < 25; round++) {
      listener = await server.open("listener");
      const { recovered } = await listener.ok("join", { room, since });
      assert.equal(recovered, true);
      for (let n = 0; n < 1 + (round % 7); n++) {
        const { data } = await listener.take("message");
        heard.push(data);
        since = data.position;
      }
      await listener.terminate();
    }
    listener = null;
    await talking;
    const total = talker.seen.filter(({ type }) => type === "ok").at(-1).data.position.offset;
    const last = await server.open("listener");
    await last.ok("join", { room, since });
    await last.settle();
    heard.push(...last.said(room));
    assert.deepEqual(offsets(heard), upTo(total));
    assert.deepEqual(heard.map(({ body }) => body), upTo(total));
  });

  test("gives what was missed, and nothing at the top", async (t) => {
    const server = await serve(t);
    const [alice, bob] = [await server.open("alice"), await server.open("bob")];
    const start = (await alice.ok("join", { room })).position;
    for (const n of upTo(5)) await alice.ok("send", { room, body: n });
    const replayed = async (since) => {
      const member = await server.open("carol");
      const { position, recovered } = await member.ok("join", { room, since });
      assert.equal(recovered, true);
      assertPosition(position, 5);
      await member.settle();
      await member.terminate();
      return offsets(member.said(room));
    };
    const positions = alice.said(room).map(({ position }) => position);
    assert.deepEqual(await replayed(start), [1, 2, 3, 4, 5], "from the beginning, while nothing was removed");
    assert.deepEqual(await replayed(positions[1]), [3, 4, 5]);
    assert.deepEqual(await replayed(positions[4]), []);
    await bob.ok("join", { room });
    await alice.ok("close_room", { room });
    assert.deepEqual(await replayed(positions[3]), [5], "a closed room can be resumed");
  });

  test("history_lost: the server began anew", async (t) => {
    const first = await serve(t);
    const alice = await first.open("alice");
    await alice.ok("join", { room });
    const { position: since } = await alice.ok("send", { room, body: 1 });
    alice.terminate();
    await first.stop();

    const second = await serve(t);
    const again = await second.open("alice");
    assert.deepEqual(await again.error("join", { room, since }), historyLost("epoch_changed"));
    assert.deepEqual(await again.error("history", { room, since }), historyLost("epoch_changed"));
    assert.deepEqual(await again.error("send", { room, body: 1 }), notJoined, "a join that fails leaves one outside");
    assert.equal((await again.ok("join", { room })).recovered, false);
  });

  test("history_lost: trimmed, forged, garbage", async (t) => {
    const server = await serve(t, { config: `[[route]]\npath = "/ws"\nrooms = { history = { entries = 3 } }` });
    const alice = await server.open("alice");
    const start = (await alice.ok("join", { room })).position;
    const positions = [];
    for (const n of upTo(5)) positions.push((await alice.ok("send", { room, body: n })).position);
    const join = (since) => alice.error("join", { room, since });
    assert.deepEqual(await join(start), historyLost("trimmed"));
    assert.deepEqual(await join(positions[0]), historyLost("trimmed"));
    assert.deepEqual(await join(positions[1]), historyLost("trimmed"), "the entry itself has to be there");
    await alice.ok("join", { room, since: positions[2] });
    await alice.settle();
    assert.deepEqual(offsets(alice.said(room)).slice(5), [4, 5]);

    const forged = [
      { ...positions[3], tag: "f00dfacef00dface" },
      { ...positions[4], tag: "f00dfacef00dface" },
      { ...positions[4], offset: 6 },
      { ...positions[4], offset: 2 ** 53 - 1 },
    ];
    for (const since of forged) assert.deepEqual(await join(since), historyLost("history_forked"));
    assert.deepEqual(await join({ ...positions[4], epoch: "f00dfacef00dface" }), historyLost("epoch_changed"));

    const garbage = badRequest("data.since is not a position of this server", { field: "data.since" });
    for (const wrong of [{ tag: "" }, { tag: "F00DFACEF00DFACE" }, { epoch: "1:2" }, { epoch: "+00dfacef00dface" }, { offset: 0 }]) {
      assert.deepEqual(await join({ ...positions[4], ...wrong }), garbage, JSON.stringify(wrong));
    }
    const kind = (field) => badRequest(`${field} is not what this type of message takes`, { field });
    assert.deepEqual(await join("lately"), kind("data.since"));
    assert.deepEqual(await join({ ...positions[4], offset: -1 }), kind("data.since.offset"));
    assert.deepEqual(await join({ ...positions[4], offset: "5" }), kind("data.since.offset"));
    assert.deepEqual(await join({ epoch: start.epoch, offset: 1 }), badRequest("A field is missing: data.since.tag", { field: "data.since.tag" }));
  });

  test("history_lost: more than fits the queue is too_many_missed, and not the end of the session", async (t) => {
    const server = await serve(t, { config: ROOMY });
    const alice = await server.open("alice");
    const { position: start } = await alice.ok("join", { room });
    const sent = [];
    for (const n of upTo(200)) sent.push((await alice.ok("send", { room, body: `${n} ${"x".repeat(4_000)}` })).position);
    const bob = await server.open("bob");
    assert.deepEqual(await bob.error("join", { room, since: start }), historyLost("too_many_missed"));
    assert.deepEqual(await bob.error("history", { room, since: start }), historyLost("too_many_missed"));
    const { messages } = await bob.ok("history", { room });
    assert.ok(messages.length > 100 && messages.length < 200, `${messages.length} fit`);
    assert.deepEqual(offsets(messages), upTo(200, 201 - messages.length), "the newest that fit");
    await bob.ok("join", { room, since: sent.at(-1 - messages.length) });
    await bob.settle();
    assert.deepEqual(offsets(bob.said(room)), offsets(messages));
  });
});

describe("rooms come and go", limit, () => {
  test("create = \"join\": the first to join opens it, up to max_rooms", async (t) => {
    const server = await serve(t, { config: `[[route]]\npath = "/ws"\nrooms = { open = [], create = "join", max_rooms = 4 }` });
    const alice = await server.open("alice");
    // Development mode has three rooms of its own: lobby, closed and staff.
    assert.deepEqual(await alice.error("history", { room: "new" }), notFound, "reading opens nothing");
    assertPosition((await alice.ok("join", { room: "new" })).position, 0);
    await alice.ok("send", { room: "new", body: 1 });
    assert.deepEqual(await alice.error("join", { room: "newer" }), {
      code: 1013, message: "There are too many rooms", name: "overloaded", fatal: false, retry: "after",
      retry_after_ms: 5_000, spread_ms: 5_000,
    });
    assert.deepEqual((await alice.ok("members", { room: "new" })).members, ["alice"], "and the session goes on");
    const cause = server.lines().find(({ target, name }) => target === "saywhy::error" && name === "overloaded");
    assert.deepEqual([cause.name, cause.connection_id], ["overloaded", alice.id]);
    assert.match(cause.private, /raise max_rooms/);
  });

  test("a room that was removed and opened again is another room", async (t) => {
    const server = await serve(t);
    const [alice, bob] = [await server.open("alice"), await server.open("bob")];
    const { position: since } = await alice.ok("join", { room });
    await bob.ok("join", { room });
    assert.equal((await server.api("DELETE", "/rooms/lobby")).status, 204);
    for (const member of [alice, bob]) assert.deepEqual((await member.take("room_closed")).data, { room });
    assert.deepEqual(await alice.error("send", { room, body: 1 }), notFound);
    await server.api("PUT", "/rooms/lobby", { state: "open" });
    assert.deepEqual(await alice.error("send", { room, body: 1 }), notJoined, "nobody is in it yet");
    assert.deepEqual(await bob.error("leave", { room }), notJoined);
    assert.deepEqual(await alice.error("join", { room, since }), historyLost("epoch_changed"));
    assert.deepEqual((await alice.ok("join", { room })).members, ["alice"]);
    await alice.ok("send", { room, body: "heard" });
    await alice.settle();
    await bob.settle();
    assert.deepEqual(alice.said(room).map(({ body }) => body), ["heard"]);
    assert.deepEqual([bob.said(room), presence(bob)], [[], []], "who did not join again hears nothing of it");
    await alice.terminate();
    await server.ending(alice.id);
    assert.deepEqual((await bob.ok("join", { room })).members, ["bob"], "leaving the new one, the old one is not in the way");
  });

  test("rooms_per_connection", async (t) => {
    const server = await serve(t, { config: "[limits]\nrooms_per_connection = 2" });
    const alice = await server.open("alice");
    await alice.ok("join", { room: "lobby" });
    await alice.ok("join", { room: "staff" });
    assert.deepEqual(await alice.error("join", { room: "closed" }), tooManyRooms);
    await alice.ok("join", { room: "staff" }); // one that one is in already
    await alice.ok("leave", { room: "lobby" });
    await alice.ok("join", { room: "closed" });
    await server.api("DELETE", "/rooms/closed");
    await alice.ok("join", { room: "lobby" }); // a room that is gone takes no place
  });
});

describe("limits", limit, () => {
  test("rate_limited: not processed, and the session goes on", async (t) => {
    const server = await serve(t, { config: "[limits]\nmessages_per_s = 1\nmessage_burst = 5\nerrors = 1000" });
    const alice = await server.open("alice");
    await alice.ok("join", { room });
    const answers = await Promise.all(upTo(20).map((n) => alice.ask("send", { room, body: n })));
    const refused = answers.filter(({ type }) => type === "error");
    assert.equal(answers.length - refused.length, 4, "the burst, but for the join");
    for (const { data } of refused) {
      const { retry_after_ms, spread_ms, ...rest } = data;
      assert.deepEqual(rest, { code: 4005, message: "Too many requests", name: "rate_limited", fatal: false, retry: "after" });
      assert.ok(retry_after_ms > 0 && retry_after_ms <= 1_000 && spread_ms <= retry_after_ms, JSON.stringify(data));
    }
    // What was told to wait may come again afterwards.
    await new Promise((resolve) => setTimeout(resolve, refused.at(-1).data.retry_after_ms));
    assertPosition((await alice.ok("send", { room, body: "later" })).position, 5);
  });

  test("policy_violation: the error budget", async (t) => {
    const server = await serve(t, { config: "[limits]\nerrors = 3" });
    const alice = await server.open("alice");
    for (let n = 0; n < 3; n++) assert.deepEqual(await alice.error("leave", { room }), notJoined);
    await alice.settle();
    assert.deepEqual(await alice.error("leave", { room }), notJoined, "the one too many is answered too");
    const words = "Too many errors: the last one used up the budget";
    const { data, meta } = await alice.takeWhere(({ data }) => data.fatal, "the end");
    assert.deepEqual(data, { code: 1008, message: words, name: "policy_violation", fatal: true, retry: "never" });
    assert.equal(meta.request_id, alice.id);
    assert.deepEqual(await alice.closed, { code: 1008, reason: words });
  });

  test("slow_consumer: hears whole messages and why it ends, and nobody waits for it", async (t) => {
    const server = await serve(t, { config: `${ROOMY}\nwrite_ms = 60000` });
    const slow = await server.raw({ who: "slow" });
    const frames = slow.frames[Symbol.asyncIterator]();
    const { connection_id } = JSON.parse((await frames.next()).value.payload).data;
    await slow.sendFrame({ payload: JSON.stringify({ type: "join", data: { room }, meta: { request_id: "1" } }) });
    assert.equal(JSON.parse((await frames.next()).value.payload).type, "ok");
    slow.pause();

    const others = [await server.open("alice"), await server.open("bob")];
    for (const other of others) await other.ok("join", { room });
    // More than any kernel keeps for a socket, and then the queue, each message heard by the others before the next.
    const body = "x".repeat(60_000);
    for (const n of upTo(400)) {
      others[0].send({ type: "send", data: { room, body: { n, body } } });
      for (const other of others) assert.equal((await other.take("message")).data.position.offset, n);
    }

    slow.resume();
    const heard = [];
    let next;
    for (;;) {
      next = (await frames.next()).value;
      assert.ok(next, "the connection ended without a word");
      if (next.opcode === 9) continue;
      if (next.opcode !== 1) break;
      heard.push(JSON.parse(next.payload));
    }
    assert.equal(next.opcode, 8);
    assert.deepEqual(closeInfo(next.payload), { code: 4007, reason: "You were not reading fast enough" });
    const last = heard.pop();
    assert.deepEqual(last.data, { code: 4007, message: "You were not reading fast enough", name: "slow_consumer", fatal: true, retry: "backoff" });
    assert.equal(last.meta.request_id, connection_id);
    const said = heard.filter(({ type }) => type === "message");
    assert.deepEqual(said.map(({ data }) => data.position.offset), upTo(said.length), "what it heard is whole and in order");
    assert.ok(said.length > 0 && said.length < 400);

    await slow.sendFrame({ opcode: 8, payload: next.payload });
    assert.deepEqual(await slow.ended, { error: null, rest: Buffer.alloc(0) });
    const { cause, sent, received, confirmed } = await server.ending(connection_id);
    assert.deepEqual([cause, sent, received, confirmed], ["slow_consumer", 4007, 4007, true]);
  });

  test("connections_per_identity", async (t) => {
    const server = await serve(t, { config: "[limits]\nconnections_per_identity = 2" });
    const token = await server.mint("alice");
    const first = await server.open("alice", { token });
    await server.open("alice", { token });
    const third = server.connect({ token });
    const words = "Too many connections of the same identity";
    assert.equal((await third.take("error")).data.message, words);
    assert.deepEqual(await third.closed, { code: 4005, reason: words });
    await server.open("bob");
    await first.close();
    await server.ending(first.id);
    await server.open("alice", { token });
  });
});

describe("whoever is let in", limit, () => {
  test("auth_expiring: who renews stays, who does not ends as token_expired", async (t) => {
    const server = await serve(t);
    const token = await server.mint("alice", { expires_in_s: 2 });
    const [stays, goes] = [await server.open("alice", { token }), await server.open("alice", { token })];
    await stays.ok("join", { room });
    for (const session of [stays, goes]) {
      const { data, meta } = await session.take("auth_expiring");
      assert.ok(data.expires_in_ms > 0 && data.expires_in_ms <= 1_000, JSON.stringify(data));
      assert.deepEqual([Object.keys(data), Object.keys(meta)], [["expires_in_ms"], ["timestamp"]]);
    }
    await stays.ok("authenticate", { token: await server.mint("alice") });

    const { data } = await goes.take("error");
    assert.deepEqual(data, {
      code: 4003, message: "Your token has expired", name: "unauthorized", fatal: true, retry: "reauthenticate",
      details: { reason: "token_expired" },
    });
    assert.deepEqual(await goes.closed, { code: 4003, reason: "Your token has expired" });
    assert.deepEqual((await stays.ok("members", { room })).members, ["alice"], "still in the room");
    assert.deepEqual(stays.seen.filter(({ type }) => type === "error" || type === "auth_expiring").length, 1);
    assert.equal((await server.ending(goes.id)).cause, "unauthorized");
  });

  test("replaced: one connection for each identity", async (t) => {
    const server = await serve(t, {
      config: `[[route]]\npath = "/ws"\nrooms = {}\none_per_identity = true\n[[route]]\npath = "/two"\nrooms = {}\none_per_identity = true`,
    });
    const [first, elsewhere, bob] = [
      await server.open("alice"),
      await server.open("alice", { at: server.routes[1] }),
      await server.open("bob"),
    ];
    await bob.ok("join", { room });
    await first.ok("join", { room });
    const second = await server.open("alice");
    const { data, meta } = await first.take("error");
    assert.deepEqual(data, { code: 4006, message: "A newer connection took over", name: "replaced", fatal: true, retry: "never" });
    assert.equal(meta.request_id, first.id);
    assert.deepEqual(await first.closed, { code: 4006, reason: "A newer connection took over" });
    assert.deepEqual((await bob.take("left")).data, { room, member: "alice" });
    for (const other of [second, elsewhere, bob]) await other.settle();
  });

  test("a token by every way, and none", async (t) => {
    const server = await serve(t);
    const token = await server.mint("alice");
    const at = new URL(server.url);
    at.searchParams.set("access_token", token);
    const ways = [
      { protocols: ["saywhy.v1", `saywhy.bearer.${token}`] },
      { protocols: ["saywhy.v1"], headers: { authorization: `Bearer ${token}` } },
      { protocols: ["saywhy.v1"], headers: { authorization: `bearer ${token}` } },
      { protocols: [], headers: { authorization: `Bearer ${token}` } },
      { protocols: ["saywhy.v1"], at: at.href },
    ];
    for (const way of ways) {
      const session = server.connect(way);
      assert.equal((await session.take("ready")).data.user, "alice", JSON.stringify(way));
      await session.close();
    }
    for (const [bad, reason] of [[undefined, "token_missing"], ["x.y.z", "token_invalid"], [await server.mint("alice", { expires_in_s: -60 }), "token_expired"]]) {
      const session = server.connect({ token: bad });
      const { data, meta } = await session.take("error");
      assert.deepEqual([data.name, data.fatal, data.details], ["unauthorized", true, { reason }]);
      const { code, reason: words } = await session.closed;
      assert.deepEqual([code, words], [4003, data.message]);
      assert.equal((await server.ending(meta.request_id)).cause, "unauthorized", "the id that it was told is in the log");
    }
  });

  test("tokens of one's own issuer, and a route for guests", async (t) => {
    const config = `
[api]
key = "the key of the test's API"
[token]
hs256_secret = "${SECRET}"
issuer = "us"
audience = "ws"
[[route]]
path = "/ws"
rooms = {}
[[route]]
path = "/open"
rooms = {}
token = "none"
[[route]]
path = "/maybe"
rooms = {}
token = "optional"`;
    const server = await serve(t, { config });
    assert.deepEqual([server.page, server.apiKey], [undefined, undefined], "no development mode");
    const exp = Math.floor(Date.now() / 1000) + 600;
    const good = { sub: "alice", exp, iss: "us", aud: ["other", "ws"], rooms: { lobby: ALL } };
    const alice = await server.open("alice", { token: sign(good) });
    await alice.ok("join", { room });
    const strangers = [
      sign({ ...good, iss: "them" }),
      sign({ ...good, aud: "http" }),
      sign({ ...good, iss: undefined }),
      sign({ ...good, sub: undefined }),
      sign({ ...good, exp: undefined }),
      sign({ ...good, nbf: exp }),
      sign(good, "another secret of the tests, long enough"),
      sign(good, SECRET, { alg: "HS512", typ: "JWT" }),
      `${sign(good, SECRET, { alg: "none" }).split(".").slice(0, 2).join(".")}.`,
    ];
    for (const token of strangers) assert.equal((await server.connect({ token }).closed).code, 4003, token);

    const [, open, maybe] = server.routes;
    const guest = await server.open("", { token: "not-looked-at", at: open });
    assert.match(guest.ready.data.user, /^guest-[0-9a-f]{8}$/);
    await guest.ok("join", { room });
    const asked = await server.open("", { token: sign(good), at: maybe });
    assert.equal(asked.ready.data.user, "alice");
    const nobody = server.connect({ at: maybe });
    assert.match((await nobody.take("ready")).data.user, /^guest-/);
    assert.equal((await server.connect({ at: maybe, token: "bad" }).closed).code, 4003, "a bad token is not none");

    // Nothing of the development mode is here.
    for (const path of ["/", "/dev/info", "/dev/token", "/usual", "/api/v1/rooms"]) {
      const { status, type } = await call(new URL(path, open.replace("ws:", "http:")), path === "/dev/token" ? "POST" : "GET");
      assert.deepEqual([status, type], [404, "application/problem+json"], path);
    }
  });
});
