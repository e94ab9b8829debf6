// What opens over the page: past rounds, the API key, and text to copy by hand.

import { forget, forgetAll, past } from "./history.js";

const KEY = "taia.key";
const $ = (selector) => document.querySelector(selector);

/** @returns {string} the API key of this tab, or "" */
export function apiKey() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

/** @param {() => void} saved runs after a key was entered */
export function askForKey(saved) {
  const dialog = $("#key");
  const field = dialog.querySelector("input");
  field.value = apiKey();
  dialog.returnValue = "";
  $("#cancel-key").onclick = () => dialog.close();
  dialog.onclose = () => {
    if (dialog.returnValue !== "save") return;
    sessionStorage.setItem(KEY, field.value.trim());
    saved();
  };
  dialog.showModal();
}

/** @param {(round: import("./round.js").Round) => void} chosen */
export function showHistory(chosen) {
  const dialog = $("#history");
  const list = dialog.querySelector("ol");
  const fill = () => {
    const rounds = past();
    list.replaceChildren(...rounds.map((round) => entry(round, chosen, fill)));
    if (!rounds.length) list.append("Nothing yet.");
    $("#clear-history").disabled = !rounds.length;
  };
  $("#clear-history").onclick = () => {
    forgetAll();
    fill();
  };
  fill();
  dialog.showModal();
}

/**
 * @param {string} text goes to the clipboard, or where that is out of reach, into a dialog
 * @returns {Promise<boolean>} whether it is in the clipboard
 */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const dialog = $("#copy");
    const field = dialog.querySelector("textarea");
    field.value = text;
    dialog.showModal();
    field.select();
    return false;
  }
}

function entry(round, chosen, changed) {
  const item = document.createElement("li");
  const open = document.createElement("button");
  const prompt = document.createElement("span");
  const about = document.createElement("small");
  prompt.textContent = round.prompt;
  const modes = round.answers.map(({ mode }) => mode).join(", ");
  about.textContent = `${new Date(round.created).toLocaleString()} · ${modes}`;
  open.type = "button";
  open.className = "open";
  open.append(prompt, about);
  open.addEventListener("click", () => {
    $("#history").close();
    chosen(round);
  });
  const drop = document.createElement("button");
  drop.type = "button";
  drop.textContent = "×";
  drop.setAttribute("aria-label", `Forget: ${round.prompt.slice(0, 40)}`);
  drop.addEventListener("click", () => {
    forget(round.created);
    changed();
  });
  item.append(open, drop);
  return item;
}
