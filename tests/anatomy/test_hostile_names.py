"""Names and configs that no model has are labelled or refused, in bounds."""

from __future__ import annotations

import pytest

from taia.anatomy import Anatomy, TensorInfo
from taia.anatomy.label import number
from taia.errors import AnatomyError


@pytest.mark.parametrize(
    ("part", "value"), [("0", 0), ("8", 8), ("31", 31), ("99999", 99999), ("999999", None)]
)
def test_numbers(part: str, value: int | None) -> None:
    assert number(part) == value


@pytest.mark.parametrize(
    "part", ["", "²", "٣", "௧", "07", "00", "1" * 10, "9" * 5000, "-1", "1_0", " 1"]
)
def test_what_is_no_number(part: str) -> None:
    assert number(part) is None


@pytest.mark.parametrize(
    "name",
    [
        "8",
        "",
        ".",
        "0.1",
        "model.layers.²",
        "layers.²",
        "model.layers." + "9" * 5000,
        "\ud800",
        "٣.weight",
    ],
)
def test_a_name_that_no_rule_knows_is_refused_or_declared(name: str) -> None:
    with pytest.raises(AnatomyError):
        Anatomy.of_tensors([TensorInfo(name)])
    (label,) = Anatomy.of_tensors([TensorInfo(name)], None, {"*": "mlp"}).values()
    assert (label.component, label.layer) == ("mlp", None)


def test_a_number_that_is_none_is_no_layer() -> None:
    infos = [TensorInfo("model.layers.3.mlp.up_proj.weight"), TensorInfo("layers.3.mlp.²")]
    labels = Anatomy.of_tensors(infos)
    assert [label.layer for label in labels.values()] == [3, 3]
    with pytest.raises(AnatomyError):
        Anatomy.of_tensors([TensorInfo("model.layers.².mlp.up_proj.weight")])


@pytest.mark.parametrize(
    ("name", "shape", "config"),
    [
        ("model.layers.0.self_attn.q_proj.weight", (64, 8), {"num_attention_heads": 50_000_000}),
        ("model.layers.0.self_attn.q_proj.weight", (2**62, 0), {"num_attention_heads": 2**61}),
        ("model.layers.0.mlp.gate_up_proj", (2, 8, 2**62), {"model_type": "gpt_oss"}),
        ("h.0.attn.c_attn.weight", (8, 24), {"model_type": "gpt2", "n_head": 10**9, "n_embd": 8}),
        (
            "model.layers.0.self_attn.kv_b_proj.weight",
            (64, 8),
            {"num_attention_heads": 10**9, "qk_nope_head_dim": 0, "v_head_dim": 0},
        ),
    ],
)
def test_rows_that_do_not_divide_are_left_whole(name: str, shape: tuple, config: dict) -> None:
    full = {"model_type": "llama", "hidden_size": 64, "head_dim": 1, **config}
    (label,) = Anatomy.of_tensors([TensorInfo(name, shape)], full).values()
    assert label.layout is None
