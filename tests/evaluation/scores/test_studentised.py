"""Ratios of sums against closed forms, and against distributions with long tails."""

from __future__ import annotations

import math

import numpy as np
import pytest

from taia.evaluation.scores.studentised import FEWEST, ratio

#: Scores without ends and their mean.
SCORES = {
    "normal": (lambda rng, n: rng.normal(2, 1, n), 2.0),
    "exponential": (lambda rng, n: rng.exponential(1, n), 1.0),
    "log-normal": (lambda rng, n: rng.lognormal(0, 1, n), math.exp(0.5)),
    "long tails both ways": (lambda rng, n: rng.standard_t(3, n), 0.0),
    "two kinds": (lambda rng, n: rng.normal(size=n) + 10 * (rng.random(n) < 0.05), 0.5),
}


def test_intervals_cover():
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
