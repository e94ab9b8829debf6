"""Several updates of one parameter, composed as PEFT composes them; PEFT's own merge is asked."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from taia.checkpoint.compose import compose
from taia.checkpoint.header import make_header
from tiny_adapters import load_adapted, load_base, logits, save_pair

WEIGHTS = "adapter_model.safetensors"
BELOW = "base_layer.weight"

#: What PEFT saves with more than one update of a parameter: what lies below an update of the head
#: or the embedding, which here is not the base's.
TWICE = [
    ("llama", {"target_modules": ["q_proj", "lm_head"]}),
    ("llama", {"target_modules": ["q_proj", "embed_tokens"]}),
    ("llama", {"target_modules": ["embed_tokens", "lm_head"], "use_dora": True}),
    ("llama", {"target_modules": ["embed_tokens", "lm_head"], "use_rslora": True}),
    ("tied-llama", {"target_modules": ["q_proj", "lm_head"]}),
    ("tied-llama", {"target_modules": ["q_proj", "embed_tokens"]}),
    ("tied-llama", {"target_modules": ["embed_tokens", "lm_head"]}),
    ("gpt2", {"target_modules": ["c_attn", "lm_head"]}),
]
twice = pytest.mark.parametrize(("name", "lora"), TWICE, ids=str)


def in_order(adapter: Path, order: list[str]) -> None:
    """Write an adapter's tensors again, in some order."""
    tensors = load_file(adapter / WEIGHTS)
    kinds = {torch.float32: "F32", torch.bfloat16: "BF16"}
    header = make_header([(n, kinds[tensors[n].dtype], tuple(tensors[n].shape)) for n in order], {})
    data = b"".join(bytes(tensors[n].contiguous().view(torch.uint8).numpy()) for n in order)
    (adapter / WEIGHTS).write_bytes(header + data)


def train_below(adapter: Path) -> None:
    """Move what lies below the updates away from the base's values."""
    tensors = load_file(adapter / WEIGHTS)
    below = [name for name in tensors if name.endswith(BELOW)]
    assert below
    content = bytearray((adapter / WEIGHTS).read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    torch.manual_seed(2)
    for name in below:
        moved = tensors[name] + (torch.randn(tensors[name].shape) * 0.1).to(tensors[name].dtype)
        start, stop = (8 + length + offset for offset in header[name]["data_offsets"])
        content[start:stop] = bytes(moved.contiguous().view(torch.uint8).numpy())
    (adapter / WEIGHTS).write_bytes(content)


@twice
def test_a_bfloat16_base_and_a_float32_adapter_are_merged_as_peft_does(tmp_path, name, lora):
    """safetensors orders by dtype, so that what lies below comes last in the file."""
    base, adapter = save_pair(tmp_path, name, torch.bfloat16, autocast=True, **lora)
    train_below(adapter)
    assert any(key.endswith(BELOW) for key in list(load_file(adapter / WEIGHTS))[-2:])
    compose(base, adapter, tmp_path / "out", "tuned", merge=True)
    exact = load_adapted(base, adapter, dtype=torch.float32)
    got = load_base(tmp_path / "out")
    assert (logits(got.float()) - logits(exact)).abs().max() < 0.01
    for of in ("get_input_embeddings", "get_output_embeddings"):
        module = getattr(exact.get_base_model(), of)()
        delta = module.get_delta_weight("default") if hasattr(module, "lora_A") else None
        if delta is None or lora.get("use_dora"):
            continue
        wanted = module.base_layer.weight + delta
        made = getattr(load_base(tmp_path / "out"), of)().weight
        assert (made == wanted.bfloat16()).float().mean() > 0.999


@twice
def test_a_fraction_lies_between_the_base_and_the_whole(tmp_path, name, lora):
    base, adapter = save_pair(tmp_path, name, **lora)
    train_below(adapter)
    for folder, keep in (("none", "0*all"), ("whole", "all"), ("part", "0.25*all")):
        compose(base, adapter, tmp_path / folder, keep, merge=True)
    ours, whole, part = (
        load_base(tmp_path / folder).state_dict() for folder in ("none", "whole", "part")
    )
    for key, tensor in part.items():
        wanted = ours[key] + 0.25 * (whole[key] - ours[key])
        torch.testing.assert_close(tensor, wanted, rtol=1e-5, atol=1e-6)
    vocabulary = [key for key in ours if ours[key].shape == ours["lm_head.weight"].shape]
    assert any((whole[key] - ours[key]).abs().max() > 0.1 for key in vocabulary)


@pytest.mark.parametrize("name", ["llama", "tied-llama"])
def test_the_order_in_the_file_does_not_matter(tmp_path, name):
    targets = ["q_proj", "embed_tokens", "lm_head"]
    base, adapter = save_pair(tmp_path, name, torch.bfloat16, autocast=True, target_modules=targets)
    train_below(adapter)
    compose(base, adapter, tmp_path / "wanted", "tuned", merge=True)
    compose(base, adapter, tmp_path / "half", "0.5*all")
    wanted, half = (
        load_base(tmp_path / "wanted").state_dict(),
        load_file(tmp_path / "half" / WEIGHTS),
    )
    names = list(load_file(adapter / WEIGHTS))

    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.permutations(names))
    def check(order):
        in_order(adapter, order)
        for kind, options in (("merged", {"merge": True}), ("filtered", {})):
            keep = "tuned" if options else "0.5*all"
            compose(base, adapter, tmp_path / kind, keep, overwrite=True, **options)
        merged = load_base(tmp_path / "merged").state_dict()
        assert all(torch.equal(merged[key], wanted[key]) for key in wanted)
        filtered = load_file(tmp_path / "filtered" / WEIGHTS)
        assert filtered.keys() == half.keys()
        assert all(torch.equal(filtered[key], half[key]) for key in half)

    check()


