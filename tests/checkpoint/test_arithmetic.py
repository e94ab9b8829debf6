"""α folded into factors: B·A becomes α·B·A, for every way a parameter can be stored."""

from __future__ import annotations

import pytest
import torch

from taia.checkpoint.arithmetic import LowRank, dump, expert, fold_low_rank, load, mix
from taia.checkpoint.header import make_header, read_shard
from taia.errors import AdapterError
from taia.selection import Pieces

OUT, IN, RANK, EXPERTS = 6, 5, 2, 3
ROWS = ((0, 2, 0.0), (2, 4, 1.0), (4, 6, 0.25))
COLUMNS = ((0, 1, 1.0), (1, 4, 0.0), (4, 5, 0.5))


def vector(pieces):
    return torch.cat([torch.full((stop - start,), alpha) for start, stop, alpha in pieces])


def stacked_delta(a, b, inputs_first):
    """PEFT's ``ParamWrapper.get_delta_weight``, written out."""
    a = a.reshape(EXPERTS, -1, IN)
    b = b.reshape(OUT, -1, EXPERTS)
    return torch.einsum("ore,eri->eio" if inputs_first else "ore,eri->eoi", b, a)


@pytest.mark.parametrize("inputs_first", [False, True])
@pytest.mark.parametrize("on_inputs", [False, True])
def test_pieces_of_a_matrix(inputs_first, on_inputs):
    a, b = torch.randn(RANK, IN), torch.randn(OUT, RANK)
    pieces = COLUMNS if on_inputs else ROWS
    axis = int(on_inputs) if not inputs_first else int(not on_inputs)
    done = fold_low_rank(
        {"a": a, "b": b}, Pieces(axis, pieces), stored_inputs_first=inputs_first, experts=1
    )
    got = done.get("b", b) @ done.get("a", a)
    wanted = (b @ a) * (vector(pieces)[None, :] if on_inputs else vector(pieces)[:, None])
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("inputs_first", [False, True])
@pytest.mark.parametrize("what", ["experts", "outputs", "inputs"])
def test_pieces_of_a_stack(inputs_first, what):
    a, b = torch.randn(RANK * EXPERTS, IN), torch.randn(OUT, RANK * EXPERTS)
    pieces = {"experts": ((0, 1, 0.0), (1, 3, 0.5)), "outputs": ROWS, "inputs": COLUMNS}[what]
    axis = 0 if what == "experts" else 1 + ((what == "inputs") != inputs_first)
    done = fold_low_rank(
        {"a": a, "b": b}, Pieces(axis, pieces), stored_inputs_first=inputs_first, experts=EXPERTS
    )
    got = stacked_delta(done.get("a", a), done.get("b", b), inputs_first)
    shape = [1, 1, 1]
    shape[axis] = -1
    wanted = stacked_delta(a, b, inputs_first) * vector(pieces).reshape(shape)
    torch.testing.assert_close(got, wanted)


def test_one_expert_of_a_stack_is_its_slice():
    a, b = torch.randn(RANK * EXPERTS, IN), torch.randn(OUT, RANK * EXPERTS)
    whole = stacked_delta(a, b, False)
    for index in range(EXPERTS):
        one = expert(b, "B", index, EXPERTS) @ expert(a, "A", index, EXPERTS)
        torch.testing.assert_close(one, whole[index])


def test_a_fraction_scales_b_and_its_bias():
    tensors = {"a": torch.randn(RANK, IN), "b": torch.randn(OUT, RANK), "bias": torch.randn(OUT)}
    done = fold_low_rank(tensors, 0.5, stored_inputs_first=False, experts=1)
    assert done.keys() == {"b", "bias"}
    assert torch.equal(done["b"], tensors["b"] * 0.5)
    assert torch.equal(done["bias"], tensors["bias"] * 0.5)


@pytest.mark.parametrize("inputs_first", [False, True])
def test_dora_has_its_magnitude_as_norm(inputs_first):
    """Whatever B·A is, each output's weights have the length that the magnitude says."""
    weight = torch.randn(OUT, IN)
    magnitude = torch.rand(OUT) + 0.5
    update = LowRank(torch.randn(RANK, IN), torch.randn(OUT, RANK), 2.0, magnitude, inputs_first)
    tuned = update.tuned(weight.T if inputs_first else weight)
    tuned = tuned.T if inputs_first else tuned
    torch.testing.assert_close(tuned.norm(dim=1), magnitude)
    plain = weight + 2.0 * update.b @ update.a
    torch.testing.assert_close(
        tuned / tuned.norm(dim=1)[:, None], plain / plain.norm(dim=1)[:, None]
    )


def test_zero_and_one_are_not_calculated():
    """Values at which base + (tuned − base) would not be the tuned value."""
    base, tuned = torch.tensor([1e30, 3.0, 5.0]), torch.tensor([1e-30, 7.0, 9.0])
    pieces = Pieces(0, ((0, 1, 1.0), (1, 2, 0.0), (2, 3, 0.5)))
    wanted = torch.tensor([1e-30, 3.0, 7.0])
    assert torch.equal(mix(base, tuned, pieces), wanted)
    assert mix(base, tuned, 1.0) is tuned
    assert mix(base, tuned, 0.0) is base


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_bytes_come_back_as_they_were(tmp_path, dtype):
    short = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype]
    tensor = torch.randn(3, 4).to(getattr(torch, dtype)).T
    file = tmp_path / "one.safetensors"
    file.write_bytes(make_header([("t", short, (4, 3))], {}) + dump(tensor))
    (entry,) = read_shard(file).entries
    assert torch.equal(load(entry), tensor)


def test_integers_are_not_calculated_with(tmp_path):
    file = tmp_path / "one.safetensors"
    file.write_bytes(make_header([("t", "I8", (2,))], {}) + b"\x01\x02")
    with pytest.raises(AdapterError, match="I8"):
        load(read_shard(file).entries[0])
