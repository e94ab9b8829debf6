import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from taia.errors import DataError
from taia.training.data.mixing import annealed_weights, apportion, draw, mixed_weights, run_order

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=4)
WEIGHTS = st.lists(st.sampled_from([0.0, 0.1, 0.25, 1.0, 3.0]), min_size=1, max_size=4)


@settings(max_examples=60)
@given(st.integers(0, 500), WEIGHTS)
def test_shares_are_exact_to_rounding_and_add_up(total, weights):
    assume(any(weights))
    counts = apportion(total, weights)
    assert sum(counts) == total
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - total * weight / sum(weights)) < 1


@settings(max_examples=60)
@given(SIZES, WEIGHTS, st.integers(1, 60) | st.none())
@example([1, 5, 5], [1.0, 3.0, 3.0], None)  # the two that have more round up, the smallest down
@example([1, 9, 9, 9], [0.1, 1.0, 1.0, 1.0], None)
def test_weights_draw_the_largest_total_that_repeats_nothing(sizes, weights, limit):
    weights = (weights * 4)[: len(sizes)]
    assume(any(weights))
    counts = draw(sizes, weights, limit)
    total = sum(counts)
    assert counts == apportion(total, weights)
    assert all(count <= size for count, size in zip(counts, sizes, strict=True))
    most = min(sum(sizes), limit or sum(sizes))
    for larger in range(total + 1, most + 1):
        assert any(c > size for c, size in zip(apportion(larger, weights), sizes, strict=True))


def test_without_weights_everything_is_used_once_or_a_part_of_each():
    assert draw([10, 30], None) == [10, 30]
    assert draw([10, 30], None, 20) == [5, 15]
    assert draw([10, 30], None, 99) == [10, 30]
    assert draw([100, 100], [0.8, 0.2], 50) == [40, 10]
    assert draw([8, 100], [0.8, 0.2]) == [8, 2]
    assert draw([8, 100], [0.0, 1.0]) == [0, 100]


def test_weights_that_do_not_fit_are_refused():
    assert mixed_weights([None, None], "uniform") is None
    assert mixed_weights([8, 2], "in-domain-first") == [8, 2]
    assert mixed_weights([0.5, 0.3, 0.2], "annealed") == [0.5, 0.3, 0.2]
    for weights, mixing, why in [
        ([0.5, None], "uniform", "others none"),
        ([0.0, 0.0], "uniform", "above 0"),
        ([None], "annealed", "takes two"),
        ([0.8, 0.2], "annealed", "half"),
        ([None, None], "sideways", "no way of mixing"),
    ]:
        with pytest.raises(DataError, match=why):
            mixed_weights(weights, mixing)


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(1, 3), st.integers(0, 3))
def test_annealing_falls_linearly_from_one_to_nothing(half, epochs, seed):
    order = run_order([half, half], "annealed", range(epochs), seed)
    total = 2 * half * epochs
    first = np.cumsum(order < half)
    seen = np.arange(1, total + 1)
    # The integral of a share of 1 − k/total.
    assert np.abs(first - (seen - seen**2 / (2 * total))).max() <= 1
    assert sorted(order) == sorted(list(range(2 * half)) * epochs)


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=2),
    st.sampled_from(["in-domain-first", "in-domain-last"]),
    st.integers(1, 3),
)
def test_one_after_the_other_over_the_whole_run(sizes, mixing, epochs):
    order = run_order(sizes, mixing, range(epochs), 0)
    first = order < sizes[0]
    if mixing == "in-domain-last":
        first = first[::-1]
    assert first.tolist() == [True] * (sizes[0] * epochs) + [False] * (sizes[1] * epochs)
    assert sorted(order) == sorted(list(range(sum(sizes))) * epochs)


def test_epochs_are_shuffled_by_seed_plus_epoch_and_the_first_is_as_it_lies():
    def order(epochs, seed):
        return run_order([50], "uniform", epochs, seed).tolist()

    assert order([0], 3) == list(range(50))
    assert order([1], 3) == order([1], 3) != order([1], 4)
    assert order([2], 3) == order([1], 4)
    assert order(range(3), 3) == order([0], 3) + order([1], 3) + order([2], 3)


def test_annealing_takes_half_from_the_first_source_to_rounding():
    assert draw([10, 30, 10], annealed_weights([10, 30, 10])) == [10, 8, 3]
    assert draw([30, 10], annealed_weights([30, 10])) == [11, 10]
