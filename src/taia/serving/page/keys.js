// The keyboard. What the help shows and what the keys do is one list.

/**
 * @typedef {object} Key
 * @property {string} shown how the help writes it
 * @property {string} does
 * @property {(event: KeyboardEvent) => boolean} is
 * @property {(event: KeyboardEvent) => void} run
 * @property {boolean} [typing] whether it works in a text field and in a dialog, too
 */

/**
 * @param {Key[]} keys
 * @param {HTMLElement} help a description list
 */
export function listen(keys, help) {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.defaultPrevented) return;
    const key = keys.find((each) => each.is(event));
    if (!key || document.querySelector("dialog[open]") || (!key.typing && isField(event.target))) return;
    event.preventDefault();
    key.run(event);
  });
  help.replaceChildren(...keys.flatMap(({ shown, does }) => [term(shown), described(does)]));
}

/** Whether typing here writes something. */
function isField(element) {
  return element.matches("textarea, select, input:not([type=checkbox])");
}

function term(shown) {
  const dt = document.createElement("dt");
  const caps = shown.split("+").map((text) => {
    const kbd = document.createElement("kbd");
    kbd.textContent = text;
    return kbd;
  });
  dt.append(...caps);
  return dt;
}

function described(does) {
  const dd = document.createElement("dd");
  dd.textContent = does;
  return dd;
}
