"""What is calculated on disk: rounding against torch's, and what lies between base and tuned."""

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
    dump,
    load,
    mix,
)
from taia.checkpoint.header import make_header, read_shard
from taia.errors import AdapterError
from taia.selection import Pieces

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def file_with(path, dtype, data, shape):
    path.write_bytes(make_header([("t", dtype, shape)], {}) + bytes(data))
    return read_shard(path).entries[0]


def as_torch(values, dtype):
    """What torch makes of the same numbers."""
    tensor = torch.from_numpy(np.ascontiguousarray(values)).to(DTYPES[dtype])
    return tensor.flatten().view(torch.uint8).numpy().tobytes() if values.size else b""


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


def test_zero_and_one_are_not_calculated():
    """Values at which base + (tuned − base) would not be the tuned value."""
    base, tuned = (np.array(v, np.float32) for v in ([1e30, 3.0, 5.0], [1e-30, 7.0, 9.0]))
    pieces = Pieces(0, ((0, 1, 1.0), (1, 2, 0.0), (2, 3, 0.5)))
    assert np.array_equal(mix(base, tuned, pieces), np.array([1e-30, 3.0, 7.0], np.float32))
    assert mix(base, tuned, 1.0) is tuned
    assert mix(base, tuned, 0.0) is base
