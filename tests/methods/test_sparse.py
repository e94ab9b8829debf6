"""Methods that keep some entries: against PEFT's pruning and plain sorting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from peft.utils.merge_utils import dare_linear, magnitude_prune

from methods_given import a_label, normal, of

SHAPES = [(6, 8), (7,), (1, 5), (3, 4, 5)]
SHARES = [0.0, 0.1, 0.2, 0.5, 0.9, 1.0]


def by_sorting(update: np.ndarray, count: int) -> set[int]:
    """Which entries are largest, first ones first, by Python's own sorting."""
    flat = update.reshape(-1).tolist()
    return set(sorted(range(len(flat)), key=lambda i: (-abs(flat[i]), i))[:count])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("keep", SHARES)
def test_magnitude_is_pefts(shape: tuple[int, ...], keep: float) -> None:
    update = normal(*shape)
    theirs = magnitude_prune([torch.from_numpy(update)], torch.ones(1), keep)
    assert np.array_equal(of(f"magnitude:keep={keep}", update), theirs.numpy())


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=6),
        elements=st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0]),
    ),
    st.floats(0, 1),
)
def test_of_equal_entries_the_first_are_kept(update: np.ndarray, share: float) -> None:
    largest = by_sorting(update, int(share * update.size))
    kept = of(f"magnitude:keep={share}", update).reshape(-1)
    rest = of(f"revert-largest:revert={share}", update).reshape(-1)
    flat = update.reshape(-1)
    for i in range(flat.size):
        inside = i in largest
        assert kept[i] == (flat[i] if inside else 0)
        assert rest[i] == (0 if inside else flat[i])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("method", "all_of_it"),
    [
        ("magnitude:keep=1", True),
        ("magnitude:keep=0", False),
        ("revert-largest:revert=0", True),
        ("revert-largest:revert=1", False),
        ("dare:keep=1,seed=5", True),
    ],
)
def test_at_the_ends_all_or_nothing_bit_for_bit(method: str, all_of_it: bool, dtype) -> None:
    update = normal(6, 8, dtype=dtype)
    wanted = update if all_of_it else np.zeros_like(update)
    made = of(method, update)
    assert made.tobytes() == wanted.tobytes()
    assert made.dtype == dtype


def test_what_is_kept_and_what_is_reverted_make_the_whole() -> None:
    update = normal(6, 8)
    assert np.array_equal(
        of("magnitude:keep=0.3", update) + of("revert-largest:revert=0.3", update), update
    )


def test_experts_are_taken_one_by_one() -> None:
    update = normal(3, 4, 5) * np.array([1, 100, 0.01], np.float32)[:, None, None]
    label = a_label("model.layers.1.mlp.experts.gate_up_proj", (3, 4, 5), component="experts")
    made = of("magnitude:keep=0.25", update, label=label)
    assert [np.count_nonzero(one) for one in made] == [5, 5, 5]
    assert np.array_equal(made, np.stack([of("magnitude:keep=0.25", one) for one in update]))
    whole = of("magnitude:keep=0.25", update, label=a_label(shape=(3, 4, 5)))
    assert [np.count_nonzero(one) for one in whole] == [0, 15, 0]


def test_dare_enlarges_what_it_keeps() -> None:
    update = normal(64, 64)
    made = of("dare:keep=0.25,seed=1", update)
    kept = made != 0
    assert np.array_equal(made[kept], update[kept] / np.float32(0.25))
    # 4096 draws of chance 0.25: six standard errors
    assert abs(kept.mean() - 0.25) < 6 * (0.25 * 0.75 / kept.size) ** 0.5


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_dares_mean_over_seeds_is_the_update(keep: float) -> None:
    update, count = normal(6, 8, dtype=np.float64), 2000
    mean = sum(of(f"dare:keep={keep},seed={seed}", update) for seed in range(count)) / count
    error = np.abs(update) * ((1 - keep) / keep / count) ** 0.5
    assert np.all(np.abs(mean - update) < 6 * error)


def test_dare_drops_as_pefts_does() -> None:
    """PEFT's draw is another, but what it makes of an entry is one of the same two values."""
    torch.manual_seed(0)
    update = normal(40, 40)
    theirs = dare_linear([torch.from_numpy(update)], torch.ones(1), 0.3).numpy()
    ours = of("dare:keep=0.3,seed=0", update)
    kept = theirs != 0
    both = kept & (ours != 0)
    assert both.any()
    assert np.array_equal(ours[both], theirs[both])


def test_a_draw_depends_on_the_seed_and_the_name_alone() -> None:
    update = normal(40, 40)
    one = of("dare:keep=0.5,seed=1", update)
    of("dare:keep=0.5,seed=1", normal(9, 9))
    assert of("dare:keep=0.5,seed=1", update).tobytes() == one.tobytes()
    other = of("dare:keep=0.5,seed=1", update, label=a_label("model.layers.2.x", (40, 40)))
    for different in (other, of("dare:keep=0.5,seed=2", update)):
        same = (different != 0) == (one != 0)
        assert 0.4 < same.mean() < 0.6


def test_experts_are_drawn_apart_and_in_any_order() -> None:
    update = np.ones((2, 30, 30), np.float32)
    label = a_label("model.layers.1.mlp.experts.down_proj", (2, 30, 30), component="experts")
    first, second = of("dare:keep=0.5,seed=1", update, label=label)
    assert 0.4 < (first == second).mean() < 0.6


def test_draws_are_the_same_everywhere() -> None:
    """Bytes that were written today are written by every later version."""
    made = of("dare:keep=0.5,seed=1", np.ones((2, 8), np.float32))
    assert made.astype(int).tolist() == [[0, 2, 2, 2, 0, 2, 2, 2], [0, 2, 2, 0, 2, 0, 2, 2]]
