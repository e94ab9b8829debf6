"""How to fine-tune, as a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoraRecipe:
    """How to fine-tune.

    Attributes:
        lora_r: Rank of each update.
        lora_alpha: The update counts ``lora_alpha / lora_r``.
        lora_dropout: Share of a LoRA layer's inputs dropped while it trains.
        learning_rate: AdamW's, at its highest.
        max_steps: Optimizer steps; the rows are gone through again as often as it takes.
        per_device_train_batch_size: Rows a step.
        lr_scheduler_type: How the learning rate falls, in transformers' names.
        warmup_steps: Steps in which it rises first.
        weight_decay: AdamW's.
        max_length: Rows are cut to this many tokens.
    """

    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    learning_rate: float = 1e-3
    max_steps: int = 60
    per_device_train_batch_size: int = 8
    lr_scheduler_type: str = "cosine"
    warmup_steps: int = 2
    weight_decay: float = 0.0
    max_length: int = 512
