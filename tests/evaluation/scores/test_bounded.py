"""The bound against closed forms, against drawing, and against distributions it must cover."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taia.evaluation.scores.bounded import Ends, average, limits, p_value

SHARE, CHANGE = Ends(0, 1), Ends(-1, 1)

#: Scores from 0 to 1 and their mean: skewed, discrete, rare.
SCORES = {
    "uniform": (lambda rng, n: rng.random(n), 0.5),
    "mostly nothing": (lambda rng, n: rng.beta(0.1, 0.9, n), 0.1),
    "mostly all": (lambda rng, n: rng.beta(8, 1, n), 8 / 9),
    "short tail": (
        lambda rng, n: np.minimum(1, rng.exponential(0.1, n)),
        0.1 * (1 - math.exp(-10)),
    ),
    "half points, rare": (lambda rng, n: 0.5 * (rng.random(n) < 0.05), 0.025),
    "f1": (lambda rng, n: rng.choice([0, 0.4, 2 / 3, 1], n, p=[0.7, 0.1, 0.1, 0.1]), 0.62 / 3),
    "seldom zero": (lambda rng, n: 0.9 * (rng.random(n) < 0.95), 0.855),
}
#: Differences from −1 to 1 and their mean.
CHANGES = {
    "often a little, seldom much": (
        lambda rng, n: np.where(rng.random(n) < 0.9, 0.1, -0.9),
        0.0,
    ),
    "few turn": (lambda rng, n: rng.choice([-1, 0, 1], n, p=[0.06, 0.92, 0.02]), -0.04),
    "many turn": (lambda rng, n: rng.choice([-1, 0, 1], n, p=[0.3, 0.3, 0.4]), 0.1),
}


@pytest.mark.parametrize("items", range(1, 61))
def test_intervals_cover_at_every_size(items):
    """A p-value below 0.05 of the truth is an interval that misses it; see the test below."""
    rng, draws = np.random.default_rng(items), 40
    for kinds, ends in ((SCORES, SHARE), (CHANGES, CHANGE)):
        missed = [
            p_value(draw(rng, items), ends, truth) < 0.05
            for draw, truth in kinds.values()
            for _ in range(draws)
        ]
        assert np.mean(missed) <= 0.07


@settings(max_examples=60)
@given(st.lists(st.floats(-1, 1).map(lambda x: round(x, 2)), min_size=1, max_size=12))
def test_the_interval_is_what_the_test_does_not_refuse(scores):
    low, high = limits(scores, CHANGE)
    assert -1 <= low <= np.mean(scores) + 1e-9
    assert np.mean(scores) - 1e-9 <= high <= 1
    assert (low > 0 or high < 0) == (p_value(scores, CHANGE) < 0.05)
    for inside in (low + 1e-5, high - 1e-5):
        assert p_value(scores, CHANGE, inside) >= 0.0499
    for outside in (low - 1e-5, high + 1e-5):
        assert not -1 <= outside <= 1 or p_value(scores, CHANGE, outside) <= 0.0501


@pytest.mark.parametrize(
    "scores",
    [
        [0.2],
        [0.9, 0.1, 0.1],
        [0.0, 0.3, 0.3, 0.7, 1.0],
        [-0.2, 0.4, 0.05],
        [math.sin(n) / 2 + 0.2 for n in range(40)],
        [0.001 * n - 0.4 for n in range(700)],  # more than are told apart
    ],
)
def test_it_agrees_with_weights_drawn(scores):
    rng = np.random.default_rng(5)
    weights = rng.dirichlet(np.ones(len(scores) + 1), 100_000)
    low = np.quantile(weights @ [*scores, -1], 0.025)
    high = np.quantile(weights @ [*scores, 1], 0.975)
    spread = high - low
    assert limits(scores, CHANGE) == (
        pytest.approx(low, abs=0.015 * spread),
        pytest.approx(high, abs=0.015 * spread),
    )
    assert average([scores], CHANGE)[:2] == (
        pytest.approx(low, abs=0.03 * spread),
        pytest.approx(high, abs=0.03 * spread),
    )


def test_items_that_differ_alike_are_no_proof_of_a_mean():
    """Eight small gains: the ninth may be a great loss. Flipped signs called it real, p = 1/128."""
    assert p_value([0.1] * 8, CHANGE) > 0.2
    assert p_value([0.1] * 200, CHANGE) < 0.05


def test_where_there_are_many_items_it_is_the_normal_interval():
    scores = [0.5 + 0.4 * math.sin(7 * n) for n in range(5000)]
    low, high = limits(scores, SHARE)
    half = 1.96 * np.std(scores) / math.sqrt(5000)
    assert (np.mean(scores) - low, high - np.mean(scores)) == pytest.approx((half, half), rel=0.05)


@pytest.mark.parametrize("gained", [0, 3, 400, 2000])
def test_a_hundred_thousand_items_are_no_harder_than_a_hundred(gained):
    scores = [1.0] * gained + [-0.5] * 700 + [0.25] * 90_000 + [0.0] * 9_000
    low, high = limits(scores, CHANGE)
    half = 1.96 * np.std(scores) / math.sqrt(len(scores))
    assert (low, high) == pytest.approx((np.mean(scores) - half, np.mean(scores) + half), abs=1e-4)


def average_covers(truths, draw, ends, runs=200):
    rng = np.random.default_rng(11)
    truth = np.mean(truths)
    found = [average(draw(rng), ends) for _ in range(runs)]
    return np.mean([low <= truth <= high for low, high, _ in found])


@pytest.mark.parametrize(
    "sizes", [(1, 1), (1,) * 7, (1, 60), (2, 5, 9), (20,) * 4, (1, 3, 200)], ids=str
)
def test_averages_over_tasks_cover(sizes):
    rates = np.linspace(0.04, 0.96, len(sizes))
    assert (
        average_covers(
            rates,
            lambda rng: [
                (rng.random(n) < p).astype(float) for n, p in zip(sizes, rates, strict=True)
            ],
            SHARE,
        )
        >= 0.93
    )
    turned = [(0.1, 0.1), (0.4, 0.02)] * len(sizes)
    assert (
        average_covers(
            [gain - loss for gain, loss in turned[: len(sizes)]],
            lambda rng: [
                rng.choice([1.0, -1.0, 0.0], n, p=[gain, loss, 1 - gain - loss])
                for n, (gain, loss) in zip(sizes, turned, strict=False)
            ],
            CHANGE,
        )
        >= 0.93
    )


@given(st.lists(st.lists(st.sampled_from([-1.0, -0.3, 0.0, 1.0]), min_size=1, max_size=30),
                min_size=1, max_size=4))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_of_averages_too_interval_and_p_value_say_the_same(tasks):
    low, high, p = average(tasks, CHANGE)
    assert low <= np.mean([np.mean(task) for task in tasks]) <= high
    assert (low > 0 or high < 0) == (p < 0.05)


def test_the_items_order_plays_no_part():
    scores = [0.1, 0.9, 0.4]
    same = {limits(way, SHARE) for way in product(scores, repeat=3) if len(set(way)) == 3}
    assert len(same) == 1
    assert average([scores], SHARE) == average([scores[::-1]], SHARE)
