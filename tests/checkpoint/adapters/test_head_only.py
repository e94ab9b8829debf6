"""Tied bases whose file holds the one tensor as the head's: adapters merge as into any."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from taia import SwitchableModel
from taia.checkpoint.compose import compose
from taia.errors import AdapterError
from tiny_adapters import load_adapted, load_base, logits, quiet, save_pair

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
ADAPTERS = {
    "neither": {"target_modules": ["q_proj", "up_proj"]},
    "embedding": {"target_modules": ["q_proj", "up_proj", "embed_tokens"]},
    "head": {"target_modules": ["q_proj", "up_proj", "lm_head"]},
    "both": {"target_modules": ["q_proj", "up_proj", "embed_tokens", "lm_head"]},
    "whole head": {"target_modules": ["q_proj", "up_proj"], "modules_to_save": ["lm_head"]},
    "both whole": {
        "target_modules": ["q_proj", "up_proj"],
        "modules_to_save": ["lm_head", "embed_tokens"],
    },
    "tokens": {"target_modules": ["q_proj", "up_proj"], "trainable_token_indices": [1, 5]},
    "DoRA": {"target_modules": ["q_proj", "up_proj", "lm_head"], "use_dora": True},
}
#: Where nothing but the adapter's own names can tell what the embedding is called.
UNNAMED = ["neither", "embedding", "both", "both whole", "tokens"]


def keep_the_head(base: Path, *, named: bool) -> None:
    """Store the tied tensor as the head's, in every file that holds it."""
    alias = {EMBEDDING: HEAD} if named else {}
    for file in base.glob("*.safetensors"):
        tensors = load_file(file)
        if EMBEDDING in tensors:
            tensors[HEAD] = tensors.pop(EMBEDDING)
            save_file(tensors, file, metadata={"format": "pt", **alias})
    for file in base.glob("*.index.json"):
        file.write_text(file.read_text().replace(EMBEDDING, HEAD))


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(
    ("kind", "named"), [*((kind, True) for kind in ADAPTERS), *((kind, False) for kind in UNNAMED)]
)
def test_as_peft_has_it(tmp_path, kind, named, sharded):
    base, adapter = save_pair(tmp_path, "tied-llama", **ADAPTERS[kind])
    if sharded:
        model = load_base(base)
        (base / "model.safetensors").unlink()
        model.save_pretrained(base, max_shard_size="16KB")
    scores = {"tuned": logits(load_adapted(base, adapter)), "base": logits(load_base(base))}
    partial = load_adapted(base, adapter)
    for name, parameter in partial.named_parameters():
        if "lora_B" in name and "up_proj" in name:
            parameter.data.zero_()
    scores["taia"] = logits(partial)
    keep_the_head(base, named=named)
    assert torch.equal(logits(load_base(base)), scores["base"])
    live = SwitchableModel.load(base, adapter, device="cpu")
    for mode in ("tuned", "taia"):
        wanted = scores[mode]
        if kind == "DoRA" and mode == "taia":  # without B, its magnitude is left
            continue
        compose(base, adapter, tmp_path / mode, mode, merge=True)
        assert (logits(load_base(tmp_path / mode)) - wanted).abs().max() < 1e-5
        compose(base, adapter, tmp_path / f"{mode}-adapter", mode)
        with quiet():
            filtered = PeftModel.from_pretrained(load_base(base), tmp_path / f"{mode}-adapter")
        assert torch.equal(logits(filtered.eval()), wanted)
        with live.mode(mode):
            assert torch.equal(logits(live), wanted)
        check_names(tmp_path / mode)


def check_names(folder: Path) -> None:
    """The index is of the files, and no file says of a tensor in it that it is another."""
    held = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            names = set(opened.keys())
            assert not names & (opened.metadata() or {}).keys()
        held |= names
    for file in folder.glob("*.index.json"):
        assert set(json.loads(file.read_text())["weight_map"]) == held


@pytest.mark.parametrize("kind", [kind for kind in ADAPTERS if kind not in UNNAMED])
def test_an_embedding_that_nobody_names_is_refused(tmp_path, kind):
    base, adapter = save_pair(tmp_path, "tied-llama", **ADAPTERS[kind])
    keep_the_head(base, named=False)
    with pytest.raises(AdapterError, match="cannot tell") as caught:
        compose(base, adapter, tmp_path / "out", "tuned", merge=True)
    assert "without --merge" in caught.value.mend
