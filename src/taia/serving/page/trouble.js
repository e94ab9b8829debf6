// What went wrong, shown where it happened, with what to do and a button that does it.

/**
 * @param {HTMLElement} box
 * @param {{message: string, mend: string}} error
 * @param {?{label: string, run: () => void}} remedy
 */
export function showTrouble(box, { message, mend }, remedy) {
  const problem = document.createElement("p");
  const advice = document.createElement("p");
  problem.className = "problem";
  problem.textContent = message;
  advice.textContent = mend;
  box.hidden = false;
  box.replaceChildren(problem, ...(mend ? [advice] : []));
  if (!remedy) return;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = remedy.label;
  button.addEventListener("click", remedy.run);
  box.append(button);
}

/** @param {HTMLElement} box */
export function clearTrouble(box) {
  box.hidden = true;
  box.replaceChildren();
}
