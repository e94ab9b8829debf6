"""One mode against another in each task: how far apart, whether really, and which items turned.

A difference of means hides what turned: as many items lost as gained look like no change at all.
Harmon et al., "Mapping post-training forgetting in language models at scale" (arXiv 2510.17776).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from taia.evaluation.scores.bounded import LEVEL, Ends
from taia.evaluation.scores.pooling import PooledTask
from taia.evaluation.scores.resampling import drawn_limits
from taia.evaluation.scores.scored import ends
from taia.evaluation.scores.statistics import SHARE, Contrast, Estimate, holm, mean, mean_difference


@dataclass(frozen=True, slots=True)
class Flip:
    """Items that turned one way.

    Attributes:
        count: How many.
        share: Of all items.
        by_chance: How many guessing alone makes turn this way; None where nothing is guessed.
        known: The share of all items that turned from known to not known, or the other way;
            None where nothing is guessed, and ``share`` is it.
    """

    count: int
    share: Estimate
    by_chance: float | None
    known: Estimate | None


@dataclass(frozen=True, slots=True)
class Flips:
    """What a mode has right that another has wrong, and the reverse.

    Attributes:
        items: How many both answered.
        gained: Wrong in the other mode, right in this one.
        lost: Right in the other mode, wrong in this one.
    """

    items: int
    gained: Flip
    lost: Flip

    def turned(self) -> Flips:
        """The same the other way round."""
        return Flips(self.items, self.lost, self.gained)


@dataclass(frozen=True, slots=True)
class TaskChange(Contrast):
    """One mode's score minus another's, over the same items of a task.

    Attributes:
        corrected: The p-value after Holm's correction for the tasks that the two modes share.
        items: How many both answered.
        higher_is_better: Whether more is better in this task.
        flips: Which items turned, where items are right or wrong; where lower is better, right is
            what does not count, such as an attack without success.
    """

    corrected: float | None
    items: int
    higher_is_better: bool
    flips: Flips | None

    @property
    def is_real(self) -> bool:
        """Whether it is more than chance, with all tasks in mind.

        Then the interval excludes zero. The reverse need not hold: each interval stands alone.
        """
        return self.corrected is not None and self.corrected < LEVEL

    @property
    def verdict(self) -> int:
        """1 where the first mode is really better, −1 where it is really worse, else 0."""
        if not self.is_real or self.value == 0:
            return 0
        return 1 if (self.value > 0) == self.higher_is_better else -1

    @property
    def gained(self) -> int | None:
        """Items only the first has right, where items are right or wrong."""
        return None if self.flips is None else self.flips.gained.count

    @property
    def lost(self) -> int | None:
        """Items only the second has right, where items are right or wrong."""
        return None if self.flips is None else self.flips.lost.count

    def turned(self) -> Self:
        """The same the other way round."""
        # Without arguments `super` needs the class that slots have replaced.
        there = super(TaskChange, self).turned()
        return replace(there, flips=None if self.flips is None else self.flips.turned())


def changes(about: Mapping[str, PooledTask], mode: str, other: str) -> dict[str, TaskChange]:
    """A mode minus another, in every task of which both answered an item."""
    found: dict[str, tuple[Contrast, int, Flips | None]] = {}
    for name, task in about.items():
        if mode in task.items and other in task.items:
            first, second = task.paired(mode, other)
            if first:
                if task.is_mean:
                    contrast = mean_difference(first, second, ends(task))
                else:
                    contrast = _whole_difference(task, mode, other)
                found[name] = contrast, len(first), _flips(task, mode, other)
    corrected = holm(
        {name: row.p_value for name, (row, *_) in found.items() if row.p_value is not None}
    )
    return {
        name: TaskChange(
            contrast.value,
            contrast.low,
            contrast.high,
            contrast.p_value,
            corrected.get(name),
            items,
            about[name].higher_is_better,
            turned,
        )
        for name, (contrast, items, turned) in found.items()
    }


def _whole_difference(task: PooledTask, mode: str, other: str) -> Contrast:
    """The difference of a metric of all items together, by the draws of both modes."""
    value, drawn = task.apart(mode, other)
    found = drawn_limits(value, drawn, len(task.items[mode])) or (None, None, None)
    return Contrast(value, *found)


def _flips(task: PooledTask, mode: str, other: str) -> Flips | None:
    if not task.is_binary:
        return None
    one, two = task.items[mode], task.items[other]
    shared = sorted(one.keys() & two.keys())
    options = [task.options.get(item, 0) for item in shared]
    right = float(task.higher_is_better)  # an attack that has success is not what is wanted
    return flips(
        [one[item] == right for item in shared],
        [two[item] == right for item in shared],
        [1 / k if k > 1 else 0.0 for k in options],
    )


def flips(first: Sequence[bool], second: Sequence[bool], chances: Sequence[float]) -> Flips:
    """Count flips from the second mode to the first, and tell guesses from knowledge.

    A mode knows an item, and is right, or guesses, and is right with probability g; modes guess
    independently. Then of an item that neither knows, which both have wrong with probability
    (1 − g)², each way turns with probability g (1 − g): guessing makes g / (1 − g) flips each way
    for every item that both have wrong. And what is really lost, known to the second mode only, is
    the expectation over the items of

        1 / (1 − g) where the item was lost, − g / (1 − g)² where both are wrong, else 0.

    Modes of one model may guess alike. Then less of what turned is chance than ``by_chance``, and
    ``known`` is too small.

    Args:
        first: Per item, whether the first mode answered it rightly.
        second: The same of the second mode, for the same items in the same order.
        chances: Per item, the probability that a guess is right: 1/k of k options; 0 where there
            is nothing to choose from. Below 1.

    Raises:
        ValueError: If the three are not equally long.
    """
    rows = list(zip(first, second, chances, strict=True))
    return Flips(
        len(rows),
        _flip([(now and not before, not (now or before), g) for now, before, g in rows]),
        _flip([(before and not now, not (now or before), g) for now, before, g in rows]),
    )


def _flip(rows: Sequence[tuple[bool, bool, float]]) -> Flip:
    """Of items that turned or not, are wrong in both modes or not, and their chance."""
    count = sum(turned for turned, _, _ in rows)
    share = mean([float(turned) for turned, _, _ in rows], SHARE)
    most = max((g for *_, g in rows), default=0.0)
    if most == 0:
        return Flip(count, share, None, None)
    by_chance = math.fsum(g / (1 - g) for _, wrong, g in rows if wrong)
    scores = [
        1 / (1 - g) if turned else -g / (1 - g) ** 2 if wrong else 0.0 for turned, wrong, g in rows
    ]
    found = mean(scores, Ends(-most / (1 - most) ** 2, 1 / (1 - most)))
    return Flip(count, share, by_chance, _clipped(found))


def _clipped(estimate: Estimate) -> Estimate:
    """A share cannot be below nothing or above all."""
    value, low, high = (
        None if number is None else min(1.0, max(0.0, number))
        for number in (estimate.value, estimate.low, estimate.high)
    )
    assert value is not None
    return Estimate(value, low, high)