@twice
def test_a_filtered_half_is_the_merged_half(tmp_path, name, lora):
    if lora.get("use_dora"):
        pytest.skip("DoRA has no fraction as an adapter")
    base, adapter = save_pair(tmp_path, name, **lora)
    train_below(adapter)
    compose(base, adapter, tmp_path / "filtered", "0.5*all")
    compose(base, adapter, tmp_path / "merged", "0.5*all", merge=True)
    filtered = logits(load_adapted(base, tmp_path / "filtered"))
    assert (filtered - logits(load_base(tmp_path / "merged"))).abs().max() < 1e-5
    assert (filtered - logits(load_adapted(base, adapter))).abs().max() > 1e-2


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
@pytest.mark.parametrize("keep", ["tuned", "0.5*all", "taia"])
def test_an_updates_own_bias_is_added_to_the_one_that_was_trained(tmp_path, bias, keep):
    lora = {"target_modules": ["c_attn", "c_fc"], "lora_bias": True, "bias": bias}
    base, adapter = save_pair(tmp_path, "gpt2", fan_in_fan_out=True, **lora)
    compose(base, adapter, tmp_path / "merged", keep, merge=True)
    if keep == "0.5*all" and bias != "none":
        whole, ours = load_adapted(base, adapter).merge_and_unload(), load_base(base)
        got = load_base(tmp_path / "merged").state_dict()
        for key, tensor in ours.state_dict().items():
            wanted = tensor + 0.5 * (whole.state_dict()[key] - tensor)
            torch.testing.assert_close(got[key], wanted, rtol=1e-5, atol=1e-6)
        return
    compose(base, adapter, tmp_path / "filtered", keep)
    filtered = logits(load_adapted(base, tmp_path / "filtered"))
    assert (filtered - logits(load_base(tmp_path / "merged"))).abs().max() < 1e-5


def test_what_lies_below_goes_with_its_update(tmp_path):
    base, adapter = save_pair(tmp_path, "llama", target_modules=["q_proj", "lm_head"])
    train_below(adapter)
    compose(base, adapter, tmp_path / "out", "attention")
    assert not [name for name in load_file(tmp_path / "out" / WEIGHTS) if "lm_head" in name]
    shutil.rmtree(tmp_path / "out")
    compose(base, adapter, tmp_path / "out", "head")
    got = load_adapted(base, tmp_path / "out").lm_head.weight
    assert torch.equal(got, load_file(adapter / WEIGHTS)[f"base_model.model.lm_head.{BELOW}"])
