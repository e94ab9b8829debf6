"""What a change of mode turned from right to wrong and from wrong to right.

A mean hides both: as many lost as gained look like no change at all. Harmon et al., "Mapping
post-training forgetting in language models at scale" (arXiv 2510.17776).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from taia.evaluation.scores.bounded import Ends
from taia.evaluation.scores.statistics import SHARE, Estimate, mean


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
