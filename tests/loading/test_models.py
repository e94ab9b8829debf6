"""From a folder to a live model: whatever the folder holds, a model or two lines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import tiny_models
from battery import oracle
from battery.families import FAMILIES
from taia.checkpoint.locate import locate
from taia.errors import CheckpointError
from taia.loading.models import load_model, load_tokenizer, read_by_transformers

SEEING = [name for name, family in FAMILIES.items() if family.sees]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_llama(tmp_path_factory.mktemp("models") / "base")


@pytest.mark.parametrize("family", SEEING)
def test_a_model_that_sees_is_loaded_whole(tmp_path, family):
    model = oracle.random_model(FAMILIES[family])
    model.save_pretrained(tmp_path)
    loaded = load_model(locate(tmp_path), torch.float32)
    assert type(loaded) is type(model)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(oracle.logits(loaded), oracle.logits(model))


def test_the_class_that_was_saved_is_the_one_that_is_loaded(tmp_path):
    """Of a type that writes with eyes and without, the config's architecture decides."""
    from transformers import MllamaConfig, MllamaForConditionalGeneration

    text = {**tiny_models.LLAMA, "cross_attention_layers": [1], "pad_token_id": 0}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "image_size": 28}
    more = {"num_global_layers": 1, "attention_heads": 2, "vision_output_dim": 32}
    config = MllamaConfig(
        text_config={**text, "rope_scaling": {"rope_type": "default"}},
        vision_config={**vision, **more, "patch_size": 14, "intermediate_layers_indices": [0]},
    )
    MllamaForConditionalGeneration(config).save_pretrained(tmp_path)
    loaded = load_model(locate(tmp_path), torch.float32)
    assert type(loaded) is MllamaForConditionalGeneration


def test_a_tied_checkpoint_may_keep_the_head_alone(tmp_path):
    """transformers#38870: which of the two names a file has is nobody's rule."""
    folder = tiny_models.save_llama(tmp_path / "tied", tie_word_embeddings=True)
    expected = oracle.logits(load_model(locate(folder), torch.float32))
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, file, {"format": "pt", "model.embed_tokens.weight": "lm_head.weight"})
    assert torch.equal(oracle.logits(load_model(locate(folder), torch.float32)), expected)


def test_an_untied_checkpoint_may_not(tmp_path):
    folder = tiny_models.save_llama(tmp_path / "untied", tie_word_embeddings=False)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.embed_tokens.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 .*embed_tokens"):
        load_model(locate(folder), torch.float32)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
_KEYS = """
    model_type architectures num_hidden_layers rope_scaling rope_parameters hidden_size
    num_attention_heads hidden_act vocab_size dtype eos_token_id
""".split()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.dictionaries(st.sampled_from(_KEYS), _JSON, min_size=1, max_size=2))
def test_any_config_is_a_model_or_bad_input(base, changes):
    file = base / "config.json"
    before = file.read_text()
    file.write_text(json.dumps({**json.loads(before), **changes}))
    problem = str(base)
    try:
        load_model(locate(base), torch.float32)
    except CheckpointError as error:
        problem = error.problem
    finally:
        file.write_text(before)
    assert str(base) in problem


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])
def test_memory_that_ran_out_is_not_bad_input(kind):
    with pytest.raises(MemoryError, match="no room"), read_by_transformers("The model x"):
        raise kind("no room")


def test_the_machines_own_memory_too():
    with pytest.raises(MemoryError), read_by_transformers("The model x"):
        torch.empty(1 << 55, dtype=torch.int8)


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_quantised_base_names_the_package_that_it_needs(base, tmp_path, method):
    config: dict[str, Any] = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4, "group_size": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="pip install"):
        load_model(locate(tmp_path), torch.float32)


# --- tokenizers ---------------------------------------------------------------------------------

DAMAGES: dict[str, tuple[str, Callable[[str], str]]] = {
    "no object": ("tokenizer_config.json", lambda _: "[]"),
    "a class that is a list": ("tokenizer_config.json", lambda _: '{"tokenizer_class": ["a"]}'),
    "ids beyond 32 bits": ("tokenizer.json", lambda s: s.replace('"id": 256', '"id": 5000000000')),
    "merges of no tokens": (
        "tokenizer.json",
        lambda s: s.replace('"merges": []', '"merges": [["x", "y"]]'),
    ),
    "no JSON": ("tokenizer.json", lambda _: "\x00"),
    "deep JSON": ("tokenizer.json", lambda _: "[" * 100_000),
    "no model": ("tokenizer.json", lambda s: json.dumps({**json.loads(s), "model": 3})),
    "specials that are a list": ("special_tokens_map.json", lambda _: "[1]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_tokenizer_is_bad_input(base, tmp_path, damage):
    folder = tmp_path / "damaged"
    shutil.copytree(base, folder)
    name, change = DAMAGES[damage]
    file = folder / name
    before = file.read_text() if file.exists() else ""
    file.write_text(change(before))
    assert file.read_text() != before
    with pytest.raises(CheckpointError, match=r"The tokenizer of .*damaged cannot be read"):
        load_tokenizer(locate(folder))


def test_the_control_loads(base):
    assert load_tokenizer(locate(base))("hello").input_ids
