from __future__ import annotations

import pytest

from taia.checkpoint.adapters.names import part_of
from taia.errors import AdapterError

LAYER = "base_model.model.model.layers.0.mlp"


@pytest.mark.parametrize(
    ("name", "module", "kind", "leaf", "depth"),
    [
        ("up_proj.lora_A.weight", "up_proj", "lora_A", "weight", 0),
        ("up_proj.lora_B.weight", "up_proj", "lora_B", "weight", 0),
        ("up_proj.lora_B.bias", "up_proj", "lora_B_bias", "weight", 0),
        ("up_proj.lora_magnitude_vector", "up_proj", "magnitude", "weight", 0),
        ("embed.lora_embedding_A", "embed", "embedding_A", "weight", 0),
        ("experts.base_layer.lora_A.weight", "experts", "lora_A", "weight", 1),
        ("experts.base_layer.base_layer.lora_B.weight", "experts", "lora_B", "weight", 2),
        ("up_proj.base_layer.bias", "up_proj", "whole", "bias", 0),
        ("up_proj.weight", "up_proj", "whole", "weight", 0),
        ("embed.token_adapter.trainable_tokens_delta", "embed", "tokens", "weight", 0),
    ],
)
def test_names_that_peft_gives(name, module, kind, leaf, depth):
    part = part_of(f"{LAYER}.{name}")
    assert part.module == f"model.layers.0.mlp.{module}"
    assert (part.kind, part.leaf, part.depth) == (kind, leaf, depth)
    assert part.name == part.tensor


@pytest.mark.parametrize(
    ("name", "today"),
    [
        ("q.lora_A.default.weight", "q.lora_A.weight"),
        ("q.lora_magnitude_vector.default.weight", "q.lora_magnitude_vector"),
        ("q.lora_magnitude_vector.weight", "q.lora_magnitude_vector"),
        ("embed.lora_embedding_B.default", "embed.lora_embedding_B"),
        ("lm_head.modules_to_save.default.weight", "lm_head.weight"),
        ("lm_head.modules_to_save.weight", "lm_head.weight"),
    ],
)
def test_older_names_are_written_as_today(name, today):
    assert part_of(f"{LAYER}.{name}").name == f"{LAYER}.{today}"


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.q_proj.lora_A.weight",
        f"{LAYER}.q.lora_A.bias",
        f"{LAYER}.q.lora_diag",
        f"{LAYER}.q.original_module.weight",
        "base_model.model.prompt",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(AdapterError, match=r"base_model\.model|layers"):
        part_of(name)
