// How sure a share is: the same interval as taia.evaluation.scores.statistics.accuracy.

/**
 * Clopper and Pearson's interval (1934), 95%: it always covers.
 *
 * @param {number} right
 * @param {number} total
 * @returns {{value: number, low: number, high: number}} fractions; of nothing: NaN, 0 and 1
 */
export function exact(right, total) {
  if (total === 0) return { value: NaN, low: 0, high: 1 };
  return {
    value: right / total,
    low: lower(right, total),
    high: 1 - lower(total - right, total),
  };
}

/** Where so many or more are right in 2.5% of cases. */
function lower(right, total) {
  if (right === 0) return 0;
  let [low, high] = [0, right / total];
  for (let step = 0; step < 50; step++) {
    const middle = (low + high) / 2;
    if (atLeast(right, total, middle) < 0.025) low = middle;
    else high = middle;
  }
  return low;
}

/** Probability that of `total`, each with probability `p`, so many or more are right. */
function atLeast(right, total, p) {
  let log = total * Math.log1p(-p);
  let sum = 0;
  for (let k = 0; k <= total; k++) {
    if (k >= right) sum += Math.exp(log);
    log += Math.log(((total - k) / (k + 1)) * (p / (1 - p)));
  }
  return sum;
}
