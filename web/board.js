// The board of failures: a click runs one of them twice, the usual way and on Saywhy, and shows both side by side.

import { $, copyable, h } from "./dom.js";
import { FAILURES, GROUPS } from "./failures.js";
import { readInfo } from "./server.js";
import { runTrial } from "./trial.js";
import { socketUrl } from "./witness.js";
import { codeName, isExplained, retryInWords, sentenceOf } from "./words.js";

const SIDES = ["usual", "saywhy"];
const TITLES = { usual: "The usual way", saywhy: "Saywhy" };
const FIRST_IMPRESSION = "expired-token";
const AT_ONCE = 4;

const buttons = new Map();
let info = null;
let running = new AbortController();
let shown = null;

buildBoard();
start();
new ResizeObserver(([{ target }]) => target.style.setProperty("--stage-height", `${target.offsetHeight}px`)).observe($("#stage"));

async function start() {
  info = await readInfo();
  if (info === null) {
    $("#off").hidden = false;
    $("#stage").hidden = $("#run-all").hidden = $(".rail-key").hidden = true;
    for (const button of buttons.values()) button.disabled = true;
    return;
  }
  $("#version").textContent = info.version ?? "";
  $("#own-url").textContent = socketUrl(info.rooms);
  addEventListener("hashchange", followHash);
  if (!followHash()) runOne(failureOf(FIRST_IMPRESSION), { quiet: true });
}

function followHash() {
  const slug = decodeURIComponent(location.hash.slice(1));
  if (slug === "all") runAll();
  else if (buttons.has(slug)) runOne(failureOf(slug));
  else return false;
  return true;
}

function failureOf(slug) {
  return FAILURES.find((failure) => failure.slug === slug);
}

// The board

function buildBoard() {
  $("#count").textContent = `${FAILURES.length} ways`;
  for (const group of GROUPS) {
    const failures = FAILURES.filter((failure) => failure.group === group);
    const id = `group-${GROUPS.indexOf(group)}`;
    const list = h("ul", { "aria-labelledby": id }, ...failures.map((failure) => h("li", {}, boardButton(failure))));
    $("#groups").append(h("section.group", {}, h("h3", { id }, group), list));
  }
  $("#groups").addEventListener("keydown", moveFocus);
  $("#run-all").addEventListener("click", () => ($("#run-all").dataset.running ? stop() : visit("all", runAll)));
  $("#again").addEventListener("click", () => runOne(shown));
}

function boardButton(failure) {
  const button = h(
    "button.failure",
    { type: "button", "data-failure": failure.slug, onclick: () => visit(failure.slug, () => runOne(failure)) },
    h("span.title", {}, failure.title),
    h("span.mini.mini-usual", { "aria-hidden": "true" }),
    h("span.mini.mini-saywhy", { "aria-hidden": "true" }),
  );
  buttons.set(failure.slug, button);
  return button;
}

/** Runs, and leaves an address that can be shared. */
function visit(slug, run) {
  history.replaceState(null, "", `#${slug}`);
  run();
}

function moveFocus(event) {
  const all = [...buttons.values()];
  const here = all.indexOf(document.activeElement);
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (here < 0 || step === undefined) return;
  event.preventDefault();
  all[(here + step + all.length) % all.length].focus();
}

function showMini(failure, side, outcome) {
  const mini = buttons.get(failure.slug).querySelector(`.mini-${side}`);
  mini.textContent = outcome === null ? "" : shortCode(side, outcome);
  mini.classList.toggle("explained", outcome !== null && isExplained(outcome));
}

/** The number that stands for an outcome: the code in the message, else that of the Close, else a silence. */
function shortCode(side, { code, close, silence }) {
  return String(code ?? close?.code ?? (silence ? "· · ·" : "–"));
}

// One failure

