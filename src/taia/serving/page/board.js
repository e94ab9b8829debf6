// The columns side by side, and the tabs that stand for them where they do not fit.

import { Column } from "./columns.js";
import { mark } from "./marks.js";

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/** More columns than this go in two rows. */
const ROW = 5;

export class Board {
  /**
   * @param {HTMLElement} section
   * @param {HTMLElement} tabs
   */
  constructor(section, tabs) {
    this.section = section;
    this.tabs = tabs;
    this.columns = [];
    this.seen = new IntersectionObserver((entries) => this.#follow(entries), {
      root: section,
      threshold: 0.6,
    });
  }

  /**
   * Show a column for each mode, in this order. A mode that had one keeps it; what is known of the
   * mode may be another server's now, and a link may name one mode twice.
   *
   * @param {{id: string, selection: string, place: number}[]} modes
   */
  lay(modes) {
    const had = new Map(this.columns.map((column) => [column.mode.id, column]));
    this.columns = modes.map((mode) => {
      const column = had.get(mode.id) ?? new Column(mode);
      had.delete(mode.id);
      return Object.assign(column, { mode });
    });
    const count = modes.length;
    const across = count > ROW ? Math.ceil(count / 2) : count;
    this.section.style.setProperty("--across", across);
    this.section.replaceChildren(...this.columns.map(({ element }) => element));
    this.section.scrollTo({ left: 0, behavior: "instant" });
    this.seen.disconnect();
    this.columns.forEach(({ element }) => this.seen.observe(element));
    this.name();
  }

  /** Show whose answers they are. */
  name() {
    this.columns.forEach((column) => column.name());
    this.#tab(({ mode }) => [mark(mode.place), mode.id]);
  }

  /** Show letters in place of names. */
  disguise() {
    this.columns.forEach((column, index) => column.disguise(LETTERS[index % LETTERS.length]));
    this.#tab(({ letter }) => [letter]);
  }

  /**
   * Mark what differs from one mode's answer.
   *
   * @param {string} id of the mode; if it has no column, nothing is marked
   * @param {boolean} withGone
   */
  compare(id, withGone) {
    const answered = this.columns.filter(({ finish }) => finish && finish !== "error");
    const reference = answered.find(({ mode }) => mode.id === id);
    for (const column of answered) {
      if (reference && column !== reference) column.compare(reference, withGone);
      else column.plain();
    }
  }

  #tab(label) {
    const buttons = this.columns.map((column, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...label(column));
      if (index === 0) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => {
        column.element.scrollIntoView({ inline: "start", block: "nearest" });
      });
      return button;
    });
    this.tabs.replaceChildren(...buttons);
  }

  #follow(entries) {
    const shown = entries.find(({ isIntersecting }) => isIntersecting);
    if (!shown) return;
    const place = this.columns.findIndex(({ element }) => element === shown.target);
    [...this.tabs.children].forEach((button, index) => {
      if (index === place) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    });
  }
}
