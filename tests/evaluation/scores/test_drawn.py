"""Metrics of all items together: drawn alike for every mode, with intervals that cover, or none."""

import math
import random
from statistics import fmean

import numpy as np
import pytest

from taia.evaluation.scores.drawn import drawn_limits, redraw, spread
from taia.evaluation.scores.studentised import FEWEST


def ratio(rows):
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


def test_intervals_cover():
    """Of a ratio of sums over documents of unlike lengths, and of the difference of two."""
    covered = apart = 0
    runs = 150
    for seed in range(runs):
        base, tuned = rows(FEWEST, seed), rows(FEWEST, seed, shift=0.1)
        first, second = redraw(ratio, base, 300), redraw(ratio, tuned, 300)
        low, high, _ = drawn_limits(ratio(base), first, FEWEST)
        covered += low <= 3 <= high
        drawn = [b - a for a, b in zip(first, second, strict=True)]
        low, high, p_value = drawn_limits(ratio(tuned) - ratio(base), drawn, FEWEST)
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
