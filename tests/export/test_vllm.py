"""One rank and one scale for the whole adapter, and the same model."""

import json

import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

from taia.errors import AdapterError
from taia.export.run import export
from tiny_adapters import load_adapted, load_base, logits, save_pair

PATTERNS = {
    "plain": {},
    "rank_pattern": {"rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 8}},
    "alpha_pattern": {"alpha_pattern": {"v_proj": 3.0, "down_proj": 40.0}},
    "rslora": {"use_rslora": True},
    "all": {
        "use_rslora": True,
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"q_proj": 5.0, "down_proj": 40.0},
    },
}


@pytest.mark.parametrize("name", PATTERNS)
def test_the_folded_adapter_is_the_same_model_by_vllms_rule(tmp_path, name):
    base, adapter = save_pair(tmp_path, "llama", **PATTERNS[name])
    done = export(adapter, "vllm", tmp_path / "out")
    assert done.checks[0].passed
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    # vLLM's PEFTHelper: alpha and r of the config, for every module
    scale = config["lora_alpha"] / config["r"] ** (0.5 if config["use_rslora"] else 1)
    layers = {
        path: module
        for path, module in load_adapted(base, adapter).named_modules()
        if isinstance(module, LoraLayer)
    }
    assert len(layers) == len(tensors) // 2 == 21
    for path, module in layers.items():
        a, b = (tensors[f"{path}.lora_{side}.weight"] for side in "AB")
        assert a.shape[0] == b.shape[1] == config["r"]
        torch.testing.assert_close(b @ a * scale, module.get_delta_weight("default"))
    torch.testing.assert_close(
        logits(load_adapted(base, tmp_path / "out")), logits(load_adapted(base, adapter))
    )


def test_what_needs_no_folding_is_copied(tmp_path):
    _, adapter = save_pair(tmp_path, "llama")
    done = export(adapter, "vllm", tmp_path / "out")
    name = "adapter_model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (adapter / name).read_bytes()
    assert not done.notes


def test_the_line_to_serve_with(tmp_path):
    base, adapter = save_pair(tmp_path, "llama", r=17)
    done = export(adapter, "vllm", tmp_path / "my out")
    assert done.use == (
        f"vllm serve {base} --enable-lora --max-lora-rank 32 "
        f"--lora-modules 'my out'='{tmp_path}/my out'"
    )
    assert "vLLM itself was not run" in done.checks[0].said


CANNOT = {
    "DoRA": ({"use_dora": True}, "DoRA"),
    "whole modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    "biases": ({"bias": "all"}, "biases"),
    "lora_bias": ({"lora_bias": True}, "lora_bias"),
    "tokens": ({"trainable_token_indices": {"embed_tokens": [1, 2]}}, "tokens"),
    "embedding": ({"target_modules": ["q_proj", "embed_tokens"]}, "embedding"),
    "head": ({"target_modules": ["q_proj", "lm_head"]}, "lm_head"),
    "rank": ({"r": 600}, "600"),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_it_cannot_carry_is_said_before_anything_is_written(tmp_path, name):
    options, words = CANNOT[name]
    kind = "gpt2" if name == "biases" else "llama"
    _, adapter = save_pair(tmp_path, kind, **options)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(AdapterError, match=words) as caught:
        export(adapter, "vllm", tmp_path / "out")
    assert "--merge" in caught.value.mend
    assert sorted(tmp_path.iterdir()) == before


def test_fused_experts_are_refused(tmp_path):
    _, adapter = save_pair(tmp_path, "qwen3-moe")
    with pytest.raises(AdapterError, match="target_parameters"):
        export(adapter, "vllm", tmp_path / "out")


@pytest.mark.parametrize("name", ["DoRA", "whole modules", "tokens", "head"])
def test_the_alternative_works(tmp_path, name):
    _, adapter = save_pair(tmp_path, "llama", **CANNOT[name][0])
    done = export(adapter, "vllm", tmp_path / "out", merge=True)
    assert done.checks[0].passed
    assert done.use == f"vllm serve {tmp_path}/out"


def test_a_base_that_is_elsewhere(tmp_path):
    base, adapter = save_pair(tmp_path, "llama")
    moved = base.rename(tmp_path / "moved")
    with pytest.raises(Exception, match="--base"):
        export(adapter, "vllm", tmp_path / "out")
    assert moved.name in (export(adapter, "vllm", tmp_path / "out", base=str(moved)).use or "")
    assert load_base(moved) is not None
