// Blind votes: which answer was best, without knowing whose it was.

import { keep, recall } from "./store.js";
import { exact } from "./statistics.js";

const NAME = "votes";

/**
 * @typedef {object} Vote
 * @property {string} created when, in ISO 8601
 * @property {string} prompt
 * @property {string[]} modes whose answers were shown
 * @property {string[]} best whose answer was chosen: several if they gave the very same one; none
 *   is a tie
 */

/**
 * @template T
 * @param {T[]} items
 * @returns {T[]} the same in an order drawn by lot (Fisher and Yates)
 */
export function shuffled(items) {
  const drawn = [...items];
  for (let i = drawn.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [drawn[i], drawn[j]] = [drawn[j], drawn[i]];
  }
  return drawn;
}

/**
 * @param {import("./round.js").Round} round
 * @param {?string} mode whose answer is best; null is a tie
 * @returns {Vote} a tie also where every answer is the same
 */
export function judge(round, mode) {
  const { created, prompt, answers } = round;
  const chosen = answers.find((answer) => answer.mode === mode)?.text;
  const best = answers.filter(({ text }) => text === chosen).map((answer) => answer.mode);
  const modes = answers.map((answer) => answer.mode);
  return { created, prompt, modes, best: best.length === modes.length ? [] : best };
}

/**
 * Votes won, mode by mode. Ties say nothing about which mode is better: they are counted apart, and
 * the share and its interval are of the votes that decided something.
 *
 * @param {Vote[]} votes
 * @returns {{mode: string, won: number, decided: number, tied: number, value: number, low: number,
 *   high: number}[]} modes in the order in which votes name them
 */
export function tally(votes) {
  return [...new Set(votes.flatMap(({ modes }) => modes))].map((mode) => {
    const about = votes.filter(({ modes }) => modes.includes(mode));
    const decided = about.filter(({ best }) => best.length);
    const won = decided.filter(({ best }) => best.includes(mode)).length;
    const tied = about.length - decided.length;
    return { mode, won, decided: decided.length, tied, ...exact(won, decided.length) };
  });
}

/** @returns {Vote[]} */
export function votes() {
  return recall(NAME, []).filter(({ modes, best }) => Array.isArray(modes) && Array.isArray(best));
}

/** @param {Vote} vote */
export function cast(vote) {
  keep(NAME, [...votes(), vote]);
}

export function forgetVotes() {
  keep(NAME, []);
}
