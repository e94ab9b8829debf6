"""What is calculated on disk: rounding against torch's, α in factors, updates as PEFT has them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from taia.checkpoint.arithmetic import (
    CHUNK,
    LowRank,
    dump,
    expert,
    factors,
    fold_low_rank,
    load,
    mix,
)
from taia.checkpoint.header import make_header, read_shard
from taia.errors import AdapterError
from taia.selection import Pieces

OUT, IN, RANK, EXPERTS = 6, 5, 2, 3
ROWS = ((0, 2, 0.0), (2, 4, 1.0), (4, 6, 0.25))
COLUMNS = ((0, 1, 1.0), (1, 4, 0.0), (4, 5, 0.5))
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

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


def file_with(path, dtype, data, shape):
    path.write_bytes(make_header([("t", dtype, shape)], {}) + bytes(data))
    return read_shard(path).entries[0]


# --- rounding -----------------------------------------------------------------------------------


def as_torch(values, dtype):
    """What torch makes of the same numbers."""
    tensor = torch.from_numpy(np.ascontiguousarray(values)).to(DTYPES[dtype]).clone()
    return bytes(tensor.untyped_storage()) if values.size else b""


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(max_dims=2, min_side=0, max_side=9),
        elements=st.floats(width=32, allow_nan=False),
    )
)
def test_numbers_are_rounded_as_torch_rounds_them(dtype, values):
    assert bytes(dump(values, dtype)) == as_torch(values, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ties_and_ends_are_rounded_as_torch_rounds_them(dtype):
    """Every bit pattern of the upper half, with lower halves about the middle."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    for lower in (0x0000, 0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        values = (upper | lower).view(np.float32)
        values = values[~np.isnan(values)]
        assert bytes(dump(values, dtype)) == as_torch(values, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0xFF80FFFF])
def test_what_is_no_number_stays_none(tmp_path, dtype, bits):
    values = np.array([1.0, 0.0], np.float32)
    values.view(np.uint32)[1] = bits
    entry = file_with(tmp_path / "t", dtype, dump(values, dtype), (2,))
    one, other = load(entry)
    assert one == 1.0
    assert math.isnan(other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_come_back_as_they_were(tmp_path, dtype):
    tensor = torch.randn(7, CHUNK // 5).to(DTYPES[dtype]).T  # more than one chunk, not contiguous
    raw = bytes(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    entry = file_with(tmp_path / "t", dtype, raw, tensor.shape)
    assert np.array_equal(load(entry), tensor.to(torch.float64).numpy())
    assert bytes(dump(load(entry), dtype)) == raw


def test_integers_are_not_calculated_with(tmp_path):
    with pytest.raises(AdapterError, match="I8"):
        load(file_with(tmp_path / "t", "I8", b"\x01\x02", (2,)))


# --- between base and tuned ---------------------------------------------------------------------


def test_zero_and_one_are_not_calculated():
    """Values at which base + (tuned − base) would not be the tuned value."""
    base, tuned = (np.array(v, np.float32) for v in ([1e30, 3.0, 5.0], [1e-30, 7.0, 9.0]))
    pieces = Pieces(0, ((0, 1, 1.0), (1, 2, 0.0), (2, 3, 0.5)))
    assert np.array_equal(mix(base, tuned, pieces), np.array([1e-30, 3.0, 7.0], np.float32))
    assert mix(base, tuned, 1.0) is tuned
    assert mix(base, tuned, 0.0) is base


# --- factors ------------------------------------------------------------------------------------


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
