"""How sure one can be of a score, of a difference between two, and of an average.

One rule holds for all: an interval is the set of what the test doesn't refuse at 5%, so it
excludes zero exactly where the p-value is below 0.05. The tests are those of
:mod:`taia.evaluation.scores.bounded` where scores have known ends, and else those of
:mod:`taia.evaluation.scores.resampling`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import stdev
from typing import Final, Self

from taia.evaluation.scores import bounded, resampling
from taia.evaluation.scores.bounded import LEVEL, Ends

#: Of shares, and of differences between two.
SHARE: Final = Ends(0.0, 1.0)
CHANGE: Final = Ends(-1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95% confidence interval; fractions, not percent.

    Attributes:
        value: The number.
        low: Lower limit; None, as the upper one, where no interval can be given.
        high: Upper limit.
    """

    value: float
    low: float | None
    high: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both limits, or None where no interval can be given."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True, slots=True)
class Contrast(Estimate):
    """One mode minus another.

    Attributes:
        p_value: Of both being equally good; None where there is no interval.
    """

    p_value: float | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero, which is: whether the p-value is below 0.05."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)

    @property
    def is_real(self) -> bool:
        """Whether it is more than chance."""
        return self.p_value is not None and self.p_value < LEVEL

    @property
    def verdict(self) -> int:
        """1 where the first mode is really better, −1 where it is really worse, else 0."""
        return 0 if not self.is_real else (self.value > 0) - (self.value < 0)

    def turned(self) -> Self:
        """The same difference the other way round."""
        # Taken from nothing, not turned: of 0 the negative is written as -0.0.
        low, high = (None if end is None else 0.0 - end for end in (self.high, self.low))
        return replace(self, value=0.0 - self.value, low=low, high=high)


@dataclass(frozen=True, slots=True)
class Average(Estimate):
    """The mean of several tasks' accuracies; fractions.

    Attributes:
        standard_error: By the tasks' own; nan where a task has one item.
    """

    standard_error: float


def accuracy(right: Sequence[bool]) -> Estimate:
    """Share of right answers with Clopper and Pearson's interval, which always covers.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial" (1934).

    Args:
        right: Per question, whether it was answered rightly. May be empty: nothing is known then.
    """
    return mean([float(answer) for answer in right], SHARE)


def mean(
    scores: Sequence[float], ends: Ends | None, sizes: Sequence[float] | None = None
) -> Estimate:
    """Mean score with its interval; with sizes, the ratio of both sums.

    Args:
        scores: Of each item. May be empty: nothing is known then.
        ends: Between what they lie; None where that is not known.
        sizes: Of each item, such as its words; only without ends.
    """
    if not scores:
        return Estimate(math.nan, *(ends or (None, None)))
    value = _ratio(scores, sizes)
    if ends is not None:
        return Estimate(value, *bounded.limits(scores, ends))
    found = resampling.ratio(scores, sizes)
    return Estimate(value, *(found[:2] if found else (None, None)))


def mean_difference(
    first: Sequence[float],
    second: Sequence[float],
    ends: Ends | None,
    sizes: Sequence[float] | None = None,
) -> Contrast:
    """Mean score of the first minus that of the second, on the same items.

    Args:
        first: Per item, the first mode's score.
        second: The same of the second mode, for the same items in the same order.
        ends: Between what scores lie; None where that is not known.
        sizes: Of each item, such as its words, the same for both modes; only without ends.

    Raises:
        ValueError: If the two are not equally long.
    """
    apart = [a - b for a, b in zip(first, second, strict=True)]
    if ends is not None:
        reach = ends.high - ends.low
        ends = Ends(-reach, reach)
    estimate = mean(apart, ends, sizes)
    if not apart:
        return Contrast(estimate.value, estimate.low, estimate.high, 1.0 if ends else None)
    if ends is not None:
        p_value: float | None = bounded.p_value(apart, ends)
    else:
        found = resampling.ratio(apart, sizes)
        p_value = found and found[2]
    return Contrast(estimate.value, estimate.low, estimate.high, p_value)


def standard_error(scores: Sequence[float]) -> float:
    """Standard error of a sample's mean: s/√n, with n − 1 in s; of fewer than two, nan.

    It is what lm-evaluation-harness prints, for right and wrong answers as for other scores.
    """
    return stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan


def average(scores: Mapping[str, Sequence[float]]) -> Average:
    """The tasks' average as the paper computes it: every task weighs the same, however long.

    Its standard error is that of a mean of independent means, √Σ se² / k.

    Args:
        scores: Task → each item's score, from 0 to 1. At least one task, and in each at least one
            item.
    """
    tasks = list(scores.values())
    errors = [standard_error(task) for task in tasks]
    low, high, _ = bounded.average(tasks, SHARE)
    return Average(_average(tasks), low, high, math.hypot(*errors) / len(tasks))


def average_difference(
    tasks: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> Contrast:
    """Average of the first minus that of the second over several tasks, each weighing the same.

    Args:
        tasks: For each task, per item the first mode's scores and the second's, from 0 to 1. At
            least one task, and in each at least one item.

    Raises:
        ValueError: If the two of a task are not equally long.
    """
    apart = [[a - b for a, b in zip(*pair, strict=True)] for pair in tasks]
    low, high, p_value = bounded.average(apart, CHANGE)
    return Contrast(_average(apart), low, high, p_value)


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


def _ratio(scores: Sequence[float], sizes: Sequence[float] | None) -> float:
    return math.fsum(scores) / (math.fsum(sizes) if sizes else len(scores))


def _average(tasks: Sequence[Sequence[float]]) -> float:
    return math.fsum(math.fsum(task) / len(task) for task in tasks) / len(tasks)
