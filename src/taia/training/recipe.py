"""A recipe: everything that decides what a training run does, one key a setting.

Keys are named as TRL, PEFT and transformers name them. A recipe comes from a preset, a YAML file
and the flags of ``taia train``; flags win over the file, the file over the preset
(:mod:`taia.training.reading`). Imports no torch, so that ``taia train --help`` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Technique: TypeAlias = Literal["lora", "full", "qlora", "molora"]
Dtype: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
#: How several processes share the work.
Sharding: TypeAlias = Literal["none", "ddp", "fsdp", "zero3"]
#: How sources follow one another; the first source is the in-domain one.
Mixing: TypeAlias = Literal["uniform", "annealed", "in-domain-first", "in-domain-last"]

#: Learning rate where a recipe gives none: the paper's (appendix, experiment details).
LEARNING_RATES: Final[Mapping[str, float]] = {
    "lora": 2e-4,
    "qlora": 2e-4,
    "molora": 2e-4,
    "full": 5e-5,
}


def _key(default: object, group: str, text: str, **more: str) -> Any:  # noqa: ANN401 - a field of any type
    """A setting: its default, the heading it stands under in the help, and what it does."""
    metadata = {"group": group, "help": text, **more}
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


_MODEL, _TECHNIQUE, _DATA = "Model", "Technique", "Data"
_OPTIMISER, _RUN, _BASELINE = "Optimisation", "Running", "Baselines of the paper"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to fine-tune. Every attribute is a key of a recipe file and a flag of ``taia train``.

    The defaults are the paper's for LoRA. What a key does stands beside it, and in
    ``taia train --help``.
    """

    model_name_or_path: str = _key("", _MODEL, "A folder or a hub name as org/name[@revision].")
    output_dir: str = _key("", _MODEL, "The folder to write.", flag="--output", short="-o")
    dtype: Dtype = _key(
        "auto", _MODEL, "Of the weights: by default bfloat16 on a GPU that has it, else float32."
    )
    attn_implementation: str | None = _key(
        None, _MODEL, "sdpa, eager, flash_attention_2, …, as transformers knows them."
    )
    declare: dict[str, str] = _key(
        {},
        _MODEL,
        "Say what tensors are that taia does not know, as 'model.layers.*.glue.*=mlp'. Repeatable.",
        form="PATTERN=COMPONENT",
    )

    technique: Technique = _key("lora", _TECHNIQUE, "What is trained of each weight.")
    train: str = _key(
        "all", _TECHNIQUE, "Which parameters: a selection, such as attention (TOA) or mlp (TOF)."
    )
    lora_r: int = _key(16, _TECHNIQUE, "Rank of each update.")
    lora_alpha: float = _key(32, _TECHNIQUE, "The update counts lora_alpha / lora_r.")
    lora_dropout: float = _key(0.05, _TECHNIQUE, "Share of an adapted layer's inputs dropped.")
    use_rslora: bool = _key(False, _TECHNIQUE, "The update counts lora_alpha / √lora_r.")
    use_dora: bool = _key(False, _TECHNIQUE, "Weight-decomposed LoRA.")
    lora_ranks: dict[str, int] = _key(
        {}, _TECHNIQUE, "Another rank for a selection, such as mlp=4; lora_alpha / rank stays."
    )
    learning_rates: dict[str, float] = _key(
        {}, _OPTIMISER, "Another learning rate for a selection, such as attention=1e-4."
    )
    num_experts: int = _key(4, _TECHNIQUE, "MoLoRA: LoRA experts on each FFN linear.")
    top_k: int = _key(1, _TECHNIQUE, "MoLoRA: experts that each token is sent to.")
    shared_expert: int = _key(
        0, _TECHNIQUE, "MoLoRA: rank of an expert for every token, in multiples of lora_r; 0: none."
    )
    routing: Literal["softmax_topk", "topk_softmax"] = _key(
        "softmax_topk", _TECHNIQUE, "MoLoRA: softmax over all experts, or as the authors have it."
    )
    router_aux_loss_coef: float = _key(0.01, _TECHNIQUE, "MoLoRA: weight of the balancing loss.")
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = _key("nf4", _TECHNIQUE, "QLoRA: 4-bit type.")
    use_bnb_nested_quant: bool = _key(True, _TECHNIQUE, "QLoRA: quantise the scales, too.")

    data: list[str] = _key(
        [], _DATA, "A file, a folder or a hub name, with :WEIGHT to mix several. Repeatable."
    )
    format: str | None = _key(None, _DATA, "Of the rows, where it cannot be told from their keys.")
    validation: str | None = _key(
        None, _DATA, "Held out: a share (0.05), a number of rows (200), or a file."
    )
    max_samples: int | None = _key(None, _DATA, "At most so many rows, of all sources together.")
    mixing: Mixing = _key("uniform", _DATA, "How the sources' shares change over the run.")
    max_length: int = _key(3072, _DATA, "Longer rows are cut to so many tokens.")
    packing: bool = _key(False, _DATA, "Fill rows with several documents, apart from each other.")
    on_bad_row: Literal["stop", "skip"] = _key("stop", _DATA, "What to do with wrong rows.")
    train_on_prompt: bool = _key(False, _DATA, "Let the loss count prompts as well as answers.")

    learning_rate: float | None = _key(
        None, _OPTIMISER, "AdamW's highest. By default 2e-4, for full fine-tuning 5e-5."
    )
    num_train_epochs: float = _key(1.0, _OPTIMISER, "How often to go through the data.")
    max_steps: int = _key(-1, _OPTIMISER, "Stop after so many steps instead.")
    per_device_train_batch_size: int = _key(8, _OPTIMISER, "Rows per step and process.")
    gradient_accumulation_steps: int = _key(1, _OPTIMISER, "Batches added up to one step.")
    lr_scheduler_type: str = _key("cosine", _OPTIMISER, "How the learning rate falls.")
    warmup_steps: float = _key(0.03, _OPTIMISER, "Steps of its rise; below 1, a share of all.")
    weight_decay: float = _key(0.0, _OPTIMISER, "AdamW's.")
    max_grad_norm: float = _key(1.0, _OPTIMISER, "Longer gradients are shortened to this.")
    optim: str = _key("adamw_torch", _OPTIMISER, "Optimiser, as transformers names them.")
    bf16: bool | None = _key(
        None, _OPTIMISER, "Mixed precision; by default where a GPU has it and weights are float32."
    )
    fp16: bool = _key(False, _OPTIMISER, "Mixed precision for older GPUs.")
    activation_checkpointing: bool = _key(
        False, _OPTIMISER, "Save memory by computing activations again."
    )

    regulariser: Literal["none", "l2", "ewc"] = _key(
        "none", _BASELINE, "Pull the weights towards the base: evenly, or by Fisher information."
    )
    regulariser_strength: float = _key(0.0, _BASELINE, "Its λ.")
    fisher_data: list[str] = _key(
        [], _BASELINE, "EWC: general data that the Fisher information is measured on. Repeatable."
    )
    fisher_samples: int = _key(200, _BASELINE, "EWC: rows of it.")
    sdft: bool = _key(
        False, _BASELINE, "Self-distillation: the base first rewrites each answer (SDFT)."
    )

    seed: int = _key(0, _RUN, "Of initial values, the order of rows, and dropout.")
    logging_steps: int = _key(1, _RUN, "Write down the loss every so many steps.")
    save_steps: int = _key(500, _RUN, "Save to resume from every so many steps; 0: never.")
    save_total_limit: int = _key(2, _RUN, "Keep at most so many of them.")
    eval_steps: int = _key(0, _RUN, "Validate every so many steps; 0: after each epoch.")
    early_stopping_patience: int = _key(
        0, _RUN, "Stop when it has not fallen so many times in a row; 0: never."
    )
    report_to: list[str] = _key([], _RUN, "tensorboard, wandb, trackio, mlflow. Repeatable.")
    run_name: str | None = _key(None, _RUN, "The run's name there.")

    @property
    def rate(self) -> float:
        """The learning rate: the recipe's, or the technique's."""
        return LEARNING_RATES[self.technique] if self.learning_rate is None else self.learning_rate

    @property
    def is_adapter(self) -> bool:
        """Whether training gives an adapter rather than a whole checkpoint."""
        return self.technique != "full"

    @property
    def held_out(self) -> float | int | str | None:
        """What ``validation`` means: a share, a number of rows, or a source."""
        text = self.validation
        for number in (int, float):
            try:
                return number(text) if text is not None else None
            except ValueError:
                continue
        return text
