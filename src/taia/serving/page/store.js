// What this browser remembers. Storage may be switched off or full: nothing depends on it.

const PREFIX = "taia.";

/**
 * @param {string} name
 * @param {any} otherwise given back where there is nothing readable
 */
export function recall(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/**
 * @param {string} name
 * @param {any} value becomes JSON
 * @returns {boolean} whether it is kept
 */
export function keep(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
