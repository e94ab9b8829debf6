"""What is drawn by chance, against closed forms, against counting, and against itself."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taia.evaluation.scores.resampling import average_difference, mean, mean_difference, sign_flips
from taia.evaluation.scores.statistics import difference, standard_error


def test_the_bootstrap_agrees_with_theory_and_with_itself():
    first = [math.sin(7 * n) + 0.5 for n in range(400)]
    second = [math.sin(7 * n + 1) for n in range(400)]
    estimate = mean_difference(first, second)
    assert estimate == mean_difference(first, second)
    assert estimate != mean_difference(first, second, seed=1)
    deltas = [a - b for a, b in zip(first, second, strict=True)]
    assert estimate.value == pytest.approx(sum(deltas) / 400)
    half = 1.96 * standard_error(deltas)
    assert estimate.high - estimate.value == pytest.approx(half, rel=0.05)
    assert estimate.value - estimate.low == pytest.approx(half, rel=0.05)


def test_the_bootstrap_keeps_pairs_together():
    # Scores that differ widely between items, but by the same amount in each of them.
    second = [float(n) for n in range(50)]
    estimate = mean_difference([score + 1 for score in second], second)
    assert (estimate.low, estimate.value, estimate.high) == (1.0, 1.0, 1.0)


def test_the_bootstrap_draws_as_often_when_it_draws_in_parts():
    first = [float(n % 7) for n in range(3000)]  # 333 draws at a time
    estimate = mean_difference(first, [3.0] * 3000, resamples=700)
    assert estimate.low < estimate.value < estimate.high
    with pytest.raises(ValueError, match=r"shorter|longer"):
        mean_difference([1.0], [])
    assert math.isnan(mean_difference([], []).value)


def test_few_scores_and_many_are_drawn_alike():
    # Between 64 and 65 different scores the way of drawing changes.
    few = [float(n % 64) for n in range(640)]
    many = [score + 1e-9 * n for n, score in enumerate(few)]
    one, other = mean(few), mean(many)
    assert one.value == pytest.approx(other.value)
    assert one.high - one.low == pytest.approx(2 * 1.96 * standard_error(few), rel=0.04)
    assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.04)


def test_an_averages_difference_is_as_wide_as_theory_says():
    tasks = [
        ([float(n % 3 == 0) for n in range(300)], [float(n % 5 == 0) for n in range(300)]),
        ([math.sin(n) for n in range(80)], [math.cos(3 * n) for n in range(80)]),
    ]
    found = average_difference(tasks)
    deltas = [[a - b for a, b in zip(*task, strict=True)] for task in tasks]
    assert found.value == pytest.approx(sum(sum(d) / len(d) for d in deltas) / 2)
    error = math.hypot(*map(standard_error, deltas)) / 2
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.04)


def ways(deltas: list[float]) -> float:
    """The share of all ways to flip signs that lie as far out, counted one by one."""
    seen = abs(sum(deltas))
    sums = [
        sum(s * d for s, d in zip(way, deltas, strict=True))
        for way in product((-1, 1), repeat=len(deltas))
    ]
    return sum(abs(total) >= seen - 1e-9 for total in sums) / len(sums)


@given(st.lists(st.floats(-3, 3).map(lambda x: round(x, 2)), max_size=9))
def test_signs_are_flipped_in_every_way(deltas):
    assert sign_flips(deltas, [0.0] * len(deltas)) == pytest.approx(ways(deltas))


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 30))
def test_of_right_and_wrong_answers_it_is_mcnemars_test(gained, lost, alike):
    first = [1.0] * gained + [0.0] * lost + [1.0] * alike
    second = [0.0] * gained + [1.0] * lost + [1.0] * alike
    exact = difference([s == 1 for s in first], [s == 1 for s in second]).p_value
    assert sign_flips(first, second) == pytest.approx(exact)


def test_where_signs_are_drawn_they_agree_with_what_is_counted():
    first, second = [1.0] * 24 + [0.0] * 11, [0.0] * 24 + [1.0] * 11
    exact = difference([s == 1 for s in first], [s == 1 for s in second]).p_value
    assert sign_flips(first, second) == pytest.approx(exact, rel=0.15)
    assert sign_flips([1.0] * 40, [0.0] * 40) == 1 / 10_001


@given(st.permutations([(0.1 * n, math.sin(n)) for n in range(20)]))
def test_the_items_order_plays_no_part(pairs):
    first, second = zip(*pairs, strict=True)
    known = [0.1 * n for n in range(20)], [math.sin(n) for n in range(20)]
    assert mean_difference(first, second, 200) == mean_difference(*known, 200)
    assert sign_flips(first, second, 200) == sign_flips(*known, 200)
