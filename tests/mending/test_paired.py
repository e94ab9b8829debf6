"""A paired difference by example: against SciPy, and how often its interval covers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taia.mending.paired import FEWEST, difference, quantile, two_sided

stats = pytest.importorskip("scipy.stats")


@given(st.floats(-60, 60), st.integers(1, 400))
def test_the_tails_are_students(t, freedom):
    assert two_sided(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), abs=1e-11)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 17, 300])
@pytest.mark.parametrize("alpha", [0.5, 0.05, 0.01])
def test_the_quantile_is_students(alpha, freedom):
    assert quantile(alpha, freedom) == pytest.approx(stats.t.isf(alpha / 2, freedom), rel=1e-7)


def test_of_equal_sizes_it_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    for size in (3, 8, 50):
        one, two = rng.normal(size=size), rng.normal(0.3, 1, size=size)
        found = difference(list(one), list(two), [1.0] * size)
        there = stats.ttest_rel(one, two)
        low, high = there.confidence_interval()
        assert found.value == pytest.approx(float(np.mean(one - two)))
        assert found.p_value == pytest.approx(there.pvalue)
        assert (found.low, found.high) == pytest.approx((low, high))


def test_a_long_example_weighs_by_its_tokens():
    found = difference([10.0, 3.0, 2.0], [0.0, 1.0, 1.0], [100, 4, 2])
    assert found.value == pytest.approx(13 / 106)


def test_of_few_examples_nothing_is_said_and_of_equal_ones_all():
    few = difference([1.0] * (FEWEST - 1), [0.0] * (FEWEST - 1), [1] * (FEWEST - 1))
    assert few.interval is None
    assert not few.is_real
    same = difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1, 2, 3])
    assert (same.value, same.p_value, same.is_real) == (0, 1.0, False)
    apart = difference([2.0, 4.0, 6.0], [1.0, 2.0, 3.0], [1, 2, 3])
    assert (apart.low, apart.value, apart.high, apart.p_value) == (1.0, 1.0, 1.0, 0.0)


def test_it_turns_around():
    rng = np.random.default_rng(1)
    one, two, size = rng.normal(size=9), rng.normal(size=9), rng.integers(1, 30, 9)
    there, back = difference(one, two, size), difference(two, one, size)
    assert there.turned().value == pytest.approx(back.value)
    assert there.turned().low == pytest.approx(back.low)


def test_none_is_no_difference():
    with pytest.raises(ValueError, match="no example"):
        difference([], [], [])
    with pytest.raises(ValueError, match="argument 2"):
        difference([1.0], [1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("size", "skew", "least"), [(8, 0.0, 0.93), (16, 0.5, 0.91), (40, 0.5, 0.92), (100, 1.0, 0.88)]
)
def test_how_often_it_covers(size, skew, least):
    """Differences of nats: normal to lognormal, on examples of different lengths."""
    rng = np.random.default_rng(size)
    covered, trials = 0, 1_500
    tokens = rng.integers(4, 32, 4_000)
    drawn = rng.normal(size=4_000) if skew == 0 else rng.lognormal(0, skew, 4_000)
    nats = tokens * (drawn - drawn.mean()) + 0.1 * tokens
    true = nats.sum() / tokens.sum()
    for _ in range(trials):
        some = rng.integers(4_000, size=size)
        found = difference(list(nats[some]), [0.0] * size, list(tokens[some]))
        covered += found.low <= true <= found.high
    assert covered / trials >= least - 2 * math.sqrt(0.05 * 0.95 / trials)
