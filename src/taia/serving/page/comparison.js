// A round's life: sent, stopped, voted on, shown again.

import { chat } from "./api.js";
import { question } from "./round.js";
import { judge, shuffled } from "./vote.js";

const WHOLE = ["stop", "length"];

export class Comparison {
  /**
   * @param {import("./board.js").Board} board
   * @param {object} told what the page does about it
   * @param {() => string} told.key the API key now
   * @param {(error: Error, retry: () => void) => {label: string, run: () => void}} told.remedy
   * @param {() => void} told.changed the state is another
   * @param {(round: import("./round.js").Round) => void} told.settled every answer has ended
   */
  constructor(board, told) {
    this.board = board;
    this.told = told;
    this.round = null;
    this.asking = null;
    this.blind = false;
  }

  get running() {
    return this.asking !== null;
  }

  /** Whether answers wait for a vote. */
  get voting() {
    return this.blind && !this.running;
  }

  /** @returns {?import("./round.js").Round} with its answers, once nothing is hidden any more */
  get shown() {
    return this.round && !this.running && !this.blind ? this.round : null;
  }

  /**
   * @param {object} settings of the round
   * @param {object[]} modes
   */
  async send({ blind, ...settings }, modes) {
    this.blind = blind && modes.length > 1;
    this.round = { created: new Date().toISOString(), ...settings, answers: [] };
    this.board.lay(this.blind ? shuffled(modes) : modes);
    if (this.blind) this.board.disguise();
    await this.#ask(this.board.columns);
  }

  /**
   * Show other columns; those of modes that have answered get their answers back.
   *
   * @param {object[]} modes
   */
  lay(modes) {
    this.board.lay(modes);
    for (const column of this.board.columns) {
      const answer = this.round?.answers.find(({ mode }) => mode === column.mode.id);
      if (answer && !column.finish) column.restore(answer);
    }
  }

  stop() {
    this.asking?.abort();
  }

  /**
   * @param {?number} index of the column whose answer is best; null is a tie
   * @returns {import("./vote.js").Vote}
   */
  vote(index) {
    const best = index === null ? null : this.board.columns[index];
    this.reveal();
    best?.choose();
    return judge(this.round, best?.mode.id ?? null);
  }

  reveal() {
    this.blind = false;
    this.board.name();
    this.told.changed();
  }

  /**
   * @param {import("./round.js").Round} round of another time or place
   * @param {object[]} modes of its answers
   */
  restore(round, modes) {
    this.round = round;
    this.blind = false;
    this.board.lay(modes);
    this.board.columns.forEach((column, index) => column.restore(round.answers[index]));
    this.told.changed();
  }

  async #ask(columns) {
    this.asking = new AbortController();
    this.told.changed();
    await Promise.all(columns.map((column) => this.#follow(column)));
    this.asking = null;
    this.#settle();
  }

  async #follow(column) {
    const { signal } = this.asking;
    column.start();
    try {
      let finish = "stop";
      for await (const piece of chat(question(this.round, column.mode.id), { key: this.told.key(), signal })) {
        column.write(piece.text, piece.tokens);
        finish = piece.finish ?? finish;
      }
      column.end(finish);
    } catch (error) {
      if (error.name === "AbortError") column.end("stopped");
      else column.fail(error, this.told.remedy(error, () => this.running || this.#ask([column])));
    }
  }

  #settle() {
    const columns = [...this.board.columns].sort((one, other) => one.mode.place - other.mode.place);
    this.round.answers = columns.map(({ answer }) => answer);
    // Answers cut short cannot be judged.
    const whole = this.round.answers.every(({ finish }) => WHOLE.includes(finish));
    if (this.blind && !whole) this.reveal();
    else this.told.changed();
    this.told.settled(this.round);
  }
}
