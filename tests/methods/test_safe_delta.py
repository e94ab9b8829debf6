"""Safe Delta: against weights removed one by one from an explicit inverse, row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest

from methods_given import a_label, normal, of
from taia.errors import MethodError


def inputs_of(width: int, rows: int = 40, seed: int = 7) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((rows, width))
    return 2 / rows * x.T @ x


def one_by_one(weight, update, inputs, s: float, block: int = 2048) -> np.ndarray:
    """Optimal Brain Surgeon as it is first written: no Cholesky factor, a loop over rows."""
    rows, columns = weight.shape
    damped = inputs.copy()
    for i in range(columns):
        damped[i, i] = damped[i, i] or 1.0
    damped += 0.01 * np.trace(damped) / columns * np.eye(columns)
    # what remains of the inverse once inputs before j are settled
    inverses = [np.linalg.inv(damped[j:, j:]) for j in range(columns)]
    now = weight.astype(np.float64)
    wanted = now + update
    for start in range(0, columns, block):
        stop = min(start + block, columns)
        price = np.array([1 / inverses[j][0, 0] for j in range(start, stop)])
        entries = [(price[j - start], i, j) for i in range(rows) for j in range(start, stop)]
        entries = sorted(entries, key=lambda e: e[0])
        entries = entries[: len(entries) - int(0.15 * len(entries))]
        spent, taken = 0.0, set()
        for cost, i, j in entries:
            spent += cost * (wanted[i, j] - now[i, j]) ** 2
            if spent <= s / 2 * price.mean() * rows / 4096:
                taken.add((i, j))
        for j in range(start, stop):
            for i in range(rows):
                settled = wanted[i, j] if (i, j) in taken else now[i, j]
                move = (settled - now[i, j]) / inverses[j][0, 0]
                now[i, j:] += move * inverses[j][:, 0]
    return now - weight


@pytest.mark.parametrize("shape", [(6, 8), (9, 5), (3, 1), (3, 70)])
@pytest.mark.parametrize("s", [0.1, 20.0, 1000.0])
def test_it_is_obs_one_by_one(shape: tuple[int, int], s: float) -> None:
    weight, update = normal(*shape, dtype=np.float64), normal(*shape, seed=4, dtype=np.float64)
    inputs = inputs_of(shape[1])
    wanted = one_by_one(weight, update, inputs, s)
    made = of(f"safe-delta:s={s:g}", update, weight, statistics={"inputs": inputs})
    assert np.allclose(made, wanted, atol=1e-10)
    turned = of(
        f"safe-delta:s={s:g}",
        update.T,
        weight.T,
        statistics={"inputs": inputs},
        inputs_first=True,
    )
    assert np.array_equal(turned, made.T)


def test_the_budget_is_used_and_kept() -> None:
    weight, update = normal(60, 8, dtype=np.float64), normal(60, 8, seed=4, dtype=np.float64)
    inputs = inputs_of(8)
    counts = []
    for s in (0, 1, 10, 100, 1000):
        made = of(f"safe-delta:s={s}", update, weight, statistics={"inputs": inputs})
        counts.append(int(np.sum(made == update)))
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] <= math.ceil(0.85 * update.size)
    assert len(set(counts)) > 2


def test_wide_matrices_have_a_budget_for_each_2048_inputs() -> None:
    """The second block sees the base as the first has moved it."""
    width = 2050
    weight = normal(2, width, dtype=np.float64)
    update = 0.1 * normal(2, width, seed=4, dtype=np.float64)
    diagonal = np.diag(np.linspace(1, 2, width))
    made = of("safe-delta:s=500", update, weight, statistics={"inputs": diagonal})
    # with independent inputs nothing gives way: entries are the update's or nothing
    assert np.all(np.isclose(made, update, atol=1e-12) | (made == 0))
    last = made[:, 2048:]
    price = np.diag(diagonal)[2048:] + 0.01 * np.trace(diagonal) / width
    budget = 500 / 2 * price.mean() * 2 / 4096
    assert np.sum((last**2) * price) <= budget
    assert made[:, :2048].any()
    assert last.any()


def test_controls() -> None:
    weight, update, inputs = normal(6, 8), normal(6, 8, seed=4), inputs_of(8)
    statistics = {"inputs": inputs}
    assert not of("safe-delta:s=0", update, weight, statistics=statistics).any()
    assert not of("safe-delta", np.zeros_like(update), weight, statistics=statistics).any()
    doubled = of("safe-delta:s=50", update, weight, statistics={"inputs": 2 * inputs})
    once = of("safe-delta:s=50", update, weight, statistics=statistics)
    assert np.allclose(doubled, once, atol=1e-6)  # how many rows were counted does not matter
    unseen = inputs.copy()
    unseen[3], unseen[:, 3] = 0, 0
    assert np.isfinite(of("safe-delta", update, weight, statistics={"inputs": unseen})).all()


@pytest.mark.parametrize("name", ["model.norm.weight", "model.embed_tokens.weight"])
def test_what_is_no_linear_of_a_layer_goes_back_to_the_base(name: str) -> None:
    update = normal(6, 8) if "embed" in name else normal(6)
    label = a_label(name, update.shape, layer=None, component="embedding")
    assert not of("safe-delta", update, label=label).any()


def test_what_is_no_second_moment_is_an_error_with_a_name() -> None:
    bad = -np.eye(8)
    with pytest.raises(MethodError, match=r"up_proj\.weight.* cannot be worked on"):
        of("safe-delta", normal(6, 8), normal(6, 8), statistics={"inputs": bad})
