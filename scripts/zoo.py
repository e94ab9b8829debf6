"""Every causal language model architecture of the installed transformers, built without weights.

Some that read images beside text, too. Run it to see what can be built:
``python scripts/zoo.py [MODEL_TYPE ...]``.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from unittest import mock

import torch
import transformers
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedModel,
)
from transformers.core_model_loading import revert_weight_conversion
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}

#: Model type → what its default config lacks for a model to be built from it.
_COMPLETED: Final[Mapping[str, Mapping[str, Any]]] = {
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}
    },
    "dbrx": {"attn_config": {"rope_theta": 10_000.0, "kv_n_heads": 8, "clip_qkv": 8}},
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "gemma4_assistant": {
        "text_config": {
            "hidden_size_per_layer_input": 0,
            "num_kv_shared_layers": 30,
            "vocab_size_per_layer_input": 0,
        }
    },
    "gemma4_unified_assistant": {"text_config": {"num_kv_shared_layers": 10}},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 16},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 48},
    "qwen4_exp": {"text_config": "qwen4_exp_text"},
    "qwen4_exp_text": {
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 256,
        "indexer_budget": 2048,
        "indexer_compress_ratio": 4,
        "ngram_vocab_size_base": 1000,
        "ple_layer_ids": [1],
        "eos_token_id": 1,
    },
    "reformer": {"is_decoder": True},
}

#: What configs call the number of experts that a router chooses from.
_EXPERTS: Final = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
#: Of hundreds of experts, which differ in their number alone: as many as have two digits, and
#: divide into the groups that some choose from.
_MOST_EXPERTS: Final = 16

#: Model types whose causal model takes the config of a part.
_DECODERS: Final = {
    "musicgen": "MusicgenDecoderConfig",
    "musicgen_melody": "MusicgenMelodyDecoderConfig",
}


#: Model types with a text tower and an image encoder that people fine-tune.
VISION_LANGUAGE: Final = (
    *("blip-2", "gemma3", "idefics2", "idefics3", "internvl", "llama4", "llava", "llava_next"),
    *("mistral3", "mllama", "molmo2", "paligemma", "qwen2_5_vl", "qwen2_vl", "qwen3_5"),
    *("qwen3_vl", "qwen3_vl_moe", "smolvlm"),
)


@dataclass(frozen=True, slots=True)
class Specimen:
    """An architecture on the meta device.

    Attributes:
        model_type: What its ``config.json`` calls it.
        model: The model; its tensors have shapes but no values.
    """

    model_type: str
    model: PreTrainedModel

    def runtime(self) -> dict[str, torch.Tensor]:
        """Tensors by the names they have in memory."""
        return dict(self.model.state_dict())

    def on_disk(self) -> dict[str, torch.Tensor]:
        """Tensors by the names its checkpoints use, as ``save_pretrained`` would write them."""
        return dict(revert_weight_conversion(self.model, self.runtime()))


def model_types() -> tuple[str, ...]:
    """Every model type that transformers can load as a causal language model."""
    return tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


@lru_cache(maxsize=1)
def build(model_type: str) -> Specimen:
    """Builds one architecture at its default size, but for hundreds of experts, on ``meta``."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.device("meta"), _without_timm():
        warnings.simplefilter("ignore")
        config = _config(model_type)
        if model_type in _DECODERS:
            model = getattr(transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type])(config)
        else:
            model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return Specimen(model_type, model)


@lru_cache(maxsize=1)
def build_vision_language(model_type: str) -> Specimen:
    """Builds a model of text and images at its default size, on the meta device."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.device("meta"), _without_timm():
        warnings.simplefilter("ignore")
        config = CONFIG_MAPPING[model_type]()
        model = AutoModelForImageTextToText.from_config(config)  # type: ignore[no-untyped-call]
    return Specimen(model_type, model)


def _config(model_type: str) -> Any:  # noqa: ANN401 - every architecture has a class of its own
    if model_type in _DECODERS:
        return getattr(transformers, _DECODERS[model_type])()
    completed = {
        key: _config(value).to_dict() if isinstance(value, str) else value
        for key, value in _COMPLETED.get(model_type, {}).items()
    }
    config = CONFIG_MAPPING[model_type](**completed)
    if model_type == "gemma4_assistant":
        # Its config wants every layer shared; the model it describes then finds none to share from.
        config.text_config.num_kv_shared_layers = 10
    for part in (config, config.get_text_config()):
        for name in _EXPERTS:
            count = getattr(part, name, None)
            if isinstance(count, int):
                setattr(part, name, min(count, _MOST_EXPERTS))
    return config


def _without_timm() -> Any:  # noqa: ANN401 - a context manager
    """gemma3n's image encoder comes from another library; its place is left empty."""
    real: Any = AutoModel.from_config

    def from_config(config: Any, **settings: Any) -> nn.Module:  # noqa: ANN401
        if type(config).__name__ == "Gemma3nVisionConfig":
            return nn.Identity()
        model: nn.Module = real(config, **settings)
        return model

    return mock.patch.object(AutoModel, "from_config", from_config)


def specimens() -> Iterator[Specimen]:
    """Builds them one after another."""
    for model_type in model_types():
        yield build(model_type)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or model_types():
        specimen = build(wanted)
        print(wanted, type(specimen.model).__name__, len(specimen.runtime()), "tensors", flush=True)
