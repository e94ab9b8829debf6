"""Is the fine-tune worse? Base against tuned, item by item, on each thing that was to be kept.

Every test is two-sided, and all of them are corrected together by Holm's method: where the two
models are equally good, the probability that anything at all is called worse is at most 5 %. Only
items to search and to select on are looked at. Those to report on stay sealed, or harm that was
found by chance would be mended by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from taia.evaluation.scores.changes import Flips, flips
from taia.evaluation.scores.results import TaskResult
from taia.evaluation.scores.statistics import SHARE, Contrast, holm, mean_difference
from taia.mending.paired import difference

_LEVEL: Final = 0.05


@dataclass(frozen=True)
class Compared:
    """What one thing that was to be kept gave, item by item.

    Attributes:
        name: What it is: a task, or a file of rows.
        unit: What an item's score is: a metric's name, or ``nats a token``.
        base: Each item's score in base.
        tuned: The same of the tuned model, in the same order.
        higher_is_better: False for a loss, or for refusals of harmless prompts.
        sizes: Of each item, its tokens, where scores are sums over them.
        options: Of how many options an item's answer is one; 0 where there are none.
    """

    name: str
    unit: str
    base: Sequence[float]
    tuned: Sequence[float]
    higher_is_better: bool
    sizes: Sequence[float] | None = None
    options: Sequence[int] = ()

    @classmethod
    def of(cls, base: TaskResult, tuned: TaskResult) -> Compared | None:
        """From both models' results of a task, over the items that have a number in both."""
        one = {sample.id: sample for sample in base.samples}
        rows = [
            (one[sample.id], sample)
            for sample in tuned.samples
            if sample.id in one
            and math.isfinite(sample.score)
            and math.isfinite(one[sample.id].score)
        ]
        if not rows:
            return None
        return cls(
            tuned.task,
            tuned.metric,
            [before.score for before, _ in rows],
            [after.score for _, after in rows],
            tuned.higher_is_better,
            options=[after.options or 0 for _, after in rows],
        )

    @property
    def is_binary(self) -> bool:
        """Whether every item is right or wrong."""
        return self.sizes is None and all(score in (0, 1) for score in (*self.base, *self.tuned))

    def change(self) -> Contrast:
        """Tuned minus base."""
        if self.is_binary:
            return mean_difference(self.tuned, self.base, SHARE)
        sizes = [1.0] * len(self.base) if self.sizes is None else self.sizes
        return difference(self.tuned, self.base, sizes)

    def flips(self) -> Flips | None:
        """Which items turned, where items are right or wrong."""
        if not self.is_binary:
            return None
        right = float(self.higher_is_better)
        chances = [
            1 / count if count > 1 else 0.0 for count in self.options or [0] * len(self.base)
        ]
        tuned, base = ([score == right for score in side] for side in (self.tuned, self.base))
        return flips(tuned, base, chances)


@dataclass(frozen=True)
class Finding:
    """What a test says.

    Attributes:
        name: What was tested.
        unit: What an item's score is.
        items: How many.
        base: Base's mean.
        tuned: The tuned model's.
        change: Tuned minus base, with its interval and p-value.
        corrected: The p-value, corrected for all tests; None where there is none.
        higher_is_better: Whether more is better.
        lost: Items that base has right and tuned has wrong, where items are right or wrong.
        gained: Items that tuned has right and base has wrong, likewise.
    """

    name: str
    unit: str
    items: int
    base: float
    tuned: float
    change: Contrast
    corrected: float | None
    higher_is_better: bool
    lost: int | None = None
    gained: int | None = None

    @property
    def verdict(self) -> int:
        """−1 where the tuned model is really worse, 1 where it is really better, else 0."""
        if self.corrected is None or self.corrected >= _LEVEL or self.change.value == 0:
            return 0
        return 1 if (self.change.value > 0) == self.higher_is_better else -1

    @property
    def worst(self) -> float | None:
        """How much worse the tuned model may be, by the interval; None without one."""
        if self.change.interval is None:
            return None
        low, high = self.change.interval
        return max(0.0, -low if self.higher_is_better else high)


def judged(tests: Sequence[Compared], looks: int = 1) -> tuple[Finding, ...]:
    """Judge all tests together, in their order.

    Args:
        tests: What was compared.
        looks: How often it may be looked, on more items each time, until harm is seen: p-values
            are multiplied by that (Bonferroni), so that all looks together keep the level.
    """
    made = [(test, test.change(), test.flips()) for test in tests]
    corrected = holm(
        {
            str(number): change.p_value
            for number, (_, change, _) in enumerate(made)
            if change.p_value is not None
        }
    )
    return tuple(
        Finding(
            test.name,
            test.unit,
            len(test.base),
            _mean(test.base, test.sizes),
            _mean(test.tuned, test.sizes),
            change,
            min(1.0, looks * p) if (p := corrected.get(str(number))) is not None else None,
            test.higher_is_better,
            None if turned is None else turned.lost.count,
            None if turned is None else turned.gained.count,
        )
        for number, (test, change, turned) in enumerate(made)
    )


def is_worse(findings: Sequence[Finding]) -> bool | None:
    """Whether the tuned model is worse in anything; None where nothing could be tested."""
    if not any(finding.corrected is not None for finding in findings):
        return None
    return any(finding.verdict < 0 for finding in findings)


def _mean(scores: Sequence[float], sizes: Sequence[float] | None) -> float:
    return math.fsum(scores) / (len(scores) if sizes is None else math.fsum(sizes))
