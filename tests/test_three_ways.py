"""TAIA of an adapter, three ways that must agree, and controls that must not.

(a) the filtered adapter, loaded by plain PEFT;
(b) the whole adapter, its feed-forward updates switched off in memory;
(c) the merged checkpoint, loaded by plain transformers.

(a) and (b) multiply the same numbers in the same order, so they are equal bit for bit. (c) adds
the update to the weights first, which rounds differently: float32 of this size stays within 1e-5,
while the modes differ from one another by more than 1e-2.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

from taia.checkpoint.compose import compose
from tiny_adapters import load_adapted, load_base, logits, quiet, save_pair

TOLERANCE = 1e-5
APART = 1e-2

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, tied": ("tied-llama", {}),
    "llama, rsLoRA": ("llama", {"use_rslora": True}),
    "llama, DoRA": ("llama", {"use_dora": True}),
    "llama, patterns": (
        "llama",
        {
            "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 6},
            "alpha_pattern": {"k_proj": 3, "down_proj": 20},
        },
    ),
    "gpt2": ("gpt2", {}),
    "gpt2, DoRA": ("gpt2", {"use_dora": True}),
    "gpt2, rsLoRA": ("gpt2", {"use_rslora": True}),
    "gpt2, a bias of its own": ("gpt2", {"lora_bias": True}),
    "qwen3-moe": ("qwen3-moe", {}),
    "mixtral": ("mixtral", {}),
    "mixtral, router": (
        "mixtral",
        {"target_parameters": ["gate.weight", "experts.gate_up_proj", "experts.down_proj"]},
    ),
}


@pytest.fixture(scope="module", params=CASES, ids=str)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    name, lora = CASES[request.param]
    return save_pair(tmp_path_factory.mktemp("pair"), name, **lora)


@cache
def scores_of(adapter: Path | None, base: Path) -> torch.Tensor:
    return logits(load_base(base) if adapter is None else load_adapted(base, adapter))


def composed(pair: tuple[Path, Path], keep: str, merge: bool = False) -> Path:
    output = pair[0].parent / f"{keep}{'-merged' if merge else ''}"
    if not output.exists():
        compose(*pair, output, keep, merge=merge)
    return output


def switched_off(pair: tuple[Path, Path], part: str) -> Any:
    """The whole adapter with the updates of some modules off, told by their paths alone."""
    adapted = load_adapted(*pair)
    layers = [(n, m) for n, m in adapted.named_modules() if isinstance(m, LoraLayer)]
    off = [module for name, module in layers if part in name]
    assert 0 < len(off) < len(layers)
    for module in off:
        module.enable_adapters(False)
    return adapted


@pytest.mark.parametrize(("keep", "off"), [("taia", ".mlp"), ("taif", "attn")])
def test_filtered_equals_switched_off_bit_for_bit(pair, keep, off):
    filtered = scores_of(composed(pair, keep), pair[0])
    assert torch.equal(filtered, logits(switched_off(pair, off)))


@pytest.mark.parametrize("keep", ["taia", "taif", "tuned"])
def test_merged_equals_filtered_within_tolerance(pair, keep):
    filtered = scores_of(composed(pair, keep), pair[0])
    merged = scores_of(None, composed(pair, keep, merge=True))
    assert (filtered - merged).abs().max() < TOLERANCE


def test_modes_differ_by_far_more_than_the_tolerance(pair):
    modes = {
        "base": scores_of(None, pair[0]),
        "tuned": scores_of(pair[1], pair[0]),
        "taia": scores_of(composed(pair, "taia"), pair[0]),
        "taif": scores_of(composed(pair, "taif"), pair[0]),
    }
    for one in modes:
        for other in modes:
            if one < other:
                assert (modes[one] - modes[other]).abs().max() > APART, (one, other)


def test_all_of_an_adapter_is_the_adapter(pair):
    again = composed(pair, "tuned")
    name = "adapter_model.safetensors"
    assert (again / name).stat().st_size == (pair[1] / name).stat().st_size
    assert torch.equal(scores_of(again, pair[0]), scores_of(pair[1], pair[0]))


@pytest.mark.parametrize("keep", ["taia", "taif"])
def test_merged_weights_are_those_that_peft_merges(pair, keep):
    """An oracle that shares nothing with taia's merge: PEFT's, of the filtered adapter."""
    adapted = load_adapted(pair[0], composed(pair, keep))
    with quiet():
        wanted = adapted.merge_and_unload().state_dict()
    base = load_base(pair[0]).state_dict()
    got = load_base(composed(pair, keep, merge=True)).state_dict()
    assert got.keys() == wanted.keys() == base.keys()
    changed = 0
    for name, tensor in wanted.items():
        torch.testing.assert_close(got[name], tensor, rtol=1e-5, atol=1e-6, msg=name)
        if torch.equal(tensor, base[name]):
            assert torch.equal(got[name], base[name]), name
        else:
            changed += 1
    assert changed
