// What is heard of one room, in the orders in which a server may say it.
import assert from "node:assert/strict";
import test from "node:test";
import { Seat } from "../dist/seat.js";
import { at } from "./support/fake.mjs";

function seated(offset) {
  const seat = new Seat();
  seat.joining();
  seat.joined(at(offset));
  return seat;
}

const verdicts = (seat, ...offsets) => offsets.map((offset) => seat.receive(at(offset), true));

test("one after the other is taken, once", () => {
  const seat = seated(3);
  assert.deepEqual(verdicts(seat, 3, 4, 4, 5, 1), ["skip", "take", "skip", "take", "skip"]);
  assert.deepEqual(seat.position, at(5));
});

test("the first of a log follows its beginning", () => {
  assert.deepEqual(verdicts(seated(0), 1), ["take"]);
});

test("from now on means: from wherever the first message is, and from the answer when it is further", () => {
  const seat = new Seat();
  seat.joining();
  assert.deepEqual(verdicts(seat, 7, 9), ["take", "take"]);
  seat.joined(at(8));
  assert.deepEqual(verdicts(seat, 9, 10), ["skip", "take"]);
  seat.joining();
  seat.joined(at(20));
  assert.deepEqual(verdicts(seat, 20, 21), ["skip", "take"]);
});

test("what was on its way before a resume is passed over, before the answer and after it, and comes in its turn", () => {
  const seat = seated(0);
  assert.deepEqual(verdicts(seat, 1, 3), ["take", "repair"]);
  seat.joining(seat.position);
  assert.deepEqual(verdicts(seat, 4), ["skip"]);
  seat.joined(at(6));
  assert.deepEqual(verdicts(seat, 5, 6, 2, 3, 4, 5, 6, 7), ["skip", "skip", "take", "take", "take", "take", "take", "take"]);
});

test("a gap is asked for once; another one, too", () => {
  const seat = seated(0);
  for (const offset of [0, 10]) {
    assert.deepEqual(verdicts(seat, offset + 5), ["repair"]);
    seat.joining(seat.position);
    seat.joined(at(offset + 5));
    assert.deepEqual(verdicts(seat, offset + 6), ["lost"]);
    for (let next = offset + 7; next <= offset + 10; next += 1) assert.deepEqual(verdicts(seat, next), ["take"]);
  }
});

test("a log that begins anew without a word has lost something; with a word, it may jump once", () => {
  const seat = seated(5);
  assert.equal(seat.receive(at(1, "f"), true), "lost");
  seat.mayJump();
  assert.equal(seat.receive(at(1, "g"), true), "take");
  assert.equal(seat.receive(at(3, "g"), true), "repair");
});

test("without space nothing moves, and all of it is asked for later", () => {
  const seat = seated(0);
  assert.equal(seat.receive(at(1), false), "skip");
  assert.ok(seat.isBehind);
  assert.deepEqual(verdicts(seat, 2, 3), ["skip", "skip"]);
  assert.deepEqual(seat.position, at(0));
  seat.joining(seat.position);
  assert.ok(!seat.isBehind);
  seat.joined(at(3));
  assert.deepEqual(verdicts(seat, 1, 2, 3, 4), ["take", "take", "take", "take"]);
});
