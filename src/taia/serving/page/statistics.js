// How sure a share is: the same closed form as taia.evaluation.statistics.accuracy.

/** Two-sided 95% quantile of the normal distribution. */
const Z = 1.959963984540054;

/**
 * Wilson's score interval (1927), 95%.
 *
 * @param {number} right
 * @param {number} total
 * @returns {{value: number, low: number, high: number}} fractions; of nothing: NaN, 0 and 1
 */
export function wilson(right, total) {
  if (total === 0) return { value: NaN, low: 0, high: 1 };
  const share = right / total;
  const z2 = Z * Z;
  const middle = (share + z2 / (2 * total)) / (1 + z2 / total);
  const half =
    (Z / (1 + z2 / total)) * Math.sqrt((share * (1 - share)) / total + z2 / (4 * total ** 2));
  return {
    value: share,
    // At the ends the limits are 0 and 1 exactly; rounding would miss them.
    low: right === 0 ? 0 : Math.max(0, middle - half),
    high: right === total ? 1 : Math.min(1, middle + half),
  };
}
