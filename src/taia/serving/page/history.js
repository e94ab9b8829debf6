// Past rounds, the newest first, in this browser.

import { readRound } from "./round.js";
import { keep, recall } from "./store.js";

const NAME = "history";
const MOST = 50;

/** @returns {import("./round.js").Round[]} */
export function past() {
  return recall(NAME, []).flatMap((value) => {
    try {
      return [readRound(value)];
    } catch {
      return [];
    }
  });
}

/** @param {import("./round.js").Round} round takes the place of one of the same time */
export function remember(round) {
  const others = past().filter(({ created }) => created !== round.created);
  save([round, ...others].slice(0, MOST));
}

/** @param {string} created of the round to forget */
export function forget(created) {
  save(past().filter((round) => round.created !== created));
}

export function forgetAll() {
  save([]);
}

function save(rounds) {
  // Where storage is full, the oldest go.
  while (!keep(NAME, rounds) && rounds.length) rounds = rounds.slice(0, -1);
}
