"""How sure one can be of scores that are not right or wrong, by drawing items again and again.

The seed is fixed and the items' order plays no part: the same scores always give the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Final

from taia.evaluation.scores.statistics import Estimate

if TYPE_CHECKING:
    from numpy import float64
    from numpy.random import Generator
    from numpy.typing import NDArray

#: Up to so many items all ways to flip signs are counted, instead of some drawn.
_EXACT: Final = 12
#: Up to so many different scores, how often each is drawn is drawn, which is the same and quicker.
_FEW: Final = 64
#: Of numbers drawn at a time: ten thousand draws of every item of BBH would take half a gigabyte.
_BATCH: Final = 1_000_000


def mean(scores: Sequence[float], resamples: int = 10_000, seed: int = 0) -> Estimate:
    """Mean score, with the percentile interval over items drawn with replacement.

    Efron, "Bootstrap methods: another look at the jackknife" (1979).

    Args:
        scores: Of each item.
        resamples: How often items are drawn.
        seed: Of the draws.
    """
    return _interval([scores], resamples, seed)


def mean_difference(
    first: Sequence[float], second: Sequence[float], resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """Mean score of the first minus that of the second, on the same items, by paired bootstrap.

    For scores that are not right or wrong; for those,
    :func:`taia.evaluation.scores.statistics.difference` needs no chance.

    Args:
        first: Per item, the first mode's score.
        second: The same of the second mode, for the same items in the same order.
        resamples: How often items are drawn.
        seed: Of the draws.

    Raises:
        ValueError: If the two are not equally long.
    """
    return average_difference([(first, second)], resamples, seed)


def average_difference(
    tasks: Sequence[tuple[Sequence[float], Sequence[float]]],
    resamples: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """Average of the first minus that of the second over several tasks, by paired bootstrap.

    Every task weighs the same. In each draw every task's own items are drawn with replacement.

    Args:
        tasks: For each task, per item the first mode's scores and the second's.
        resamples: How often items are drawn.
        seed: Of the draws.

    Raises:
        ValueError: If the two of a task are not equally long.
    """
    deltas = [[a - b for a, b in zip(*pair, strict=True)] for pair in tasks]
    return _interval(deltas, resamples, seed)


def sign_flips(
    first: Sequence[float], second: Sequence[float], resamples: int = 10_000, seed: int = 0
) -> float:
    """Two-sided p-value of both modes being equally good, on the same items.

    If they were, each item's difference could as well have the other sign: it is the share of ways
    to flip signs whose mean is as far from zero as the one seen. All ways are counted where few
    items differ. For right and wrong answers it is McNemar's exact test. Fisher, "The design of
    experiments" (1935), section 21.

    Args:
        first: Per item, the first mode's score.
        second: The same of the second mode, for the same items in the same order.
        resamples: How many ways are drawn where there are too many to count.
        seed: Of the draws.

    Raises:
        ValueError: If the two are not equally long.
    """
    import numpy as np

    signed = [a - b for a, b in zip(first, second, strict=True) if a != b]
    deltas = np.sort(np.abs(signed))
    least = abs(math.fsum(signed)) - 1e-9 * float(deltas.sum())  # rounding makes none less extreme
    if len(deltas) <= _EXACT:
        sums = np.array(list(product((-1, 1), repeat=len(deltas)))) @ deltas
        return float(np.mean(np.abs(sums) >= least))
    rng, extreme = np.random.default_rng(seed), 0
    rows = max(1, _BATCH // len(deltas))
    for done in range(0, resamples, rows):
        signs = rng.integers(2, size=(min(rows, resamples - done), len(deltas)))
        extreme += int((np.abs((2 * signs - 1) @ deltas) >= least).sum())
    return (1 + extreme) / (1 + resamples)  # the ways seen count the one that happened


def _interval(tasks: Sequence[Sequence[float]], resamples: int, seed: int) -> Estimate:
    """The tasks' average mean, each task's items drawn by themselves."""
    if not tasks or not all(tasks):
        return Estimate(math.nan, math.nan, math.nan)
    import numpy as np

    rng = np.random.default_rng(seed)
    # Sorted, so that neither the interval nor the last digit depends on the items' order.
    values = [np.sort(np.asarray(task, dtype=np.float64)) for task in tasks]
    drawn = sum(_means(task, resamples, rng) for task in values) / len(values)
    low, high = np.quantile(drawn, [0.025, 0.975])
    middle = sum(float(task.mean()) for task in values) / len(values)
    return Estimate(middle, float(low), float(high))


def _means(values: NDArray[float64], resamples: int, rng: Generator) -> NDArray[float64]:
    """Means of as many items drawn with replacement, so many times."""
    import numpy as np

    total = len(values)
    different, counts = np.unique(values, return_counts=True)
    if len(different) <= _FEW:
        drawn = rng.multinomial(total, counts / total, size=resamples)
        return drawn @ different / total
    rows = max(1, _BATCH // total)
    return np.concatenate(
        [
            values[rng.integers(total, size=(min(rows, resamples - done), total))].mean(1)
            for done in range(0, resamples, rows)
        ]
    )
