// One user in one room, by the client library: what this page wants to know of it. client.js is that library, bundled.

import { connect } from "./client.js";

export class Chat {
  state = "new"; // new → connecting → ready → waiting → connecting … or ended
  connectionId = "";
  members = new Set();

  #options;
  #client = null;
  #since; // the place of the last line
  #seen = 0; // its number in the log
  #lostAt = 0;
  #gap = null; // what a return has brought, and has still to bring

  /**
   * @param {{path: string, room: string, user: string, token: () => Promise<string>, on: object}} options `on` may have
   *   `state(state, {cause, delayMs})`, `line({key, from, body})`, `presence(verb, member)`, `lost(error)`,
   *   `error(error)`, `resumed({awayMs, missed, received})`
   */
  constructor(options) {
    this.#options = options;
  }

  connect() {
    if (this.state !== "new" && this.state !== "ended") return;
    const { path, room, token, on } = this.#options;
    const client = connect(path, { token });
    this.#client = client;
    const mine = (act) => (info) => info.room === room && act(info);
    client.on("connecting", () => this.#become("connecting"));
    client.on("ready", ({ connectionId }) => (this.connectionId = connectionId));
    client.on("waiting", (why) => this.#lose("waiting", why));
    client.on("offline", (why) => this.#lose("waiting", why));
    client.on("error", ({ error }) => on.error?.(error));
    client.on("history_lost", mine(({ error }) => on.lost?.(error)));
    client.on("room_lost", mine(({ error }) => on.error?.(error)));
    client.on("rejoined", mine(({ recovered, members }) => this.#back(recovered, members)));
    client.on("joined", mine(({ member }) => this.#presence("joined", member)));
    client.on("left", mine(({ member }) => this.#presence("left", member)));
    client.closed.then(({ cause }) => this.#lose("ended", { cause }));
    void this.#enter();
    void this.#read(client);
  }

  /** Says something in the room; while there is no connection, it waits, and goes out once. */
  async say(body) {
    const { ok, error } = await this.#client.send(this.#options.room, body).reply;
    if (!ok && !error.fatal) this.#options.on.error?.(error);
  }

  /** The `data` of the answer to a request; throws the server's error. */
  async request(type, data) {
    const { ok, data: answer, error } = await this.#client.request(type, data);
    if (ok) return answer;
    throw error;
  }

  /** The first time, or after an end: a new client that goes on where the last one was. */
  async #enter() {
    try {
      const { position, members, recovered } = await this.request("join", { room: this.#options.room, since: this.#since });
      this.#since ??= position;
      this.#seen ||= position.offset;
      await this.#back(recovered, members);
    } catch (error) {
      if (!error.fatal) this.#options.on.error?.(error);
    }
  }

  async #read(client) {
    for await (const { room, position, from, body } of client) {
      if (room !== this.#options.room) continue;
      const { epoch, offset, tag } = position;
      [this.#since, this.#seen] = [position, offset];
      this.#options.on.line?.({ key: `${epoch}:${offset}:${tag}`, from, body });
      if (this.#gap) this.#gap.received += 1;
      this.#catchUp();
    }
  }

  async #back(recovered, members = []) {
    const { room } = this.#options;
    const awayMs = this.#lostAt ? performance.now() - this.#lostAt : 0;
    this.members = new Set(members);
    this.#lostAt = 0;
    this.#become("ready");
    if (!recovered) return;
    // What was missed is counted, not taken on trust: up to where the log is now, everything has to come.
    this.#gap = { awayMs, from: this.#seen, to: undefined, received: 0 };
    const { ok, data } = await this.#client.request("history", { room, limit: 1 });
    if (ok && this.#gap) this.#gap.to = data.position.offset;
    this.#catchUp();
  }

  #catchUp() {
    if (this.#gap?.to === undefined || this.#seen < this.#gap.to) return;
    const { awayMs, from, to, received } = this.#gap;
    this.#gap = null;
    this.#options.on.resumed?.({ awayMs, missed: to - from, received });
  }

  #lose(state, why) {
    this.#lostAt ||= performance.now();
    this.#gap = null;
    this.#become(state, why);
  }

  #become(state, why = {}) {
    this.state = state;
    if (state !== "ready") this.connectionId = "";
    this.#options.on.state?.(state, why);
  }

  #presence(verb, member) {
    if (verb === "joined") this.members.add(member);
    else this.members.delete(member);
    this.#options.on.presence?.(verb, member);
  }
}
