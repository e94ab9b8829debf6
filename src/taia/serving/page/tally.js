// The votes so far, mode by mode, each share with its interval.

import { mark, svg } from "./marks.js";
import { forgetVotes, tally, votes } from "./vote.js";

const percent = (share) => (100 * share).toFixed(0);

/**
 * @param {HTMLElement} section
 * @param {{id: string, place: number}[]} modes the server's
 */
export function showTally(section, modes) {
  const cast = votes();
  const place = (name) => modes.find(({ id }) => id === name)?.place ?? modes.length;
  const rows = tally(cast).sort((one, other) => place(one.mode) - place(other.mode));
  section.hidden = !cast.length;
  section.querySelector(".note").textContent = note(cast);
  section.querySelector("tbody").replaceChildren(...rows.map((row) => line(row, place(row.mode))));
}

/**
 * @param {HTMLElement} section with the buttons that save and forget the votes
 * @param {() => void} changed
 */
export function wireTally(section, changed) {
  section.querySelector("#export").addEventListener("click", () => {
    const json = JSON.stringify({ votes: votes(), tally: tally(votes()) }, null, 2);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([json], { type: "application/json" }));
    link.download = "taia-votes.json";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  section.querySelector("#reset").addEventListener("click", () => {
    if (!confirm("Forget all votes? Export them first if they may be wanted.")) return;
    forgetVotes();
    changed();
  });
}

function note(cast) {
  const sizes = new Set(cast.map(({ modes }) => modes.length));
  const chance = sizes.size === 1 ? ` By chance: ${percent(1 / [...sizes][0])}%.` : "";
  return `How often each was best, of the votes that were no tie, with the 95% interval (Wilson).${chance}`;
}

function line({ mode, value, low, high, won, decided, tied }, place) {
  const row = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  name.append(mark(place), mode);
  const cells = [
    decided ? percent(value) : "–",
    `${percent(low)} to ${percent(high)}`,
    interval({ value, low, high }, place),
    `${won} of ${decided}`,
    tied,
  ].map((content) => {
    const cell = document.createElement("td");
    cell.append(content);
    return cell;
  });
  row.append(name, ...cells);
  return row;
}

function interval({ value, low, high }, place) {
  const plot = svg("svg", { class: `interval m${place % 6}`, viewBox: "-4 0 108 16" });
  plot.setAttribute("aria-hidden", "true");
  plot.append(
    svg("line", { class: "axis", x1: 0, x2: 100, y1: 8, y2: 8 }),
    svg("line", { x1: 100 * low, x2: 100 * high, y1: 8, y2: 8 }),
  );
  if (!Number.isNaN(value)) plot.append(svg("circle", { cx: 100 * value, cy: 8, r: 4 }));
  return plot;
}