async function runOne(failure, { quiet = false } = {}) {
  const signal = takeStage(failure);
  $("#tally").hidden = true;
  $("#result").hidden = false;
  $("#result").dataset.failure = failure.slug;
  $("#result-title").textContent = failure.title;
  $("#result-story").textContent = failure.story;
  const views = SIDES.map((side) => new SideView(failure, side));
  $("#sides").replaceChildren(...views.map((view) => view.element));
  if (!quiet) bringIntoView();
  const outcomes = await runBoth(failure, signal, (index, event) => views[index].event(event), (index, outcome) =>
    views[index].finish(outcome),
  );
  if (signal.aborted || quiet) return;
  announce(`${failure.title}. ${SIDES.map((side, index) => spoken(side, outcomes[index])).join(" ")}`);
}

function runBoth(failure, signal, onEvent, onOutcome) {
  for (const side of SIDES) showMini(failure, side, null);
  buttons.get(failure.slug).dataset.running = "true";
  const trials = SIDES.map(async (side, index) => {
    const outcome = await runTrial(failure, side, info, signal, (event) => onEvent(index, event));
    if (outcome === null) return null;
    showMini(failure, side, outcome);
    onOutcome(index, outcome);
    return outcome;
  });
  return Promise.all(trials).finally(() => delete buttons.get(failure.slug).dataset.running);
}

/** Ends whatever is running, and gives the signal that will end what comes now. */
function takeStage(failure) {
  running.abort();
  running = new AbortController();
  shown = failure;
  delete $("#run-all").dataset.running;
  $("#run-all").textContent = "Run all";
  $("#progress").hidden = true;
  for (const [slug, button] of buttons) {
    const current = slug === failure?.slug;
    button.setAttribute("aria-current", current);
    if (current) centre(button);
  }
  return running.signal;
}

/** On a narrow screen the buttons of a group scroll sideways. */
function centre(button) {
  const list = button.closest("ul");
  list.scrollLeft = button.offsetLeft - (list.clientWidth - button.offsetWidth) / 2;
}

function stop() {
  takeStage(null);
  announce("Stopped.");
}

/** On a narrow screen the stage is below the board. */
function bringIntoView() {
  const { top } = $("#stage").getBoundingClientRect();
  if (top >= 0 && top < innerHeight * 0.6) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  $("#stage").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
}

function announce(text) {
  $("#announce").textContent = text;
}

function spoken(side, outcome) {
  const sentence = sentenceOf(outcome) || "nothing at all";
  const words = [sentence, outcome.name.replaceAll("_", " "), retryInWords(outcome)].filter((word) => word !== "");
  return `${TITLES[side]}: ${words.join(", ")}.`;
}

// One side of it

class SideView {
  #failure;
  #side;
  #verdict;
  #facts;
  #timeline;
  #last = null;

