"""Low-rank updates as PEFT has them; α folded into factors, for every way a parameter is stored."""

from __future__ import annotations

import numpy as np
import pytest

from taia.checkpoint.adapters.low_rank import LowRank, expert, factors, fold_low_rank
from taia.selection import Pieces

OUT, IN, RANK, EXPERTS = 6, 5, 2, 3
ROWS = ((0, 2, 0.0), (2, 4, 1.0), (4, 6, 0.25))
COLUMNS = ((0, 1, 1.0), (1, 4, 0.0), (4, 5, 0.5))

rng = np.random.default_rng(0)


def randn(*shape):
    return rng.standard_normal(shape, dtype=np.float32)


def vector(pieces):
    return np.concatenate([np.full(stop - start, alpha) for start, stop, alpha in pieces])


def stacked_delta(a, b, inputs_first):
    """PEFT's ``ParamWrapper.get_delta_weight``, written out."""
    a = a.reshape(EXPERTS, -1, IN)
    b = b.reshape(OUT, -1, EXPERTS)
    return np.einsum("ore,eri->eio" if inputs_first else "ore,eri->eoi", b, a)


@pytest.mark.parametrize("inputs_first", [False, True])
@pytest.mark.parametrize("on_inputs", [False, True])
def test_pieces_of_a_matrix(inputs_first, on_inputs):
    a, b = randn(RANK, IN), randn(OUT, RANK)
    pieces = COLUMNS if on_inputs else ROWS
    axis = int(on_inputs) if not inputs_first else int(not on_inputs)
    done = fold_low_rank(
        {"a": a, "b": b}, Pieces(axis, pieces), stored_inputs_first=inputs_first, experts=1
    )
    got = done.get("b", b) @ done.get("a", a)
    wanted = (b @ a) * (vector(pieces)[None, :] if on_inputs else vector(pieces)[:, None])
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("inputs_first", [False, True])
@pytest.mark.parametrize("what", ["experts", "outputs", "inputs"])
def test_pieces_of_a_stack(inputs_first, what):
    a, b = randn(RANK * EXPERTS, IN), randn(OUT, RANK * EXPERTS)
    pieces = {"experts": ((0, 1, 0.0), (1, 3, 0.5)), "outputs": ROWS, "inputs": COLUMNS}[what]
    axis = 0 if what == "experts" else 1 + ((what == "inputs") != inputs_first)
    done = fold_low_rank(
        {"a": a, "b": b}, Pieces(axis, pieces), stored_inputs_first=inputs_first, experts=EXPERTS
    )
    got = stacked_delta(done.get("a", a), done.get("b", b), inputs_first)
    shape = [1, 1, 1]
    shape[axis] = -1
    wanted = stacked_delta(a, b, inputs_first) * vector(pieces).reshape(shape)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_one_expert_of_a_stack_is_its_slice():
    a, b = randn(RANK * EXPERTS, IN), randn(OUT, RANK * EXPERTS)
    whole = stacked_delta(a, b, False)
    for index, (one, other) in enumerate(factors(a, b, EXPERTS)):
        np.testing.assert_allclose(other @ one, whole[index], rtol=1e-5, atol=1e-6)
        assert np.array_equal(expert(a, "A", index, EXPERTS), one)
        assert np.array_equal(expert(b, "B", index, EXPERTS), other)


def test_a_fraction_scales_b_and_its_bias():
    tensors = {"a": randn(RANK, IN), "b": randn(OUT, RANK), "bias": randn(OUT)}
    done = fold_low_rank(tensors, 0.5, stored_inputs_first=False, experts=1)
    assert done.keys() == {"b", "bias"}
    assert np.array_equal(done["b"], tensors["b"] * 0.5)
    assert np.array_equal(done["bias"], tensors["bias"] * 0.5)


@pytest.mark.parametrize("inputs_first", [False, True])
def test_dora_has_its_magnitude_as_norm(inputs_first):
    """Whatever B·A is, each output's weights have the length that the magnitude says."""
    weight = randn(OUT, IN)
    magnitude = np.abs(randn(OUT)) + 0.5
    update = LowRank(randn(RANK, IN), randn(OUT, RANK), 2.0, magnitude, inputs_first)
    tuned = update.tuned(weight.T if inputs_first else weight)
    tuned = tuned.T if inputs_first else tuned
    norms = np.linalg.norm(tuned, axis=1)
    np.testing.assert_allclose(norms, magnitude, rtol=1e-5)
    plain = weight + 2.0 * update.b @ update.a
    np.testing.assert_allclose(
        tuned / norms[:, None], plain / np.linalg.norm(plain, axis=1)[:, None], rtol=1e-5, atol=1e-6
    )
