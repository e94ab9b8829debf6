"""How sure one can be of a mean whose scores have known ends: nothing else is assumed of them.

Gaffke's bound. The lower limit of a mean of n scores is a quantile of Σ wᵢ xᵢ, where the weights
of the n scores and of one more score, which lies at the lower end, are drawn evenly from all that
sum to 1 (Dirichlet, all ones); the upper limit has one more score at the upper end. Of right and
wrong answers that is Clopper and Pearson's exact interval. Of differences of two such answers, the
p-value of no difference is McNemar's exact one. So an interval and a test are one thing read in
two ways, and cannot contradict each other.

Gaffke, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a
nonnegative variable", Mathematical Methods of Statistics 14 (2005); Learned-Miller and Thomas, "A
new confidence interval for the mean of a bounded random variable" (arXiv 1905.06208). That it
covers in every case is a conjecture; ``benchmarks/coverage.py`` looks for a case where it doesn't.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

#: What an interval leaves out: 2.5% on each side.
LEVEL: Final = 0.05
#: How often an average's weights are drawn: with one more, 2.5% of them are a whole number.
_DRAWS: Final = 9_999
#: Of numbers drawn at a time.
_BATCH: Final = 1_000_000
#: Up to so many different scores are told apart.
_GRID: Final = 256
#: Step and end of the quadrature: eleven digits for one score and for ten thousand.
_STEP, _END = 0.1, 14.0
#: Logarithm of what is too little to count.
_FADED: Final = 40.0


class Ends(NamedTuple):
    """Between what scores lie."""

    low: float
    high: float


def limits(scores: Sequence[float], ends: Ends) -> tuple[float, float]:
    """The 95% interval of a mean.

    Args:
        scores: At least one.
        ends: Between what all scores lie that there could be.
    """
    values, counts = _counted(scores)
    return _limits(tuple(values.tolist()), tuple(counts.tolist()), ends)


@lru_cache(maxsize=1024)  # two modes of one score have one interval, and a run is summarised often
def _limits(scores: tuple[float, ...], times: tuple[float, ...], ends: Ends) -> tuple[float, float]:
    """Of scores, and how often each is there."""
    import numpy as np

    values, counts = np.array(scores), np.array(times)
    upwards = _lower(values, counts, ends.low)
    downwards = 0.0 - _lower(-values[::-1], counts[::-1], -ends.high)  # 0, not −0
    return upwards, downwards


def p_value(scores: Sequence[float], ends: Ends, mean: float = 0.0) -> float:
    """Two-sided p-value of the mean being so: below 0.05 where :func:`limits` exclude it.

    Args:
        scores: At least one.
        ends: Between what all scores lie that there could be.
        mean: What is asked.
    """
    values, counts = _counted(scores)
    above = _share(*_with(values, counts, ends.low), mean)
    below = _share(*_with(-values[::-1], counts[::-1], -ends.high), -mean)
    return min(1.0, 2 * min(above, below))


def average(tasks: Sequence[Sequence[float]], ends: Ends) -> tuple[float, float, float]:
    """The 95% interval of the average of several tasks' means, and the p-value of its being zero.

    Each task's weights are drawn by themselves, with a fixed seed; the average of the weighted
    means takes the place of one.

    Args:
        tasks: Each task's scores; at least one task, and in each at least one score.
        ends: Between what all scores lie that there could be.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    lower, upper = np.zeros(_DRAWS), np.zeros(_DRAWS)
    for task in tasks:
        values, counts = _counted(task)
        rows = max(1, _BATCH // len(values))
        for start in range(0, _DRAWS, rows):
            part = slice(start, min(start + rows, _DRAWS))
            size = part.stop - part.start
            weights = rng.standard_gamma(counts, size=(size, len(counts)))
            more = rng.standard_exponential(size)
            total, whole = weights @ values, weights.sum(1) + more
            lower[part] += (total + more * ends.low) / whole / len(tasks)
            upper[part] += (total + more * ends.high) / whole / len(tasks)
    shares = ((1 + int(np.sum(side))) / (1 + _DRAWS) for side in (lower <= 0, upper >= 0))
    # The first of the sorted draws that may be above zero where the p-value is below 0.05.
    place = math.ceil(LEVEL / 2 * (1 + _DRAWS)) - 2
    low = float(np.partition(lower, place)[place])
    high = 0.0 - float(np.partition(-upper, place)[place])
    return low, high, min(1.0, 2 * min(shares))


def _counted(scores: Sequence[float]) -> tuple[NDArray[float64], NDArray[float64]]:
    """The different scores, ascending, and how often each is there.

    Of very many, each counts in part as its neighbour below on a grid, in part as that above: the
    mean stays, the spread grows by less than a thousandth.
    """
    import numpy as np

    values, counts = np.unique(np.asarray(scores, dtype=np.float64), return_counts=True)
    if len(values) <= _GRID:
        return values, counts.astype(np.float64)
    grid = np.linspace(values[0], values[-1], _GRID)
    places = (values - values[0]) / (grid[1] - grid[0])
    below = np.minimum(places.astype(int), _GRID - 2)
    parts = np.zeros(_GRID)
    np.add.at(parts, below, counts * (1 - places + below))
    np.add.at(parts, below + 1, counts * (places - below))
    return grid[parts > 0], parts[parts > 0]


def _with(
    values: NDArray[float64], counts: NDArray[float64], end: float
) -> tuple[NDArray[float64], NDArray[float64]]:
    """The scores and one more at an end."""
    import numpy as np

    return np.append(values, end), np.append(counts, 1.0)


def _lower(values: NDArray[float64], counts: NDArray[float64], end: float) -> float:
    """Where the share of weights reaches 2.5%, by false position (Illinois)."""
    values, counts = _with(values, counts, end)
    low, high = end, float(values.max())
    if high <= low:
        return low
    under, over = -LEVEL / 2, 1 - LEVEL / 2
    # Zero is asked first where it is inside: whether it is in the interval has to be exact.
    at = 0.0 if low < 0 < high else (low + 3 * float(counts @ values) / counts.sum()) / 4
    side = 0
    for _ in range(100):
        found = _share(values, counts, at) - LEVEL / 2
        if found < 0:
            low, under = at, found
            over = over / 2 if side < 0 else over
        else:
            high, over = at, found
            under = under / 2 if side > 0 else under
        side = -1 if found < 0 else 1
        if abs(found) < 1e-13:
            return float(at)
        if high - low < 1e-12:
            break
        at = (low * over - high * under) / (over - under)
        # Where both ends creep, the middle is better.
        if not low + 1e-3 * (high - low) < at < high - 1e-3 * (high - low):
            at = (low + high) / 2
    return float(low)


def _share(values: NDArray[float64], counts: NDArray[float64], mean: float) -> float:
    """How much of all weights gives a weighted mean of at most so much.

    P(Σ wᵢ xᵢ ≤ m) = P(Q ≤ 0) with Q = Σ aᵢ Gᵢ, where aᵢ = xᵢ − m and the Gᵢ are exponential: an
    integral of E e^(−sQ)/s = 1 / (s ∏ (1 + s aᵢ)) along a line that crosses the real axis where
    this is least, and bends with the descent. Daniels, "Tail probability approximations" (1987).
    """
    import numpy as np

    offsets = values - mean
    turned = bool((counts * offsets).sum() < 0)
    offsets = -offsets if turned else offsets
    offsets = np.where(np.abs(offsets) < 1e-12 * np.abs(offsets).max(), 0.0, offsets)
    if offsets.min() >= 0:
        share = float(offsets.max() == 0)
        return 1 - share if turned else share
    offsets = offsets / np.abs(offsets).max()
    low, high = 0.0, float(-1 / offsets.min())
    crossing = high / 2
    for _ in range(40):
        pull = offsets / (1 + crossing * offsets)
        slope = float(counts @ pull) + 1 / crossing
        second = float(counts @ pull**2) + crossing**-2
        if slope**2 < 1e-6 * second:
            break
        low, high = (crossing, high) if slope > 0 else (low, crossing)
        crossing += slope / second  # Newton's step; the middle where it leaves what is known
        if not low < crossing < high:
            crossing = (low + high) / 2
    third = float((counts * pull**3).sum()) + crossing**-3

    steps = np.arange(0, _END + _STEP / 2, _STEP)
    along = np.sinh(steps) / math.sqrt(second)
    widths = np.cosh(steps) / math.sqrt(second) * _STEP
    widths[0] /= 2
    bend = -third / (3 * second)
    straight = 1 + 2 * abs(bend) * along
    line = crossing + 1j * along + bend * along**2 / straight
    direction = 1 - 1j * bend * along * (1 + straight) / straight**2
    logarithm = -np.log(line) - counts @ np.log(1 + np.outer(offsets, line))
    # Down to nothing, the line may pass where it counts again what it has counted: it ends there.
    faded = np.logical_or.accumulate(logarithm.real < logarithm.real[0] - _FADED)
    logarithm[faded] = -np.inf
    share = float((np.exp(logarithm) * direction * widths).real.sum() / math.pi)
    share = min(1.0, max(0.0, share))
    return 1 - share if turned else share
