"""Flips by hand, and guesses told from knowledge where it is known who knew what."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taia.evaluation.scores.changes import flips
from taia.evaluation.scores.statistics import accuracy


def simulated(items: int, options: list[int], lost: float, gained: float, both: float, seed: int):
    """Answers of two modes that know or guess; and the share that was lost."""
    draw = random.Random(seed)
    now, before, chances, truly = [], [], [], 0
    for number in range(items):
        k = options[number % len(options)]
        fate = draw.random()
        knew = fate < both + lost
        knows = fate < both or both + lost <= fate < both + lost + gained
        before.append(knew or draw.randrange(k) == 0)
        now.append(knows or draw.randrange(k) == 0)
        truly += knew and not knows
        chances.append(1 / k)
    return now, before, chances, truly / items


def test_counts_by_hand():
    now = [True, True, False, False, False]
    before = [True, False, True, False, False]
    found = flips(now, before, [0.25] * 5)
    assert (found.items, found.gained.count, found.lost.count) == (5, 1, 1)
    assert found.lost.share == accuracy([True] + [False] * 4)
    # Two wrong in both, each of which stands for 0.25 / 0.75 flips each way.
    assert found.lost.by_chance == pytest.approx(2 / 3)
    # 1/0.75 for the lost one, minus 0.25/0.75² for both that are wrong, over five.
    assert found.lost.known.value == pytest.approx((4 / 3 - 2 * 4 / 9) / 5)


def test_where_nothing_is_guessed_all_is_knowledge():
    found = flips([True, False], [False, True], [0.0, 0.0])
    assert found.lost.by_chance is None
    assert found.gained.known is None
    assert found.gained.share.value == 0.5


@pytest.mark.parametrize(
    ("options", "lost", "gained", "both"),
    [([4], 0.1, 0.05, 0.4), ([2], 0.0, 0.0, 0.2), ([4, 5, 2], 0.05, 0.2, 0.3), ([10], 0.3, 0, 0.6)],
)
def test_guesses_are_told_from_knowledge(options, lost, gained, both):
    now, before, chances, truly = simulated(60_000, options, lost, gained, both, seed=3)
    found = flips(now, before, chances)
    assert found.lost.known.value == pytest.approx(truly, abs=0.012)
    # The control: uncorrected, guesses pass for forgetting, where there are any.
    chance = found.lost.share.value - found.lost.known.value
    neither = 1 - lost - gained - both
    expected = sum((1 / k) * (1 - 1 / k) * neither - lost / k for k in options) / len(options)
    assert chance == pytest.approx(expected, abs=0.012)
    by_chance = sum((1 / k) * (1 - 1 / k) * neither for k in options) / len(options)
    assert found.lost.by_chance / found.items == pytest.approx(by_chance, abs=0.006)


def test_the_corrected_share_is_covered():
    truth, inside = 0.08, 0
    for seed in range(150):
        now, before, chances, _ = simulated(40, [4], truth, 0.1, 0.3, seed)
        known = flips(now, before, chances).lost.known
        inside += known.low <= truth <= known.high
    assert inside / 150 >= 0.93


rows = st.tuples(st.booleans(), st.booleans(), st.sampled_from([0.0, 0.2, 0.25, 0.5]))


@given(st.lists(rows, min_size=1, max_size=40))
def test_turned_it_is_the_reverse(items):
    now, before, chances = (list(column) for column in zip(*items, strict=True))
    there, back = flips(now, before, chances), flips(before, now, chances)
    assert there.turned() == back
    assert there.gained.count - there.lost.count == sum(now) - sum(before)
    for flip in (there.gained, there.lost):
        if flip.known is not None:
            assert 0 <= flip.known.low <= flip.known.high <= 1
            assert 0 <= flip.known.value <= 1
