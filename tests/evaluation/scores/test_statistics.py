"""Intervals against published values, and properties any interval must have."""

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taia.evaluation.scores.statistics import (
    accuracy,
    average,
    difference,
    holm,
    standard_error,
)  # fmt: skip


def answers(right: int, total: int) -> list[bool]:
    return [True] * right + [False] * (total - right)


def paired(both: int, gained: int, lost: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + gained) + [False] * (lost + neither)
    second = [True] * both + [False] * gained + [True] * lost + [False] * neither
    return first, second


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(right, total, low, high):
    estimate = accuracy(answers(right, total))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)
    assert estimate.value == right / total


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998) 2635-2650, table II, method 10
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((20, 12, 2, 16), 0.0562, 0.3292),
        ((54, 0, 0, 0), -0.0664, 0.0664),
        ((30, 24, 0, 0), 0.3034, 0.5762),
    ],
)
def test_paired_difference_as_published(table, low, high):
    estimate = difference(*paired(*table))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)


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
    assert mirrored.low == pytest.approx(1 - estimate.high)


@given(counts, counts, counts, counts)
def test_difference_is_antisymmetric_and_in_range(both, gained, lost, neither):
    first, second = paired(both, gained, lost, neither)
    there, back = difference(first, second), difference(second, first)
    if first:
        assert -1 <= there.low <= there.value <= there.high <= 1
        assert (there.low, there.value) == pytest.approx((-back.high, -back.value))
    assert (there.gained, there.lost, there.p_value) == (back.lost, back.gained, back.p_value)
    assert 0 <= there.p_value <= 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80), st.randoms())
def test_order_of_questions_does_not_matter(pairs, rng):
    shuffled = list(pairs)
    rng.shuffle(shuffled)
    one = difference([a for a, _ in pairs], [b for _, b in pairs])
    assert one == difference([a for a, _ in shuffled], [b for _, b in shuffled])


def test_interval_covers_as_often_as_it_says():
    """Exact coverage, summed over every outcome of 40 questions: 95% to within Wilson's ripple."""
    total = 40
    covered = []
    for step in range(1, 20):
        truth = step / 20
        covered.append(
            sum(
                math.comb(total, k) * truth**k * (1 - truth) ** (total - k)
                for k in range(total + 1)
                if accuracy(answers(k, total)).low <= truth <= accuracy(answers(k, total)).high
            )
        )
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.01)
    assert min(covered) > 0.92


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
