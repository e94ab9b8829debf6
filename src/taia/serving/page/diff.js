// Which words two texts share, by Myers' algorithm in linear space.
// Myers, "An O(ND) difference algorithm and its variations", Algorithmica 1 (1986), section 4b.

/** More words than this, of both texts together, would hold the page up. */
const MOST = 8_000;

// Scripts that write no spaces between words are compared by character.
const UNSPACED = ["Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar"]
  .map((name) => `\\p{Script=${name}}`)
  .join("");
const LETTER = `(?![${UNSPACED}])[\\p{L}\\p{N}\\p{M}_]`;
// Apostrophes and hyphens inside words, points and commas inside numbers.
const WORD = `(?:${LETTER})+(?:(?:['’-]|(?<=\\p{N})[.,](?=\\p{N}))(?:${LETTER})+)*`;
const TOKEN = new RegExp(`(?:${WORD}|[${UNSPACED}]\\p{M}*|\\S)\\s*|^\\s+`, "gu");

/**
 * A text in words, signs and characters, each with the space behind it.
 *
 * @param {string} text
 * @returns {string[]} joined, they are the text
 */
export function words(text) {
  return text.match(TOKEN) ?? [];
}

/**
 * How one text becomes another, with the fewest words gone and new. Space alone is no difference.
 *
 * @param {string} before
 * @param {string} after
 * @returns {?{kind: "same" | "gone" | "new", before: string, after: string, words: number}[]} the
 *   pieces in order; all `before` joined are the first text, all `after` the second. Null: too long.
 */
export function diff(before, after) {
  const [a, b] = [words(before), words(after)];
  if (a.length + b.length > MOST) return null;
  const pieces = [];
  const add = (kind, i, j) => {
    const last = pieces.at(-1);
    const piece = last?.kind === kind ? last : { kind, before: "", after: "", words: 0 };
    if (piece !== last) pieces.push(piece);
    if (kind !== "new") piece.before += a[i];
    if (kind !== "gone") piece.after += b[j];
    piece.words += 1;
  };
  let [i, j] = [0, 0];
  const upTo = (x, y) => {
    while (i < x) add("gone", i++, j);
    while (j < y) add("new", i, j++);
  };
  for (const [x, y] of matches(numbered(a, b))) {
    upTo(x, y);
    add("same", i++, j++);
  }
  upTo(a.length, b.length);
  return pieces;
}

/** Equal words get equal numbers, which compare faster than text. */
function numbered(...texts) {
  const numbers = new Map();
  const number = (word) => {
    const key = word.trimEnd();
    if (!numbers.has(key)) numbers.set(key, numbers.size);
    return numbers.get(key);
  };
  return texts.map((text) => Int32Array.from(text, number));
}

/** Pairs of places with equal words, in order: a longest common subsequence. */
function* matches([a, b]) {
  const boxes = [[0, a.length, 0, b.length]];
  while (boxes.length) {
    let [left, right, top, bottom] = boxes.pop();
    while (left < right && top < bottom && a[left] === b[top]) yield [left++, top++];
    let tail = 0;
    while (left < right && top < bottom && a[right - 1] === b[bottom - 1]) {
      [right, bottom, tail] = [right - 1, bottom - 1, tail + 1];
    }
    // A box of equal words is walked by the loop above once it is taken from the stack again.
    if (tail) boxes.push([right, right + tail, bottom, bottom + tail]);
    if (left < right && top < bottom) {
      const [x, y] = middle(a, b, left, right, top, bottom);
      boxes.push([x, right, y, bottom], [left, x, top, y]);
    }
  }
}

/**
 * A point that a shortest path through the box passes, found from both ends at once.
 * The box's first words differ, and its last ones, so that the point is neither of those corners.
 */
function middle(a, b, left, right, top, bottom) {
  const [n, m] = [right - left, bottom - top];
  const delta = n - m;
  const forward = furthest(n, m, (x, y) => a[left + x] === b[top + y]);
  const backward = furthest(n, m, (x, y) => a[right - 1 - x] === b[bottom - 1 - y]);
  for (let d = 0; ; d++) {
    for (let k = -d; k <= d; k += 2) {
      const x = forward.go(k);
      if (delta % 2 && Math.abs(delta - k) < d && x + backward.at(delta - k) >= n) {
        return [left + x, top + x - k];
      }
    }
    for (let k = -d; k <= d; k += 2) {
      const x = backward.go(k);
      if (delta % 2 === 0 && Math.abs(delta - k) <= d && x + forward.at(delta - k) >= n) {
        return [right - x, bottom - x + k];
      }
    }
  }
}

/** On each diagonal k = x - y of an n by m box, how far x gets; where it cannot be, far below 0. */
function furthest(n, m, equal) {
  const nowhere = -2 * (n + m + 1);
  const reached = new Int32Array(2 * (n + m) + 3).fill(nowhere);
  const place = (k) => k + n + m + 1;
  reached[place(1)] = 0;
  const go = (k) => {
    const [beside, above] = [reached[place(k - 1)], reached[place(k + 1)]];
    let x = reached[place(k)];
    if (beside < n) x = Math.max(x, beside + 1);
    if (above - k <= m) x = Math.max(x, above);
    while (x >= 0 && x < n && x - k < m && equal(x, x - k)) x++;
    return (reached[place(k)] = x);
  };
  return { go, at: (k) => reached[place(k)] };
}
