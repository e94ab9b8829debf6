"""Intervals against published values, and properties any interval must have."""

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taia.evaluation.scores.statistics import (
    SHARE,
    Contrast,
    accuracy,
    average,
    average_difference,
    holm,
    mean,
    mean_difference,
    standard_error,
)  # fmt: skip


def answers(right: int, total: int) -> list[bool]:
    return [True] * right + [False] * (total - right)


def paired(both: int, gained: int, lost: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + gained) + [False] * (lost + neither)
    second = [True] * both + [False] * gained + [True] * lost + [False] * neither
    return first, second


def difference(first: list[bool], second: list[bool]) -> Contrast:
    return mean_difference(list(map(float, first)), list(map(float, second)), SHARE)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 5
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0000, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_clopper_and_pearson_as_published(right, total, low, high):
    estimate = accuracy(answers(right, total))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)
    assert estimate.value == right / total


def test_mcnemar_is_the_sign_test():
    # Every way to toss 14 coins; those at least as uneven as 12 to 2.
    ways = sum(1 for size in range(15) for _ in combinations(range(14), size) if abs(size - 7) >= 5)
    assert difference(*paired(20, 12, 2, 16)).p_value == pytest.approx(ways / 2**14)


def test_nothing_asked_is_nothing_known():
    assert math.isnan(accuracy([]).value)
    assert (accuracy([]).low, accuracy([]).high) == (0.0, 1.0)
    assert not difference([], []).is_clear


def test_different_questions_are_not_compared():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        difference([True], [True, False])


counts = st.integers(0, 60)


@given(counts, st.integers(1, 60))
def test_interval_holds_its_estimate_and_stays_in_range(wrong, right):
    estimate = accuracy(answers(right, right + wrong))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    mirrored = accuracy(answers(wrong, right + wrong))
    assert mirrored.low == pytest.approx(1 - estimate.high, abs=1e-7)


@given(counts, counts, counts, counts)
def test_difference_is_antisymmetric_and_in_range(both, gained, lost, neither):
    first, second = paired(both, gained, lost, neither)
    there, back = difference(first, second), difference(second, first)
    if first:
        assert -1 <= there.low <= there.value <= there.high <= 1
        assert (there.low, there.value) == pytest.approx((-back.high, -back.value), abs=1e-7)
    assert there.p_value == pytest.approx(back.p_value)
    assert 0 <= there.p_value <= 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80), st.randoms())
def test_order_of_questions_does_not_matter(pairs, rng):
    shuffled = list(pairs)
    rng.shuffle(shuffled)
    one = difference([a for a, _ in pairs], [b for _, b in pairs])
    assert one == difference([a for a, _ in shuffled], [b for _, b in shuffled])


@pytest.mark.parametrize("total", range(1, 61))
def test_an_accuracys_interval_covers_whatever_the_truth(total):
    """Exact coverage, summed over every outcome."""
    found = [accuracy(answers(k, total)) for k in range(total + 1)]
    truths = [0.001, 0.01, *(step / 40 for step in range(1, 40)), 0.99, 0.999]
    # Right beside the limits, coverage is least.
    truths += [end + side for e in found for end in (e.low, e.high) for side in (-1e-6, 1e-6)]
    for truth in (truth for truth in truths if 0 < truth < 1):
        covered = math.fsum(
            math.comb(total, k) * truth**k * (1 - truth) ** (total - k)
            for k in range(total + 1)
            if found[k].low <= truth <= found[k].high
        )
        assert covered >= 0.95


@pytest.mark.parametrize("total", [1, 2, 3, 4, 5, 6, 8, 10, 13, 17])
def test_a_differences_interval_covers_whatever_the_truth(total):
    """Exact coverage over every way that answers can turn."""
    outcomes = [(b, c) for b in range(total + 1) for c in range(total + 1 - b)]
    found = {(b, c): difference(*paired(0, b, c, total - b - c)) for b, c in outcomes}
    for gain, loss in [(0.01, 0.01), (0.2, 0.2), (0.45, 0.5), (0.06, 0), (0.5, 0.02), (0.9, 0.05)]:
        covered = math.fsum(
            math.comb(total, b)
            * math.comb(total - b, c)
            * gain**b
            * loss**c
            * (1 - gain - loss) ** (total - b - c)
            for b, c in outcomes
            if found[b, c].low <= gain - loss <= found[b, c].high
        )
        assert covered >= 0.95


def test_four_of_66_lost_and_none_gained_is_no_proof():
    found = difference(*paired(40, 0, 4, 22))
    assert found.low < 0 < found.high
    assert (found.verdict, found.p_value) == (0, pytest.approx(2 / 16))
    # Six of six is: 2 / 2⁶ is below 0.05, and five of five is not.
    assert difference(*paired(40, 0, 6, 20)).verdict == -1
    assert difference(*paired(0, 5, 0, 0)).verdict == 0


