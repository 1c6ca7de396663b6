// The rooms that this client is in: coming back to them, and their messages on the way to who reads them.

import type { Answer } from "./connection.js";
import { SaywhyError, badAnswer, saidByServer } from "./error.js";
import type { Events } from "./events.js";
import { Inbox } from "./inbox.js";
import { Seat } from "./seat.js";
import { readAnswer, type Message, type Position } from "./wire.js";

/** What a join that the server cannot take now waits, when the server does not say. */
const REJOIN_MS = 1_000;

/** What rooms need of the client that they belong to. */
export interface Host {
  /** Sends a request of the client's own; without a session nothing comes of it. */
  ask(type: "join", data: { room: string; since: Position | undefined }, answered: (answer: Answer) => void): void;
  tell<E extends keyof Events>(event: E, info: Events[E]): void;
  after(ms: number, act: () => void): () => void;
  random(): number;
}

export class Rooms {
  readonly inbox = new Inbox(() => this.#catchUp());
  readonly #host: Host;
  readonly #seats = new Map<string, Seat>();
  /** Of the joins that are to be tried again. */
  readonly #timers = new Set<() => void>();

  constructor(host: Host) {
    this.#host = host;
  }

  /** Somebody's join is being sent. */
  joining(room: string, since: Position | undefined): void {
    const seat = this.#seats.get(room) ?? new Seat();
    this.#seats.set(room, seat);
    seat.joining(since);
  }

  joined(room: string, position: Position): void {
    this.#seats.get(room)?.joined(position);
    this.#catchUp();
  }

  /** Somebody's join was answered with an error. Where one was, one still is, unless the server had begun. */
  refused(room: string, name: string | undefined): void {
    const seat = this.#seats.get(room);
    const hadNotBegun = name === "bad_request" || name === "forbidden" || name === "rate_limited";
    if (seat?.isGranted && hadNotBegun) seat.notJoined();
    else this.#seats.delete(room);
  }

  left(room: string): void {
    this.#seats.delete(room);
  }

  /** Entries of a room were lost to the server; one is still in it. */
  lost(room: string, error: SaywhyError): void {
    this.#seats.get(room)?.mayJump();
    this.#tellLost(room, error);
  }

  receive(message: Message): void {
    const { room, position } = message;
    const verdict = this.#seats.get(room)?.receive(position, this.inbox.hasSpace) ?? "skip";
    switch (verdict) {
      case "take":
        return this.inbox.push(message);
      case "skip":
        return;
      case "repair":
        return this.#rejoin(room);
      case "lost": {
        const words = "Messages are missing: the server went on without them";
        this.#tellLost(room, new SaywhyError("history_lost", words, "client", { code: 4009 }));
        return this.inbox.push(message);
      }
      default:
        verdict satisfies never;
    }
  }

  /** Comes back to every room over a new connection, each from where one was; then calls `done`. */
  comeBack(done: () => void): void {
    // A join that was never answered is sent again by itself.
    for (const [room, seat] of this.#seats) if (!seat.isGranted) this.#seats.delete(room);
    let left = this.#seats.size;
    if (left === 0) return done();
    for (const room of [...this.#seats.keys()]) this.#rejoin(room, () => --left || done());
  }

  /** The connection is gone. */
  gone(): void {
    for (const stop of this.#timers) stop();
    this.#timers.clear();
  }

  /** `done` is called when the server has said yes, or no for now. */
  #rejoin(room: string, done?: () => void): void {
    const seat = this.#seats.get(room);
    const since = seat?.position;
    seat?.joining(since);
    this.#host.ask("join", { room, since }, (answer) => {
      if (!answer) return;
      if (answer.ok) this.#isBack(room, answer.data, done !== undefined);
      else if (answer.said.name === "history_lost" && seat && since) {
        seat.position = undefined;
        this.#tellLost(room, saidByServer(answer.said));
        return this.#rejoin(room, done);
      } else this.#isNotBack(room, saidByServer(answer.said));
      done?.();
    });
  }

  #isBack(room: string, data: unknown, isNews: boolean): void {
    const answer = readAnswer("join", data);
    if (!answer) return this.#lose(room, badAnswer("join"));
    this.joined(room, answer.position);
    // Nobody has to know that a gap was mended.
    if (isNews) this.#host.tell("rejoined", { room, recovered: answer.recovered, members: answer.members });
  }

  #isNotBack(room: string, error: SaywhyError): void {
    if (error.retry === "never" || error.retry === "reauthenticate") return this.#lose(room, error);
    const delayMs = (error.retryAfterMs ?? REJOIN_MS) + this.#host.random() * REJOIN_MS;
    const stop = this.#host.after(delayMs, () => {
      this.#timers.delete(stop);
      if (this.#seats.has(room)) this.#rejoin(room, () => {});
    });
    this.#timers.add(stop);
  }

  #lose(room: string, error: SaywhyError): void {
    this.#seats.delete(room);
    this.#host.tell("room_lost", { room, error });
  }

  #tellLost(room: string, error: SaywhyError): void {
    const { reason } = error.details;
    this.#host.tell("history_lost", { room, reason: typeof reason === "string" ? reason : undefined, error });
  }

  /** Asks for what was passed over while nobody read. */
  #catchUp(): void {
    if (!this.inbox.hasSpace) return;
    for (const [room, seat] of this.#seats) if (seat.isBehind) this.#rejoin(room);
  }
}
