// The rooms of a test: what was said in them, which outlives connections, and who hears more of it.

import type { Message, Position } from "../wire.js";

const EPOCH = "0123456789abcdef";

type Deliver = (message: Message) => void;

export class TestRooms {
  readonly #logs = new Map<string, Message[]>();
  readonly #members = new Map<string, Set<Deliver>>();

  /** The place after the last message of a room. */
  top(room: string): Position {
    return place(this.#log(room).length);
  }

  /** What was said after a place, or since the beginning. */
  after(room: string, since?: Position): readonly Message[] {
    return this.#log(room).slice(since?.offset ?? 0);
  }

  join(room: string, deliver: Deliver): void {
    this.#membersOf(room).add(deliver);
  }

  leave(room: string, deliver: Deliver): void {
    this.#membersOf(room).delete(deliver);
  }

  /** Says something to all members, or to one connection alone. */
  say(room: string, body: unknown, from: string, to: Iterable<Deliver> = this.#membersOf(room)): Position {
    const log = this.#log(room);
    const message = { room, position: place(log.length + 1), from, body, timestamp: undefined };
    log.push(message);
    for (const deliver of to) deliver(message);
    return message.position;
  }

  #log(room: string): Message[] {
    const log = this.#logs.get(room) ?? [];
    this.#logs.set(room, log);
    return log;
  }

  #membersOf(room: string): Set<Deliver> {
    const members = this.#members.get(room) ?? new Set();
    this.#members.set(room, members);
    return members;
  }
}

function place(offset: number): Position {
  return { epoch: EPOCH, offset, tag: offset.toString(16).padStart(16, "0") };
}
