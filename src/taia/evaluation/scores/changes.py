"""One mode against another in each task: how far apart, whether really, and which items turned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from taia.evaluation.scores.bounded import LEVEL
from taia.evaluation.scores.drawn import drawn_limits
from taia.evaluation.scores.flips import Flips, flips
from taia.evaluation.scores.pooling import Task
from taia.evaluation.scores.scored import ends
from taia.evaluation.scores.statistics import Contrast, holm, mean_difference


@dataclass(frozen=True, slots=True)
class Change(Contrast):
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
        there = super(Change, self).turned()
        return replace(there, flips=None if self.flips is None else self.flips.turned())


def changes(about: Mapping[str, Task], mode: str, other: str) -> dict[str, Change]:
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
        name: Change(
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


def _whole_difference(task: Task, mode: str, other: str) -> Contrast:
    """The difference of a metric of all items together, by the draws of both modes."""
    value, drawn = task.apart(mode, other)
    found = drawn_limits(value, drawn, len(task.items[mode])) or (None, None, None)
    return Contrast(value, *found)


def _flips(task: Task, mode: str, other: str) -> Flips | None:
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