@given(counts, counts, counts, counts)
def test_interval_and_p_value_say_the_same(both, gained, lost, neither):
    found = difference(*paired(both, gained, lost, neither))
    tosses = gained + lost
    tail = sum(math.comb(tosses, k) for k in range(min(gained, lost) + 1))
    assert found.p_value == pytest.approx(min(1, 2 * tail / 2**tosses), rel=1e-6)
    assert found.is_clear == found.is_real == (found.verdict != 0)


def test_holm_by_hand():
    # Four tests: 0.01 · 4, 0.02 · 3, then 0.03 · 2 = 0.06 no less than before, then 0.04 → 0.06.
    given = {"d": 0.04, "a": 0.01, "c": 0.03, "b": 0.02}
    corrected = holm(given)
    assert list(corrected) == list(given)
    assert corrected == pytest.approx({"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.06})
    assert holm({"a": 0.005, "b": 0.011, "c": 0.02, "d": 0.04, "e": 0.13}) == pytest.approx(
        {"a": 0.025, "b": 0.044, "c": 0.06, "d": 0.08, "e": 0.13}
    )
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({"only": 0.03}) == {"only": 0.03}
    assert holm({}) == {}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_none_and_bonferroni(values):
    given = {str(index): value for index, value in enumerate(values)}
    for name, corrected in holm(given).items():
        assert given[name] <= corrected <= min(1, len(values) * given[name])


def test_standard_error_by_hand():
    # Mean 3, squares 4 + 1 + 0 + 1 + 4 = 10, variance 10 / 4.
    assert standard_error([1, 2, 3, 4, 5]) == pytest.approx(math.sqrt(2.5 / 5))
    right = answers(30, 40)
    assert standard_error(right) == pytest.approx(math.sqrt(0.75 * 0.25 / 39))
    assert math.isnan(standard_error([1.0]))


def test_the_average_weighs_tasks_not_items():
    tasks = {"long": answers(90, 100), "short": answers(1, 2)}
    assert average(tasks).value == pytest.approx(0.7)
    errors = math.sqrt(0.9 * 0.1 / 99), math.sqrt(0.5 * 0.5 / 1)
    assert average(tasks).standard_error == pytest.approx(
        math.sqrt(errors[0] ** 2 + errors[1] ** 2) / 2
    )


def test_the_average_of_the_papers_base_row():
    row = {"MATH": 428, "BBH": 1680, "CQA": 5839, "LogiQA": 3241, "SVAMP": 2480, "MMB": 3378,
           "MMLU": 4362}  # fmt: skip
    tasks = {name: answers(right, 10_000) for name, right in row.items()}
    assert round(100 * average(tasks).value, 2) == 30.58


@pytest.mark.parametrize("others", [[], [[0.0] * 200], [[1.0] * 3, [0.0]]])
def test_a_task_of_one_item_proves_nothing(others):
    tasks = [([1.0], [0.0]), *((task, task) for task in others)]
    found = average_difference(tasks)
    assert found.low < 0 < found.high
    assert found.verdict == 0
    single = average({str(n): first for n, (first, _) in enumerate(tasks)})
    assert single.low < single.value < single.high or single.value in (0, 1)
    assert single.high - single.low > 0.1


def test_an_averages_interval_is_as_wide_as_theory_says_where_there_are_many_items():
    tasks = [
        ([float(n % 3 == 0) for n in range(3000)], [float(n % 5 == 0) for n in range(3000)]),
        (
            [0.5 + 0.5 * math.sin(n) for n in range(800)],
            [0.5 + 0.5 * math.cos(3 * n) for n in range(800)],
        ),
    ]
    found = average_difference(tasks)
    deltas = [[a - b for a, b in zip(*task, strict=True)] for task in tasks]
    assert found.value == pytest.approx(sum(sum(d) / len(d) for d in deltas) / 2)
    error = math.hypot(*map(standard_error, deltas)) / 2
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.04)


def test_scores_without_known_ends_have_an_interval_only_where_there_are_many():
    assert mean([3.0] * 8 + [40.0], None).interval is None
    few = mean_difference([3.0, 4.0, 9.0], [1.0, 1.0, 1.0], None)
    assert (few.interval, few.p_value, few.verdict) == (None, None, 0)
    assert few.value == pytest.approx(13 / 3)
    many = mean([float(n % 7) for n in range(700)], None)
    assert many.low < many.value == 3 < many.high
    known = mean([0.5] * 9, SHARE)
    assert 0 < known.low < 0.5 < known.high < 1
