// Alice and Bob: two people, two sockets, one room, and what can be done to them.

import { Chat } from "./chat.js";
import { $, copyable, h } from "./dom.js";
import { kick, mintToken, readInfo, restart } from "./server.js";
import { retryInWords } from "./words.js";

const ROOM = "lobby";
const RESTART = { retry_after_ms: 2_500, spread_ms: 1_000 };
const MEANWHILE = ["{}?", "{}, you dropped out.", "Never mind. You will read this anyway."];
const LINES_KEPT = 200;

class Person {
  #name;
  #info;
  #chat;
  #other = null;
  #state = h("span.state", {});
  #id = h("span.connection");
  #present = h("p.present");
  #log;
  #back;
  #countdown = null;

  constructor(name, info) {
    this.#name = name;
    this.#info = info;
    const user = name.toLowerCase();
    const input = h("input", { type: "text", maxlength: 500, autocomplete: "off", "aria-label": `Say as ${name}`, placeholder: `Say something as ${name}` });
    const submit = (event) => {
      event.preventDefault();
      if (input.value.trim() !== "") this.say(input.value.trim());
      input.value = "";
    };
    const action = (what, text, act) => h("button", { type: "button", "data-action": what, onclick: () => this.#attempt(act) }, text);
    this.#log = h("ol.log", { role: "log", tabindex: 0, "aria-label": `What ${name} sees` });
    this.#back = action("come-back", `${name} comes back`, () => this.#chat.connect());
    this.#back.hidden = true;
    this.element = h(
      "section.person",
      { "data-user": user, "data-state": "new", "aria-label": name },
      h("header", {}, h("h3", {}, name), this.#state, this.#id),
      this.#log,
      this.#present,
      h("form", { onsubmit: submit }, input, h("button", { type: "submit" }, "Say")),
      h("div.controls", {},
        action("kick", `Kick ${name}`, () => kick(info, this.#chat.connectionId, "Be kind, or be elsewhere")),
        action("restart", `Restart the server under ${name}`, () => this.#restart()),
        action("closed-room", "Talk in a closed room", () => this.#talkInClosedRoom()),
        this.#back,
      ),
    );
    this.#chat = new Chat({
      user,
      path: info.rooms,
      room: ROOM,
      token: () => mintToken(user),
      on: {
        state: (state, why) => this.#show(state, why),
        line: ({ key, from, body }) => this.#line(from, body, key),
        presence: (verb, member) => this.#enterOrExit(verb, member),
        resumed: (how) => this.#resumed(how),
        lost: (error) => this.#error(error),
        error: (error) => this.#error(error),
      },
    });
  }

  meets(other) {
    this.#other = other;
  }

  enter() {
    this.#chat.connect();
  }

  get isReady() {
    return this.#chat.state === "ready";
  }

  say(text) {
    if (!this.isReady) this.#note("waits until the connection is back");
    this.#chat.say(text);
  }

  // What can be done to a person

  async #attempt(act) {
    try {
      await act();
    } catch (error) {
      // The server's, or one of this page.
      if (error.source) this.#error(error);
      else this.#note(error.message);
    }
  }

  async #restart() {
    if (!this.isReady) return;
    await restart(this.#chat.connectionId, RESTART.retry_after_ms, RESTART.spread_ms);
    for (const [index, line] of MEANWHILE.entries()) {
      setTimeout(() => this.#other.isReady && this.#other.say(line.replace("{}", this.#name)), 500 + 650 * index);
    }
  }

  async #talkInClosedRoom() {
    if (!this.isReady) return;
    await this.#chat.request("join", { room: "closed" });
    await this.#chat.request("send", { room: "closed", body: "Anyone here?" });
  }

  // What a person sees

  #show(state, { cause, delayMs }) {
    this.element.dataset.state = state;
    this.element.dataset.connectionId = this.#chat.connectionId;
    this.#id.replaceChildren(...(this.#chat.connectionId ? [copyable(this.#chat.connectionId, "connection id")] : []));
    this.#back.hidden = state !== "ended";
    for (const button of this.element.querySelectorAll(".controls [data-action]")) {
      if (button === this.#back) continue;
      button.disabled = state !== "ready";
      button.hidden = state === "ended";
    }
    this.#showPresent();
    clearInterval(this.#countdown);
    this.#state.textContent = { connecting: "connecting", ready: "connected", ended: "ended" }[state] ?? "";
    if (state === "waiting") this.#countDown(delayMs ?? 0);
    if (cause) this.#error(cause);
  }

  #countDown(delayMs) {
    const until = performance.now() + delayMs;
    const tick = () => {
      const left_s = Math.max(0, until - performance.now()) / 1000;
      this.#state.textContent = `back in ${left_s.toFixed(1)} s`;
    };
    tick();
    this.#countdown = setInterval(tick, 100);
  }

  #line(from, body, key) {
    const text = typeof body === "string" ? body : (body?.text ?? JSON.stringify(body));
    this.#append(
      { "data-kind": "line", "data-from": from, "data-position": key },
      h("b.who", {}, capitalised(from)),
      h("span.said", {}, text),
    );
  }

  #enterOrExit(verb, member) {
    this.#note(`${verb === "joined" ? "Enter" : "Exit"} ${capitalised(member)}.`);
    this.#showPresent();
  }

  #resumed({ awayMs, missed, received }) {
    Object.assign(this.element.dataset, { missed, received });
    const what = missed === 0 ? "Nothing was missed." : `${missed} ${missed === 1 ? "line" : "lines"} missed, ${received} caught up.`;
    this.#note(`Back after ${(awayMs / 1000).toFixed(1)} s. ${what}`);
  }

  #showPresent() {
    const names = [...this.#chat.members].sort();
    const here = this.isReady && names.length > 0;
    this.#present.textContent = here ? `In the room: ${names.map(capitalised).join(", ")}` : "Not in the room";
  }

  #note(text) {
    this.#append({ "data-kind": "note" }, h("i", {}, text));
  }

  /** What the client says went wrong, whoever told it. */
  #error({ code = "", name, message, retry, retryAfterMs = null, fatal }) {
    if (code === 1006 && this.#log.lastElementChild?.dataset.code === "1006") return;
    const next = retryInWords({ retry, retryAfterMs, spreadMs: 0, close: fatal ? undefined : null });
    this.#append(
      { "data-kind": "error", "data-code": code, "data-name": name, "data-retry": retry },
      h("mark", {}, message),
      h("small", {}, [code, name, next && `· ${next}`].filter(Boolean).join(" ")),
    );
  }

  #append(attributes, ...children) {
    this.#log.append(h("li", attributes, ...children));
    if (this.#log.childElementCount > LINES_KEPT) this.#log.firstElementChild.remove();
    this.#log.scrollTop = this.#log.scrollHeight;
  }
}

function capitalised(name) {
  return name.slice(0, 1).toUpperCase() + name.slice(1);
}

const info = await readInfo();
if (info === null) {
  $("#talk").hidden = true;
} else {
  const [alice, bob] = [new Person("Alice", info), new Person("Bob", info)];
  alice.meets(bob);
  bob.meets(alice);
  $("#people").append(alice.element, bob.element);
  alice.enter();
  bob.enter();
  await ready(alice, bob);
  alice.say("Bob, are you there?");
  setTimeout(() => bob.isReady && bob.say("Loud and clear."), 900);
}

async function ready(...people) {
  while (!people.every((person) => person.isReady)) await new Promise((resolve) => setTimeout(resolve, 100));
}
