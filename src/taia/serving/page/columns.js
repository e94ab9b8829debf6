// A column: one mode's answer as it is written, what it took, and how it differs from another.

import { diff } from "./diff.js";
import { mark } from "./marks.js";
import { clearTrouble, showTrouble } from "./trouble.js";

// Maps: a link may say that an answer ended by "constructor".
const ENDS = new Map([
  ["length", "cut at max tokens"],
  ["stopped", "stopped"],
  ["error", "failed"],
]);
const EMPTY = new Map([...ENDS, ["writing", "waiting…"], ["stop", "an empty answer"]]);

let made = 0;

export class Column {
  /** @param {{id: string, selection: string, place: number}} mode */
  constructor(mode) {
    this.mode = mode;
    this.element = document.querySelector("#column").content.firstElementChild.cloneNode(true);
    this.title = this.element.querySelector("h2");
    this.title.id = `column-${++made}`;
    this.element.setAttribute("aria-labelledby", this.title.id);
    const part = (selector) => this.element.querySelector(selector);
    this.kept = part(".selection");
    this.body = part(".answer");
    this.trouble = part(".trouble");
    this.figures = part(".figures");
    this.likeness = part(".likeness");
    this.clear();
    this.name();
  }

  /** What there is of the answer. */
  get answer() {
    const { text, tokens, seconds, finish } = this;
    return { mode: this.mode.id, selection: this.mode.selection, text, tokens, seconds, finish };
  }

  /** Show whose answer it is. */
  name() {
    const { id, selection, place } = this.mode;
    this.letter = "";
    this.title.replaceChildren(mark(place), id);
    this.kept.textContent = selection === id ? "" : selection;
    this.#show();
  }

  /** @param {string} letter stands for the mode until the vote: nothing else tells whose it is */
  disguise(letter) {
    this.letter = letter;
    this.title.replaceChildren(letter);
    this.kept.textContent = "";
    this.#show();
  }

  /** Show that this answer was voted for. */
  choose() {
    const badge = document.createElement("span");
    badge.className = "badge";
    badge.textContent = "✓ your choice";
    this.title.append(badge);
    this.element.classList.add("chosen");
  }

  clear() {
    Object.assign(this, { text: "", tokens: 0, seconds: 0, finish: "" });
    this.body.replaceChildren();
    this.body.ariaBusy = "false";
    this.likeness.textContent = "";
    this.element.classList.remove("chosen");
    clearTrouble(this.trouble);
    this.#show();
  }

  start() {
    this.clear();
    this.body.append("");
    this.body.ariaBusy = "true";
    this.finish = "writing";
    this.began = performance.now();
    this.#show();
  }

  /**
   * @param {string} text what comes next
   * @param {?number} tokens of the answer so far, where the server says so
   */
  write(text, tokens) {
    this.text += text;
    this.body.firstChild.appendData(text);
    this.tokens = tokens ?? this.tokens + (text ? 1 : 0);
    this.seconds = (performance.now() - this.began) / 1000;
    this.#show();
  }

  /** @param {string} finish why it ended */
  end(finish) {
    this.finish = finish;
    this.body.ariaBusy = "false";
    this.#show();
  }

  /**
   * @param {{message: string, mend: string}} error
   * @param {{label: string, run: () => void}} remedy
   */
  fail(error, remedy) {
    this.end("error");
    showTrouble(this.trouble, error, remedy);
  }

  /** @param {import("./round.js").Answer} answer from elsewhere */
  restore(answer) {
    const { text, tokens, seconds, finish } = answer;
    this.clear();
    Object.assign(this, { text, tokens, seconds, finish });
    this.plain();
    this.#show();
  }

  /** Show the text without differences. */
  plain() {
    this.body.replaceChildren(this.text);
    this.likeness.textContent = "";
  }

  /**
   * Mark what differs from another answer.
   *
   * @param {Column} reference
   * @param {boolean} withGone whether words that only the other has are shown, struck through
   */
  compare(reference, withGone) {
    const name = reference.mode.id;
    this.plain();
    if (this.text === reference.text) {
      this.likeness.textContent = `the same as ${name}`;
      return;
    }
    const pieces = diff(reference.text, this.text);
    if (!pieces) {
      this.likeness.textContent = "too long to compare";
      return;
    }
    const count = (kind) => pieces.reduce((sum, each) => sum + (each.kind === kind ? each.words : 0), 0);
    const [same, fresh] = [count("same"), count("new")];
    const share = Math.round((100 * fresh) / Math.max(1, same + fresh));
    this.likeness.textContent = `${share}% differs from ${name}`;
    this.body.replaceChildren(...pieces.flatMap((piece) => marked(piece, withGone)));
  }

  #show() {
    const { tokens, seconds, finish } = this;
    const facts = tokens ? [`${tokens} tokens`] : [];
    // How long an answer takes can give a mode away.
    if (tokens && !this.letter) {
      facts.push(`${seconds.toFixed(1)} s`, `${Math.round(tokens / seconds)}/s`);
    }
    const end = (tokens ? ENDS : EMPTY).get(finish);
    this.figures.textContent = [...facts, ...(end ? [end] : [])].join(" · ");
  }
}

/** A piece of a difference; the space around a mark stays outside it. */
function marked({ kind, before, after }, withGone) {
  if (kind === "same") return [after];
  if (kind === "gone" && !withGone) return [];
  const [text, tag] = kind === "new" ? [after, "ins"] : [before, "del"];
  const [, ahead, words, behind] = /^(\s*)(.*?)(\s*)$/s.exec(text);
  if (!words) return kind === "new" ? [text] : [];
  const element = document.createElement(tag);
  element.textContent = words;
  return [ahead, element, behind];
}
