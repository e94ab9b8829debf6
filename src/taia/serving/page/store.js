// What this browser remembers. Storage may be switched off or full: nothing depends on it.

const PREFIX = "taia.";

/**
 * @template T
 * @param {string} name
 * @param {T} otherwise given back where there is nothing of its kind
 * @returns {T}
 */
export function recall(name, otherwise) {
  try {
    const value = JSON.parse(localStorage.getItem(PREFIX + name)) ?? otherwise;
    return kind(value) === kind(otherwise) ? value : otherwise;
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

function kind(value) {
  return Array.isArray(value) ? "array" : typeof value;
}
