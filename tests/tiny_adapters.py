"""Tiny random models with trained-looking adapters, and PEFT's own account of what it loaded."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, load_peft_weights, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

IDS = torch.arange(24).reshape(2, 12)

EXPERTS = {
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
}
#: What is usually adapted: everything linear.
USUAL: dict[str, dict[str, Any]] = {
    "llama": {"target_modules": "all-linear"},
    "tied-llama": {"target_modules": "all-linear"},
    "gpt2": {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True},
    "qwen3-moe": EXPERTS,
    "mixtral": EXPERTS,
}
_GROUPED = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def model(name: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """A small model with random weights; biases are random too, as zeros would hide mistakes."""
    torch.manual_seed(7)
    made: torch.nn.Module
    if name in ("llama", "tied-llama"):
        tie = name == "tied-llama"
        made = LlamaForCausalLM(
            LlamaConfig(**_GROUPED, intermediate_size=48, tie_word_embeddings=tie)
        )
    elif name == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 32}
        made = GPT2LMHeadModel(GPT2Config(vocab_size=64, bos_token_id=1, eos_token_id=2, **sizes))
    elif name == "qwen3-moe":
        experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
        made = Qwen3MoeForCausalLM(
            Qwen3MoeConfig(**_GROUPED, **experts, intermediate_size=48, head_dim=8)
        )
    else:
        experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
        made = MixtralForCausalLM(MixtralConfig(**_GROUPED, **experts, intermediate_size=24))
    for parameter_name, parameter in made.named_parameters():
        if parameter_name.endswith("bias"):
            parameter.data = torch.randn_like(parameter) * 0.1
    return made.to(dtype).eval()


def save_pair(
    folder: Path,
    name: str,
    dtype: torch.dtype = torch.float32,
    *,
    rows: int | None = None,
    autocast: bool = False,
    **lora: Any,
) -> tuple[Path, Path]:
    """Saves a base model and an adapter of it; no tensor of the adapter is zero.

    Args:
        folder: Where.
        name: One of :func:`model`'s.
        dtype: Of the base.
        rows: What the vocabulary is resized to before the adapter is trained.
        autocast: Whether the adapter is float32 whatever the base, as PEFT makes it.
        **lora: Options of ``LoraConfig``.

    Returns:
        The folders of the base and of the adapter.
    """
    base, adapter = folder / "base", folder / "adapter"
    model(name, dtype).save_pretrained(base)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, **USUAL[name], **lora})
    with quiet():
        tuned = get_peft_model(load_base(base, rows), config, autocast_adapter_dtype=autocast)
    for parameter_name, parameter in tuned.named_parameters():
        if parameter.requires_grad or "lora_" in parameter_name:
            parameter.data = parameter.data + torch.randn_like(parameter) * 0.1
    with quiet():
        tuned.save_pretrained(adapter)
    return base, adapter


def load_base(folder: Path, rows: int | None = None, dtype: Any = "auto") -> Any:
    """A model from its folder, its vocabulary resized if need be."""
    with quiet():
        made = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        if rows is not None:
            torch.manual_seed(5)
            made.resize_token_embeddings(rows, mean_resizing=False)
        return made


def load_adapted(
    base: Path | torch.nn.Module, adapter: Path, rows: int | None = None, dtype: Any = "auto"
) -> Any:
    """The base with an adapter on it; fails unless PEFT used every tensor and missed none."""
    fresh = load_base(base, rows, dtype) if isinstance(base, Path) else copy.deepcopy(base)
    with quiet() as caught:
        adapted = PeftModel.from_pretrained(fresh, adapter, autocast_adapter_dtype=False).eval()
    told = [str(warning.message) for warning in caught]
    assert not [text for text in told if "missing adapter keys" in text], told
    weights = load_peft_weights(str(adapter), device="cpu")
    result = set_peft_model_state_dict(adapted, weights)
    assert result.unexpected_keys == []
    missing = [key for key in result.missing_keys if "lora_" in key or "modules_to_save" in key]
    assert missing == []
    return adapted


def lora_layers(adapted: torch.nn.Module) -> set[str]:
    """Paths in the base model of the modules that PEFT put an update on."""
    return {
        name.removeprefix("base_model.model.")
        for name, module in adapted.named_modules()
        if isinstance(module, LoraLayer) and not name.endswith(".base_layer")
    }


def logits(of: Any) -> torch.Tensor:
    """Next-token scores of a fixed input."""
    with torch.no_grad():
        return of(IDS).logits


@contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Collects warnings instead of showing them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
