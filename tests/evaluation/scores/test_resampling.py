"""Ratios of sums, and metrics of all items together: intervals that cover, or none.

Against closed forms, and against distributions with long tails.
"""

from __future__ import annotations

import math
import random
from statistics import fmean

import numpy as np
import pytest

from taia.evaluation.scores.resampling import FEWEST, drawn_limits, ratio, redraw, spread

#: Scores without ends and their mean.
SCORES = {
    "normal": (lambda rng, n: rng.normal(2, 1, n), 2.0),
    "exponential": (lambda rng, n: rng.exponential(1, n), 1.0),
    "log-normal": (lambda rng, n: rng.lognormal(0, 1, n), math.exp(0.5)),
    "long tails both ways": (lambda rng, n: rng.standard_t(3, n), 0.0),
    "two kinds": (lambda rng, n: rng.normal(size=n) + 10 * (rng.random(n) < 0.05), 0.5),
}


def test_intervals_of_ratios_cover():
    rng = np.random.default_rng(1)
    found = [
        (ratio(list(draw(rng, FEWEST))), truth)
        for draw, truth in SCORES.values()
        for _ in range(250)
    ]
    assert np.mean([low <= truth <= high for (low, high, _), truth in found]) >= 0.93


def test_documents_of_unlike_length_count_by_their_words():
    rng = np.random.default_rng(1)
    words = rng.integers(5, 500, 400)
    nats = words * 3.0 + rng.normal(size=400) * np.sqrt(words)
    low, high, p = ratio(list(nats), [float(n) for n in words])
    value = nats.sum() / words.sum()
    error = math.sqrt(((nats - value * words) ** 2).sum()) / words.sum()
    assert low < value < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert p == 1 / 1000  # the least that 1,999 draws can say


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 1.0, -0.2])
def test_interval_and_p_value_say_the_same(shift):
    rng = np.random.default_rng(4)
    low, high, p = ratio(list(rng.normal(shift, 1, 150)))
    assert (low > 0 or high < 0) == (p < 0.05)


def test_none_where_nothing_is_known():
    assert ratio([float(n) for n in range(FEWEST - 1)]) is None
    assert ratio([2.5] * 300) is None
    assert ratio([0.0] * 199 + [50.0]) is None  # the next such item may come or not
    assert ratio([3.0] * 300, [1.5] * 300) is None


def test_the_items_order_plays_no_part():
    rng = np.random.default_rng(2)
    scores = [float(x) for x in rng.normal(size=120)]
    assert ratio(scores) == ratio(scores[::-1]) == ratio(sorted(scores))


def quotient(rows):
    return sum(a for a, _ in rows) / sum(b for _, b in rows)


def rows(items, seed, shift=0.0):
    draw = random.Random(seed)
    sizes = [math.exp(draw.gauss(4, 0.7)) for _ in range(items)]
    return [(size * (3 + shift + draw.gauss(0, 0.5)), size) for size in sizes]


def test_the_same_items_are_drawn_for_every_mode():
    one = [float(place) for place in range(FEWEST)]
    first, second = redraw(fmean, one, 50), redraw(fmean, [value + 7 for value in one], 50)
    assert [b - a for a, b in zip(first, second, strict=True)] == pytest.approx([7.0] * 50)
    assert len(set(first)) > 40
    assert redraw(fmean, one, 10) == first[:10]


def test_the_standard_error_is_that_of_the_mean():
    values = [random.Random(place).gauss(0, 2) for place in range(400)]
    assert spread(redraw(fmean, values, 1000)) == pytest.approx(np.std(values) / 20, rel=0.1)
    assert math.isnan(spread(()))


def test_intervals_of_what_is_drawn_cover():
    """Of a quotient of sums over documents of unlike lengths, and of the difference of two."""
    covered = apart = 0
    runs = 150
    for seed in range(runs):
        base, tuned = rows(FEWEST, seed), rows(FEWEST, seed, shift=0.1)
        first, second = redraw(quotient, base, 300), redraw(quotient, tuned, 300)
        low, high, _ = drawn_limits(quotient(base), first, FEWEST)
        covered += low <= 3 <= high
        drawn = [b - a for a, b in zip(first, second, strict=True)]
        low, high, p_value = drawn_limits(quotient(tuned) - quotient(base), drawn, FEWEST)
        apart += low <= 0.1 <= high and p_value < 0.05
    # By chance alone 95% would be below these once in a thousand times.
    assert covered >= 0.89 * runs
    assert apart == runs, "only the shift differs"


def test_no_difference_is_no_difference():
    values = redraw(fmean, [float(place % 5) for place in range(FEWEST)], 200)
    assert drawn_limits(0.0, [0.0] * 200, FEWEST) == (0.0, 0.0, 1.0)
    low, high, p_value = drawn_limits(0.01, [value - fmean(values) for value in values], FEWEST)
    assert low < 0 < high
    assert p_value > 0.5


def test_of_few_items_or_draws_nothing_is_said():
    assert redraw(fmean, [1.0] * (FEWEST - 1), 50) == ()
    assert drawn_limits(1.0, [1.0, 2.0] * 50, FEWEST - 1) is None
    assert drawn_limits(1.0, (), FEWEST) is None
    assert drawn_limits(1.0, [math.nan] * 10 + [1.0] * 90, FEWEST) is None
    assert drawn_limits(1.0, [math.nan] * 2 + [1.0] * 98, FEWEST) is not None


def test_a_function_that_fails_on_some_draws_has_no_number_there():
    def strict(values):
        if values.count(0.0) > 1:
            raise KeyError("two of them")
        return fmean(values)

    found = redraw(strict, [float(place) for place in range(FEWEST)], 100)
    assert 0 < sum(map(math.isnan, found)) < 100

    def full(_):
        raise MemoryError

    with pytest.raises(MemoryError):
        redraw(full, [1.0] * FEWEST, 5)
