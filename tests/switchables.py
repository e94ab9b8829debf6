"""Switchable models of every kind, each with an account of its ends from elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from peft import get_peft_model
from transformers import LlamaForCausalLM

import tiny_adapters
import tiny_models
import tiny_molora
from taia import SwitchableModel

IDS = torch.arange(24).reshape(2, 12)

#: What this version of transformers calls the cache of a pass (``cache`` since 5.24).
CACHE = next(
    name
    for name in ("cache", "past_key_values")
    if name in inspect.signature(LlamaForCausalLM.forward).parameters
)


def noisy(model: Any, within: str = "layers.") -> Any:
    """The model after a full fine-tuning of the tensors whose names contain something."""
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if within in name:
            parameter.data += torch.randn_like(parameter) * 0.1
    return model.eval()


def adapted(family: str, **options: Any) -> Any:
    """A model of :mod:`tiny_adapters` with an adapter whose B is not zero."""
    from peft import LoraConfig

    settings = {"r": 4, "task_type": "CAUSAL_LM", **tiny_adapters.USUAL[family], **options}
    with tiny_adapters.quiet():
        model: Any = get_peft_model(tiny_adapters.model(family), LoraConfig(**settings))
    torch.manual_seed(11)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def pair(family: str, within: str = "") -> SwitchableModel:
    """A base and a checkpoint tuned from it."""
    tuned = noisy(tiny_adapters.model(family), within)
    return SwitchableModel.wrap(tiny_adapters.model(family), tuned)


#: Kind → a switchable model of it, its base, and its tuned model without taia.
KINDS: dict[str, tuple[Callable[[], SwitchableModel], Callable[[], Any], Callable[[], Any]]] = {
    **{
        f"lora {family}": (
            lambda family=family: SwitchableModel.wrap(adapted(family)),
            lambda family=family: tiny_adapters.model(family),
            lambda family=family: adapted(family),
        )
        for family in ("llama", "tied-llama", "gpt2", "qwen3-moe", "mixtral")
    },
    "molora": (
        lambda: SwitchableModel.wrap(tiny_molora.molora(**tiny_molora.MEDCARE)),
        tiny_models.llama,
        lambda: tiny_molora.molora(**tiny_molora.MEDCARE),
    ),
    **{
        f"checkpoint {family}": (
            lambda family=family: pair(family),
            lambda family=family: tiny_adapters.model(family),
            lambda family=family: noisy(tiny_adapters.model(family), ""),
        )
        for family in ("llama", "tied-llama", "gpt2", "qwen3-moe")
    },
}


@torch.no_grad()
def logits(model: Any, ids: torch.Tensor = IDS, **options: Any) -> torch.Tensor:
    """Scores of every next token."""
    found: torch.Tensor = model(ids, **options).logits
    return found


def in_mode(model: Any, text: str) -> torch.Tensor:
    """Scores of every next token in a mode or selection."""
    with SwitchableModel.wrap(model).mode(text):
        return logits(model)
