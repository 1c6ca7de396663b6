// What is said of an ending for which nobody gave a reason, and what a developer is told to do about any error.
import assert from "node:assert/strict";
import test from "node:test";
import { ROWS } from "../dist/catalogue.js";
import { connect, SaywhyError } from "../dist/index.js";
import { start } from "./support/fake.mjs";

/** The cause that the end of a connection is told with. */
function causeOf(world, code = 1006) {
  world.socket.end(code);
  world.chat.close();
  return [...world.told("waiting"), ...world.told("offline")][0].cause;
}

/** Runs `act` in a page of that address. */
function inPage(href, act) {
  const { href: whole, protocol, origin } = new URL(href);
  globalThis.location = { href: whole, protocol, origin };
  try {
    return act();
  } finally {
    delete globalThis.location;
  }
}

const UNREADABLE =
  "To a script a refused handshake, a server that is down and a cable that was cut look the same. Look at the network panel " +
  "and the server's log, or pass `diagnose`. A server that does not know saywhy.v1 needs connectPlain().";

test("before the handshake was answered, after it, and after ready are three things", () => {
  const never = causeOf(start());
  assert.deepEqual([never.message, never.help], ["No connection could be made", UNREADABLE]);
  const silent = start();
  silent.socket.open();
  assert.equal(
    causeOf(silent).help,
    "The handshake was answered, but nobody said `ready`. If the server does not speak saywhy.v1: connectPlain().",
  );
  const lost = start();
  lost.socket.ready();
  const { message, help } = causeOf(lost);
  assert.deepEqual([message, help], ["The connection was lost", "The network, a proxy or the server went away without a Close."]);
});

test("a server that was asked for saywhy.v1 and never says ready is told how to be connected to", async () => {
  const { socket, clock, told } = start();
  socket.open();
  socket.say("hello from something else");
  await clock.pass(30_000);
  const [{ cause }] = told("waiting");
  assert.equal(cause.message, "The connection was given up: the server was not ready in time");
  assert.match(cause.help, /connectPlain\(\)/);
});

test("what the page knows about it is added", () => {
  const offline = start();
  offline.network.up = false;
  assert.equal(causeOf(offline).help, `${UNREADABLE} The platform says that it is offline.`);

  const insecure = (href) => inPage(href, () => causeOf(start({}, (_, options) => connect("ws://example.com/ws", options))).help);
  assert.equal(insecure("https://app.example/"), `${UNREADABLE} The page came over https: it may connect to wss: only.`);
  assert.equal(insecure("http://app.example/"), UNREADABLE);
  assert.equal(
    inPage("file:///tmp/index.html", () => causeOf(start()).help),
    `${UNREADABLE} The page is a file or in a sandbox: its origin is null, which servers refuse.`,
  );
  assert.equal(inPage("https://app.example/", () => causeOf(start()).help), UNREADABLE);
});

test("every error helps", () => {
  const names = [
    ...["connection_lost", "closed", "aborted", "no_answer", "queue_full", "token_unavailable", "cannot_connect", "unnamed"],
    ...["bad_answer", "room_full", ...ROWS.map(({ name }) => name)],
  ];
  for (const name of names) assert.ok(new SaywhyError(name, "", "client").help.length > 10, name);
  assert.equal(new SaywhyError("forbidden", "", "server").help, "catalogue/forbidden.md");
  assert.match(new SaywhyError("room_full", "", "server").help, /^A row of the server's own/);
});

test("an error has all that is promised of it", () => {
  const facts = {
    ...{ code: 1013, retry: "after", retryAfterMs: 5, fatal: true, requestId: "0190", closeCode: 4005 },
    ...{ details: { a: 1 }, help: "Do this.", cause: new Error("deeper") },
  };
  const error = new SaywhyError("overloaded", "Full", "server", facts);
  const { name, message, source } = error;
  assert.deepEqual([name, message, source, String(error), error instanceof Error], ["overloaded", "Full", "server", "overloaded: Full", true]);
  for (const [key, value] of Object.entries(facts)) assert.equal(error[key], value, key);
});
