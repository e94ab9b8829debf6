"""A tiny Llama with a MoLoRA adapter whose every tensor is random."""

from __future__ import annotations

from typing import Any

import torch
from peft import get_peft_model

import tiny_models
from taia.molora import MoloraConfig

#: MedCare's layout.
MEDCARE = {"num_experts": 8, "top_k": 2, "shared_expert": 2}


def molora(base: Any = None, **settings: Any) -> Any:
    """The model with an adapter that does something."""
    settings = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", **settings}
    base = tiny_models.llama() if base is None else base
    torch.manual_seed(11)
    tuned = get_peft_model(base, MoloraConfig(**settings))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name or ("experts" in name and name.endswith("B")):
            torch.nn.init.normal_(parameter, std=0.2)
    return tuned.eval()
