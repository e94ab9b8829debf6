"""How sure one can be of an accuracy, of a difference between two, and of an average.

Closed forms; what needs chance is in :mod:`taia.evaluation.scores.resampling`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, stdev
from typing import Final, Self

#: Two-sided 95% quantile of the normal distribution, about 1.96.
_Z: Final = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95% confidence interval; fractions, not percent."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero; of a difference."""
        return self.low > 0 or self.high < 0

    def turned(self) -> Self:
        """The same difference the other way round."""
        return replace(self, value=-self.value, low=-self.high, high=-self.low)


@dataclass(frozen=True, slots=True)
class Difference(Estimate):
    """How much better the first of two modes answers the same questions.

    Attributes:
        gained: Questions only the first answers rightly.
        lost: Questions only the second answers rightly.
        p_value: Of McNemar's exact test that both modes are equally good.
    """

    gained: int
    lost: int
    p_value: float


@dataclass(frozen=True, slots=True)
class Average:
    """The mean of several tasks' accuracies, with its standard error; fractions."""

    value: float
    standard_error: float

    @property
    def estimate(self) -> Estimate:
        """With its 95% interval, by the normal distribution."""
        half = _Z * self.standard_error
        return Estimate(self.value, self.value - half, self.value + half)


def accuracy(right: Sequence[bool]) -> Estimate:
    """Share of right answers with Wilson's score interval.

    Wilson, "Probable inference, the law of succession, and statistical inference" (1927).

    Args:
        right: Per question, whether it was answered rightly. May be empty: nothing is known then.
    """
    total = len(right)
    if total == 0:
        return Estimate(math.nan, 0.0, 1.0)
    low, high = _wilson(sum(right), total)
    return Estimate(sum(right) / total, low, high)


def difference(first: Sequence[bool], second: Sequence[bool]) -> Difference:
    """Accuracy of the first minus that of the second, on the same questions.

    The interval is Newcombe's for paired proportions: Wilson's limits of both, joined by their
    correlation. Newcombe, "Improved confidence intervals for the difference between binomial
    proportions based on paired data", Statistics in Medicine 17 (1998), method 10.

    Args:
        first: Per question, whether the first mode answered it rightly.
        second: The same of the second mode, for the same questions in the same order.

    Raises:
        ValueError: If the two are not equally long.
    """
    pairs = list(zip(first, second, strict=True))
    total = len(pairs)
    if total == 0:
        return Difference(math.nan, -1.0, 1.0, 0, 0, 1.0)
    both = sum(a and b for a, b in pairs)
    gained = sum(a and not b for a, b in pairs)
    lost = sum(b and not a for a, b in pairs)
    neither = total - both - gained - lost

    one, other = (both + gained) / total, (both + lost) / total
    low_one, high_one = _wilson(both + gained, total)
    low_other, high_other = _wilson(both + lost, total)
    phi = _correlation(both, gained, lost, neither)

    def distance(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    value = one - other
    low = value - distance(one - low_one, high_other - other)
    high = value + distance(high_one - one, other - low_other)
    p_value = _mcnemar(gained, lost)
    return Difference(value, max(-1.0, low), min(1.0, high), gained, lost, p_value)


def standard_error(scores: Sequence[float]) -> float:
    """Standard error of a sample's mean: s/√n, with n − 1 in s; of fewer than two, nan.

    It is what lm-evaluation-harness prints, for right and wrong answers as for other scores.
    """
    return stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan


def average(scores: Mapping[str, Sequence[float]]) -> Average:
    """The tasks' average as the paper computes it: every task weighs the same, however long.

    Its standard error is that of a mean of independent means, √Σ se² / k.

    Args:
        scores: Task → each item's score; right and wrong count as 1 and 0. At least one task, and
            in each at least one item.
    """
    means = [sum(task) / len(task) for task in scores.values()]
    errors = [standard_error(task) for task in scores.values()]
    return Average(sum(means) / len(means), math.hypot(*errors) / len(means))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values corrected for there being several, by Holm's step-down method.

    The i-th smallest of m (i from 0) is multiplied by m − i, and is at least as large as the one
    before it. Those below 0.05 are then differences of which, with 95% probability, none is
    chance. Holm, "A simple sequentially rejective multiple test procedure" (1979).

    Args:
        p_values: Task → its p-value.

    Returns:
        Task → its corrected p-value, in the order given.
    """
    corrected: dict[str, float] = {}
    floor = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = floor
    return {name: corrected[name] for name in p_values}


def _wilson(right: int, total: int) -> tuple[float, float]:
    share, z2 = right / total, _Z * _Z
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    # At the ends the limits are 0 and 1 exactly; rounding would miss them.
    low = 0.0 if right == 0 else max(0.0, middle - half)
    return low, 1.0 if right == total else min(1.0, middle + half)


def _correlation(both: int, gained: int, lost: int, neither: int) -> float:
    """Newcombe's phi, with his continuity correction, which applies to a positive one only."""
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    if margins == 0:
        return 0.0
    total = both + gained + lost + neither
    product: float = both * neither - gained * lost
    if product > 0:
        product = max(product - total / 2, 0)
    return product / math.sqrt(margins)


def _mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p-value: does a fair coin fall so unevenly?"""
    tosses = gained + lost
    tail = sum(math.comb(tosses, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / (1 << tosses))
