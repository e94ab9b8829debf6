"""Adapters of models whose live names are not those of their files; PEFT loads what comes out."""

from __future__ import annotations

import copy
import json
import shutil
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from taia.checkpoint.compose import compose
from taia.checkpoint.index import Checkpoint
from taia.errors import MismatchError, TaiaError
from taia.runtime.switchable import SwitchableModel
from tiny_adapters import IDS, quiet, save_pair

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


@lru_cache(maxsize=1)
def loaded(base: Path):
    return load(base)


def fresh(base: Path):
    """The base as it is loaded, to be changed."""
    return copy.deepcopy(loaded(base))


def load(folder: Path):
    kind = json.loads((folder / "config.json").read_text())["architectures"][0]
    with quiet():
        return getattr(transformers, kind).from_pretrained(folder).eval()


def adapted(base: Path, adapter: Path):
    """The base with an adapter on it; fails unless PEFT finds every tensor a place."""
    with quiet() as caught:
        model = PeftModel.from_pretrained(fresh(base), adapter).eval()
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
        tuned = get_peft_model(fresh(base), LoraConfig(r=2, target_modules=targets))
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
        tuned = logits(PeftModel.from_pretrained(fresh(base), adapter).eval())
    plain = logits(loaded(base))
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
        got = logits(PeftModel.from_pretrained(fresh(base), tmp_path / "out").eval())
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


# --- names that are neither of today nor of an older version ------------------------------------

LIVE = "base_model.model.model.language_model."
#: What may stand before "layers" and has at some time, in some family, or never.
SPELLINGS = [
    "model.language_model.",
    "language_model.model.",
    "model.language_model.model.",
    "language_model.",
    "model.model.",
    "model.",
    "",
    "model.text_model.",
    "language_model.model.language_model.",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_what_comes_out_is_what_peft_loads_or_nothing_does(base, tmp_path, spelling):
    right = save_adapter(base, tmp_path / "right", PATTERN)
    adapter = tmp_path / "adapter"
    shutil.copytree(right, adapter)
    tensors = {
        name.replace(LIVE, f"base_model.model.{spelling}"): tensor
        for name, tensor in load_file(right / WEIGHTS).items()
    }
    save_file(tensors, adapter / WEIGHTS)
    config = json.loads((adapter / CONFIG).read_text())
    config["target_modules"] = ["q_proj", "up_proj", "down_proj"]
    (adapter / CONFIG).write_text(json.dumps(config))
    with quiet():
        by_peft = logits(PeftModel.from_pretrained(fresh(base), adapter).eval())
    peft_loads_it = not torch.equal(by_peft, logits(loaded(base)))
    wanted = logits(adapted(base, right))
    with suppress(MismatchError):
        compose(base, adapter, tmp_path / "out", "tuned")
    if not (tmp_path / "out").exists():
        assert not peft_loads_it
        for merge in (False, True):
            with pytest.raises(MismatchError) as refused:
                compose(base, adapter, tmp_path / "merged", "tuned", merge=merge)
            assert any(repr(name) in refused.value.problem for name in tensors)
        assert not list(tmp_path.glob("*merged*"))
        return
    compose(base, adapter, tmp_path / "merged", "tuned", merge=True)
    with quiet():  # the encoder has modules of these names, too, which this adapter has not
        got = logits(PeftModel.from_pretrained(fresh(base), tmp_path / "out").eval())
    assert torch.equal(got, wanted)
    assert (logits(load(tmp_path / "merged")) - wanted).abs().max() < 1e-5


def test_a_spelling_that_no_version_had_is_refused(tmp_path):
    kind, parts = MODELS["qwen2_vl"]
    base = tmp_path / "base"
    getattr(transformers, kind)._from_config(
        AutoConfig.for_model("qwen2_vl", **parts)
    ).save_pretrained(base)
    right = save_adapter(base, tmp_path / "right", TARGETS)
    adapter = with_older_names(right, tmp_path / "adapter")
    for merge in (False, True):
        with pytest.raises(MismatchError, match=r"language_model\.model\.layers\.0\..*no place"):
            compose(base, adapter, tmp_path / "out", "tuned", merge=merge)
    # Neither may some of its tensors have such names.
    mixed = load_file(right / WEIGHTS)
    name = next(name for name in mixed if "layers.1" in name and "lora_A" in name)
    for side in ("lora_A", "lora_B"):
        old = name.replace("lora_A", side)
        new = old.replace("model.language_model.", "language_model.model.")
        mixed[new] = mixed.pop(old)
    save_file(mixed, adapter / WEIGHTS)
    with pytest.raises(MismatchError, match=r"language_model\.model\.layers\.1\."):
        compose(base, adapter, tmp_path / "out", "tuned")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spelling", [*SPELLINGS, "foo."])
def test_checkpoints_of_every_spelling_that_transformers_loads(base, tmp_path, spelling):
    before = load_file(base / "model.safetensors")
    first = next(name for name in before if name.endswith("layers.0.self_attn.q_proj.weight"))
    stem = first.partition("layers.0")[0]
    tuned = tmp_path / "tuned"
    shutil.copytree(base, tuned)
    after = {
        name.replace(stem, spelling, 1) if name.startswith(stem) else name: tensor + 0.125
        for name, tensor in before.items()
    }
    save_file(after, tuned / "model.safetensors", {"format": "pt"})
    kind = json.loads((base / "config.json").read_text())["architectures"][0]
    with quiet():
        model, told = getattr(transformers, kind).from_pretrained(tuned, output_loading_info=True)
    if told["missing_keys"] and told["unexpected_keys"]:
        lost = (*before.keys() - after.keys(), *after.keys() - before.keys())
        with pytest.raises(TaiaError) as refused:
            compose(base, tuned, tmp_path / "out", "tuned")
        assert any(name in refused.value.problem for name in lost)
        assert not (tmp_path / "out").exists()
        return
    compose(base, tuned, tmp_path / "out", "tuned")
    got = load_file(tmp_path / "out" / "model.safetensors")
    assert got.keys() == before.keys()
    assert torch.equal(logits(load(tmp_path / "out")), logits(model.eval()))
    switched = SwitchableModel.load(base, tuned, device="cpu")
    assert torch.equal(logits(switched), logits(model))


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("moved", [0, 2])
@pytest.mark.parametrize("name", ["llama", "qwen3-moe"])
def test_an_adapter_of_a_deeper_model(tmp_path, name, moved, merge):
    """Composed as far as it goes it would be another adapter than the one that was trained."""
    base, adapter = save_pair(tmp_path, name)
    compose(base, adapter, tmp_path / "control", "tuned", merge=merge)
    tensors = load_file(adapter / WEIGHTS).items()
    tensors = {name.replace(f"layers.{moved}.", "layers.7."): tensor for name, tensor in tensors}
    save_file(tensors, adapter / WEIGHTS, {"format": "pt"})
    with pytest.raises(MismatchError, match=r"no 'model\.layers\.7'"):
        compose(base, adapter, tmp_path / "out", "tuned", merge=merge)
    assert not (tmp_path / "out").exists()
