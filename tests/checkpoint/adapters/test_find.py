"""Adapters of models whose live names are not those of their files; PEFT loads what comes out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from taia.checkpoint.compose import compose
from taia.checkpoint.index import Checkpoint
from tiny_adapters import IDS, quiet

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
TEXT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
    "projection_dim": 16,
}
QWEN_VISION = {
    "depth": 1,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 4,
}
MROPE = {"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}}

#: Name → class, and the config's parts.
MODELS = {
    "qwen2_5_vl": (
        "Qwen2_5_VLForConditionalGeneration",
        {"text_config": {**TEXT, **MROPE}, "vision_config": QWEN_VISION},
    ),
    "qwen2_vl": (
        "Qwen2VLForConditionalGeneration",
        {
            "text_config": {**TEXT, **MROPE},
            "vision_config": {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2},
        },
    ),
    "llava": (
        "LlavaForConditionalGeneration",
        {
            "text_config": {**TEXT, "model_type": "llama"},
            "vision_config": CLIP,
            "image_token_index": 60,
        },
    ),
    "paligemma": (
        "PaliGemmaForConditionalGeneration",
        {
            "text_config": {**TEXT, "model_type": "gemma", "head_dim": 8},
            "vision_config": {**CLIP, "model_type": "siglip_vision_model"},
            "image_token_index": 60,
            "projection_dim": 32,
        },
    ),
}
#: Those whose adapters transformers 4.51 saved with other names, which PEFT still loads.
OLDER = ("llava", "paligemma")

TARGETS = ["q_proj", "up_proj"]
PATTERN = r".*language_model.*\.(q_proj|up_proj|down_proj)"


@pytest.fixture(scope="module", params=MODELS)
def base(request, tmp_path_factory) -> Path:
    kind, parts = MODELS[request.param]
    torch.manual_seed(0)
    made = getattr(transformers, kind)._from_config(AutoConfig.for_model(request.param, **parts))
    folder = tmp_path_factory.mktemp(request.param)
    made.save_pretrained(folder)
    return folder


def load(folder: Path):
    kind = json.loads((folder / "config.json").read_text())["architectures"][0]
    with quiet():
        return getattr(transformers, kind).from_pretrained(folder).eval()


def adapted(base: Path, adapter: Path):
    """The base with an adapter on it; fails unless PEFT finds every tensor a place."""
    with quiet() as caught:
        model = PeftModel.from_pretrained(load(base), adapter).eval()
    assert not [w for w in caught if "missing adapter keys" in str(w.message)]
    stored = sum(".lora_A" in name for name in load_file(adapter / WEIGHTS))
    assert stored == sum(name.endswith("lora_A.default.weight") for name in model.state_dict())
    return model


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(input_ids=IDS).logits


def save_adapter(base: Path, folder: Path, targets) -> Path:
    torch.manual_seed(1)
    with quiet():
        tuned = get_peft_model(load(base), LoraConfig(r=2, target_modules=targets))
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.data += torch.randn_like(parameter) * 0.1
        tuned.save_pretrained(folder)
    return folder


def with_older_names(adapter: Path, folder: Path) -> Path:
    """The adapter as transformers 4.51 would have saved it."""
    shutil.copytree(adapter, folder)
    older = {
        name.replace("model.model.language_model.", "model.language_model.model.")
        .replace("model.model.vision_tower", "model.vision_tower")
        .replace("model.model.multi_modal", "model.multi_modal"): tensor
        for name, tensor in load_file(adapter / WEIGHTS).items()
    }
    save_file(older, folder / WEIGHTS)
    return folder


def check(base: Path, adapter: Path, tmp_path: Path) -> None:
    with quiet():  # PEFT leaves out the image encoder of an older one, which text does not pass
        tuned = logits(PeftModel.from_pretrained(load(base), adapter).eval())
    plain = logits(load(base))
    for number, keep in enumerate(("tuned", "taia", "attention[1:]", "0.5*attention + mlp[0]")):
        out, merged = tmp_path / f"out{number}", tmp_path / f"merged{number}"
        compose(base, adapter, out, keep)
        compose(base, adapter, merged, keep, merge=True)
        got = logits(adapted(base, out))
        assert (got - logits(load(merged))).abs().max() < 1e-5, keep
        assert torch.equal(got, tuned) == (keep == "tuned")
        assert (got - plain).abs().max() > 1e-4
        assert Checkpoint.open(merged).tensors.keys() == Checkpoint.open(base).tensors.keys()


@pytest.mark.parametrize("targets", [TARGETS, "all-linear", PATTERN], ids=str)
def test_adapters_of_today(base, tmp_path, targets):
    """The live model is no causal language model by itself, and its files have older names."""
    check(base, save_adapter(base, tmp_path / "adapter", targets), tmp_path)


@pytest.mark.parametrize("targets", [TARGETS, "all-linear", PATTERN], ids=str)
def test_adapters_of_before_4_52(base, tmp_path, targets):
    if json.loads((base / "config.json").read_text())["model_type"] not in OLDER:
        pytest.skip("PEFT does not load its older adapters")
    adapter = save_adapter(base, tmp_path / "adapter", targets)
    check(base, with_older_names(adapter, tmp_path / "older"), tmp_path)


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("targets", [TARGETS, PATTERN], ids=str)
def test_without_the_base(base, tmp_path, targets, older):
    adapter = save_adapter(base, tmp_path / "adapter", targets)
    if older:
        if json.loads((base / "config.json").read_text())["model_type"] not in OLDER:
            pytest.skip("PEFT does not load its older adapters")
        adapter = with_older_names(adapter, tmp_path / "older")
    compose(None, adapter, tmp_path / "out", "taia")
    compose(base, adapter, tmp_path / "wanted", "taia")
    with quiet():  # as above, PEFT leaves out an older one's image encoder
        got = logits(PeftModel.from_pretrained(load(base), tmp_path / "out").eval())
    assert torch.equal(got, logits(adapted(base, tmp_path / "wanted")))


def test_a_model_that_transformers_does_not_know_keeps_its_names(base, tmp_path):
    adapter = save_adapter(base, tmp_path / "adapter", TARGETS)
    strange = tmp_path / "strange"
    shutil.copytree(base, strange)
    config = json.loads((base / "config.json").read_text())
    config |= {"architectures": ["NeverHeardOf"], "model_type": "never_heard_of"}
    (strange / "config.json").write_text(json.dumps(config))
    if json.loads((base / "config.json").read_text())["model_type"] in OLDER:
        compose(strange, adapter, tmp_path / "out", "taia")
        assert all(
            "mlp" not in name or "vision" in name for name in load_file(tmp_path / "out" / WEIGHTS)
        )
