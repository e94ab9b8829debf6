"""A LoRA's factors are worked on as its product would be, without forming it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods_given import a_label, normal, of
from taia.errors import MethodError
from taia.methods import Applied, Given
from taia.methods.calculate import changed_factors, of_factors

SHAPES = [(12, 10, 3), (10, 12, 4), (9, 9, 1), (4, 20, 6)]  # outputs, inputs, rank


def factors(outputs: int, inputs: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
    return normal(rank, inputs, dtype=np.float64), normal(outputs, rank, seed=4, dtype=np.float64)


@given(
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 9),
    st.sampled_from([2.0, 0.5, -1.5]),
    st.integers(0, 99),
)
@settings(deadline=None)
def test_an_svd_by_factors_is_that_of_the_product(outputs, inputs, rank, scaling, seed) -> None:
    random = np.random.default_rng(seed)
    a, b = random.standard_normal((rank, inputs)), random.standard_normal((outputs, rank))
    u, s, v = of_factors(a, b, scaling)
    product = scaling * b @ a
    k = min(outputs, inputs, rank)
    assert (u.shape, s.shape, v.shape) == ((outputs, k), (k,), (inputs, k))
    assert np.allclose(u.T @ u, np.eye(k), atol=1e-9)
    assert np.allclose(v.T @ v, np.eye(k), atol=1e-9)
    assert np.allclose((u * s) @ v.T, product, atol=1e-9)
    assert np.allclose(s, np.linalg.svd(product, compute_uv=False)[:k], atol=1e-9)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("outputs", "inputs", "rank"), SHAPES)
@pytest.mark.parametrize(
    "method", ["spectral-surgery:strength=0.8", "safe-lora:threshold=1", "safe-lora:threshold=0.2"]
)
def test_factors_are_worked_on_as_the_product(method, outputs, inputs, rank, turned) -> None:
    a, b = factors(outputs, inputs, rank)
    update = -2.0 * b @ a
    update = update.T if turned else update
    weight = normal(*update.shape, seed=6, dtype=np.float64)
    k = min(update.shape)
    measured = normal(k, seed=8, dtype=np.float64)
    unaligned = normal(*update.shape, seed=9, dtype=np.float64)
    whole = {"sensitivity": measured, "unaligned": unaligned}
    few = {**whole, "sensitivity": measured[: min(rank, k)]}
    # beyond the rank singular values are rounding, whatever their sensitivity
    dense = of(method, update, weight, statistics=whole, inputs_first=turned)
    label = a_label(shape=update.shape)
    given = Given.of(label, 4, weight, None, few, inputs_first=turned)  # type: ignore[arg-type]
    new_a, new_b = changed_factors(Applied.parse(method), given, a, b, -2.0)
    assert (new_a.shape, new_b.shape) == (a.shape, b.shape)
    made = -2.0 * new_b @ new_a
    assert np.allclose(made.T if turned else made, dense, atol=1e-8)
    assert not np.allclose(dense, update) or method.endswith("0.2") or rank == 1


@pytest.mark.parametrize(
    "method", ["intruder:scale=1", "intruder:threshold=0", "spectral-surgery:strength=0"]
)
def test_where_nothing_changes_the_factors_are_the_same(method: str) -> None:
    a, b = factors(12, 10, 3)
    given = Given.of(a_label(), 4, normal(12, 10), None, {"sensitivity": normal(3)})  # type: ignore[arg-type]
    made = changed_factors(Applied.parse(method), given, a, b, 2.0)
    assert made[0] is a
    assert made[1] is b


def test_an_adapter_that_is_scaled_by_nothing_stays_so() -> None:
    a, b = factors(12, 10, 3)
    given = Given.of(a_label(), 4, normal(12, 10), None)  # type: ignore[arg-type]
    new_a, new_b = changed_factors(Applied.parse("intruder:threshold=1"), given, a, b, 0.0)
    assert np.isfinite(new_a).all()
    assert np.isfinite(new_b).all()


@pytest.mark.parametrize(
    ("statistics", "told"),
    [
        (None, "which was not given"),
        ({"sensitivity": np.ones(5)}, r"is \[5\] where \[6\] is needed"),
        ({"sensitivity": np.array([1, 2, np.nan, 4, 5, 6])}, "not a finite number"),
    ],
)
def test_statistics_that_do_not_fit_are_named(statistics, told: str) -> None:
    with pytest.raises(MethodError, match=told) as caught:
        of("spectral-surgery", normal(6, 8), statistics=statistics)
    assert "model.layers.1.mlp.up_proj.weight" in caught.value.problem


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_cannot_be_solved_are_an_error_with_a_name(bad: float) -> None:
    update = normal(40, 40)
    update[3, 3] = bad
    with pytest.raises(MethodError, match=r"up_proj\.weight.* cannot be worked on"):
        of("dg-hard", update)