  constructor(failure, side) {
    this.#failure = failure;
    this.#side = side;
    this.#verdict = h("div.verdict", {}, ...this.#heading(null), h("p.numeral.pending", {}, "…"));
    this.#facts = h("dl.facts");
    this.#timeline = h("ol.timeline", { "aria-label": "What the page observed" });
    this.element = h(
      "article.side",
      { "data-side": side, "data-failure": failure.slug, "data-done": "false", "aria-label": TITLES[side] },
      this.#verdict,
      h("div.details", {}, this.#facts, this.#timeline),
    );
    this.#facts.append(...facts(null));
  }

  #heading(outcome) {
    return [h("h3.side-title", {}, TITLES[this.#side]), h("p.did", {}, did(this.#failure, this.#side, outcome))];
  }

  event(event) {
    const label = repeatLabel(event);
    if (label !== null && this.#last?.label === label) {
      this.#last.count += 1;
      this.#last.badge.textContent = `× ${this.#last.count}`;
      return;
    }
    const badge = h("span.times");
    this.#last = { label, count: 1, badge };
    this.#timeline.append(timelineRow(event, badge));
  }

  finish(outcome) {
    record(this.element, outcome, this.#failure, this.#side);
    this.#verdict.replaceChildren(...this.#heading(outcome), ...verdict(this.#side, outcome));
    this.#facts.replaceChildren(...facts(outcome));
  }
}

/** Writes down what a test wants to read. */
function record(element, outcome, failure, side) {
  const { dataset } = element;
  dataset.code = outcome.code ?? outcome.close?.code ?? "";
  dataset.closeCode = outcome.close?.code ?? "";
  dataset.reason = outcome.close?.reason ?? "";
  dataset.name = outcome.name;
  dataset.message = outcome.message;
  dataset.retry = outcome.retry;
  dataset.retryAfterMs = outcome.retryAfterMs ?? "";
  dataset.spreadMs = outcome.retryAfterMs === null ? "" : outcome.spreadMs;
  dataset.requestId = outcome.requestId;
  dataset.connectionId = outcome.connectionId;
  dataset.userReads = sentenceOf(outcome);
  dataset.explained = isExplained(outcome);
  if (side === "saywhy") dataset.asExpected = isAsExpected(outcome, failure.expect);
  dataset.done = "true";
}

function isAsExpected(outcome, { code, name, close }) {
  return outcome.code === code && outcome.name === name && (outcome.close?.code ?? null) === close;
}

function did(failure, side, outcome) {
  if (side === "usual") return failure.usual.did;
  if (outcome === null || outcome.message === "") return "";
  return outcome.close ? "says why, then closes" : "says why, and goes on";
}

function verdict(side, outcome) {
  const sentence = sentenceOf(outcome);
  const retry = retryInWords(outcome);
  const number = h("p.numeral", {}, shortCode(side, outcome), outcome.name && h("span.name", {}, outcome.name));
  if (outcome.silence) {
    number.classList.add("silent");
    number.replaceChildren("nothing", h("span.name", {}, `for ${outcome.silence.ms / 1000} s`));
  }
  return [
    number,
    h("p.reads", {}, "What your user reads"),
    h(
      "div",
      {},
      h("p.sentence", {}, sentence ? (isTold(outcome) ? h("mark", {}, sentence) : sentence) : "A spinner, spinning"),
      retry ? h("p.next", {}, retry) : null,
    ),
  ];
}

function isTold({ message, close }) {
  return message !== "" || Boolean(close?.reason);
}

function facts(outcome) {
  if (outcome === null) outcome = { code: null, name: "", message: "", retry: "", details: {}, close: null, pending: true };
  const { code, name, message, close, details, requestId, connectionId, pending } = outcome;
  const detail = Object.entries(details).map(([key, value]) => `${key}: ${value}`).join(", ");
  const rows = [
    ["message", message && `“${message}”`],
    ["code", code !== null && h("span", {}, h("b", {}, String(code)), ` ${name}`)],
    ["details", detail && h("code", {}, detail), "optional"],
    ["close", pending ? "" : closeFact(outcome)],
    ["retry", retryInWords(outcome)],
    ["request id", requestId && copyable(requestId, "request id"), connectionId ? "optional" : ""],
    ["connection id", connectionId && copyable(connectionId, "connection id"), "optional"],
  ];
  return rows
    .filter(([, value, need]) => value || need !== "optional")
    .map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value || nothing(pending))));
}

function closeFact({ close, message, silence }) {
  if (close === null) return message ? "none: the session goes on" : silence ? "" : "none";
  const known = codeName(close.code);
  return h("span", {}, h("b", {}, String(close.code)), known ? ` ${known} ` : " ", h("q", {}, close.reason));
}

function nothing(pending) {
  if (pending) return "";
  return h("span.nothing", {}, h("span", { "aria-hidden": "true" }, "–"), h("span.unseen", {}, "not said"));
}

// The timeline

function timelineRow(event, badge) {
  const time = h("span.at", {}, `${event.at}`, h("span.unit", {}, " ms"));
  return h("li", { "data-kind": event.kind }, time, h("div.what", {}, ...describe(event, badge)));
}

function describe(event, badge) {
  const word = (text) => h("b.kind", {}, text);
  switch (event.kind) {
    case "connect":
      return [h("code.sent", { title: event.text }, event.text)];
    case "open":
      return [word("open")];
    case "sent":
      return [word("send"), " ", h("code.sent", { title: event.text.slice(0, 400) }, event.text.slice(0, 200))];
    case "message":
      return [frame(event, badge)];
    case "error":
      return [word("error"), h("span.aside", {}, " without a word")];
    case "close":
      return [word("close"), " ", h("b", {}, String(event.code)), " ", h("q", {}, event.reason)];
    case "silence":
      return [h("span.aside", {}, `nothing, for ${event.ms / 1000} s`)];
    case "alive":
      return [h("span.aside", {}, "still open")];
    default:
      return [h("span.aside", {}, event.text)];
  }
}

/** A message in a line; its JSON on demand. */
function frame(event, badge) {
  const { type, data } = event.message ?? {};
  const gist = [data?.code, data?.name].filter((part) => part !== undefined).join(" ");
  const line = [h("b.kind", {}, "message"), " ", h("b", {}, type ?? "text"), gist ? ` ${gist} ` : " ", badge];
  const raw = event.message ? JSON.stringify(event.message, null, 2) : event.text;
  return h("details", {}, h("summary", {}, ...line), h("pre", {}, raw));
}

/** Messages of one kind in a row are counted, not listed. */
function repeatLabel({ kind, message }) {
  return kind === "message" ? `${message?.type} ${message?.data?.name ?? ""}` : null;
}

// All of them

async function runAll() {
  const signal = takeStage(null);
  const tally = new Tally();
  $("#result").hidden = true;
  $("#tally").hidden = false;
  $("#tally").replaceChildren(tally.element);
  bringIntoView();
  const [runAllButton, progress] = [$("#run-all"), $("#progress")];
  runAllButton.dataset.running = "true";
  runAllButton.textContent = "Stop";
  progress.hidden = false;
  progress.max = FAILURES.length;
  progress.value = 0;
  announce(`Running ${FAILURES.length} failures.`);

  const queue = [...FAILURES];
  const worker = async () => {
    for (let failure = queue.shift(); failure && !signal.aborted; failure = queue.shift()) {
      await runBoth(failure, signal, () => {}, (index, outcome) => tally.add(failure, SIDES[index], outcome));
      if (!signal.aborted) progress.value += 1;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (signal.aborted) return;
  takeStage(null);
  tally.finish();
  announce(tally.spoken());
}

class Tally {
  #counts = { usual: 0, saywhy: 0 };
  #numbers = {};
  #rows = new Map();

  constructor() {
    const heads = SIDES.map((side) => {
      this.#numbers[side] = h("p.numeral", {}, "0", h("span.of", {}, ` of ${FAILURES.length}`));
      return h("div.score", { "data-tally": side }, h("h3.side-title", {}, `Explained by ${TITLES[side].replace(/^T/, "t")}`), this.#numbers[side]);
    });
    const rows = FAILURES.map((failure) => {
      const cells = SIDES.map((side) => h("td", { "data-side": side, "data-failure": failure.slug, "data-done": "false" }));
      this.#rows.set(failure.slug, cells);
      const link = h("a", { href: `#${failure.slug}` }, failure.title);
      return h("tr", {}, h("th", { scope: "row" }, link), ...cells);
    });
    const columns = ["Failure", ...SIDES.map((side) => TITLES[side])].map((text) => h("th", { scope: "col" }, text));
    this.element = h(
      "div",
      { "data-done": "false" },
      h("div.scores", {}, ...heads),
      h("p.fine", {}, "Explained: there were words, or a close code that means something."),
      h("table.reads-table", {}, h("caption", {}, "What your user reads"), h("thead", {}, h("tr", {}, ...columns)), h("tbody", {}, ...rows)),
    );
  }

  add(failure, side, outcome) {
    const cell = this.#rows.get(failure.slug)[SIDES.indexOf(side)];
    record(cell, outcome, failure, side);
    const sentence = sentenceOf(outcome);
    cell.replaceChildren(
      h("span.mini", {}, shortCode(side, outcome)),
      h("span.words", {}, sentence || "nothing"),
    );
    if (isExplained(outcome)) this.#counts[side] += 1;
    this.#numbers[side].firstChild.data = String(this.#counts[side]);
    this.#numbers[side].parentElement.dataset.explained = this.#counts[side];
  }

  finish() {
    this.element.dataset.done = "true";
  }

  spoken() {
    const { usual, saywhy } = this.#counts;
    return `Explained by the usual way: ${usual} of ${FAILURES.length}. By Saywhy: ${saywhy} of ${FAILURES.length}.`;
  }
}
