"""A model made ready to train: whole, or with an adapter put on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from taia.anatomy import Anatomy
from taia.checkpoint.locate import Located
from taia.errors import InputError
from taia.loading.models import dtype_called, load_model
from taia.training.recipe import Recipe
from taia.training.trainable import Targets, freeze_but, targets

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Ready:
    """A model that is ready to train.

    Attributes:
        model: It, with an adapter around it or without.
        anatomy: Of the model before.
        trained: Numbers that train.
        total: Numbers there are, the adapter's own included.
        notes: What a careful reader would want to know, one sentence each.
    """

    model: PreTrainedModel | PeftModel
    anatomy: Anatomy
    trained: int
    total: int
    notes: tuple[str, ...]


def weights_dtype(recipe: Recipe) -> torch.dtype:
    """The dtype of the weights in memory.

    By default bfloat16 for adapters on a GPU that has it, where the weights stay as they are, else
    float32: a full fine-tuning's steps are too small for bfloat16.
    """
    if recipe.dtype != "auto":
        return dtype_called(recipe.dtype)
    return torch.bfloat16 if recipe.is_adapter and _gpu_has_bf16() else torch.float32


def mixed_precision(recipe: Recipe) -> bool:
    """Whether activations are computed in bfloat16."""
    if recipe.bf16 is not None:
        return recipe.bf16
    return not recipe.fp16 and _gpu_has_bf16()


def load(recipe: Recipe, place: Located) -> PreTrainedModel:
    """The base model as the technique wants it in memory.

    Raises:
        CheckpointError: If it cannot be loaded.
        InputError: If QLoRA is asked for and bitsandbytes is not installed.
    """
    options: dict[str, Any] = {"attn_implementation": recipe.attn_implementation}
    if recipe.technique == "qlora":
        options["quantization_config"] = _four_bit(recipe)
    return load_model(place, weights_dtype(recipe), **options)


def make_ready(model: PreTrainedModel, recipe: Recipe, revision: str | None = None) -> Ready:
    """Freeze what does not train, and put the adapter on.

    Args:
        model: The base. It is wrapped in place.
        recipe: How.
        revision: Of the base on the hub, which the adapter then names as its own.

    Raises:
        InputError: If the technique cannot be applied to this model.
        SelectionError: If a selection matches nothing that can train.
    """
    anatomy = Anatomy.of_model(model, recipe.declare)
    if recipe.technique == "full":
        trained, total = freeze_but(model, recipe.train, anatomy)
        return Ready(model, anatomy, trained, total, ())
    wanted = targets(model, recipe.train, recipe.lora_ranks, anatomy)
    notes = []
    if wanted.parameters and (recipe.lora_dropout or recipe.technique == "molora"):
        why = "MoLoRA" if recipe.technique == "molora" else "LoRA with dropout"
        notes.append(
            f"The routed experts are fused into {len(wanted.parameters)} tensors, which {why} "
            "cannot adapt; they stay as they are. `--technique lora --lora-dropout 0` trains them."
        )
        wanted = Targets(wanted.modules, (), wanted.experts, wanted.ranks)
    config = _molora(recipe, wanted) if recipe.technique == "molora" else _lora(recipe, wanted)
    if recipe.technique == "qlora":
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(  # type: ignore[no-untyped-call]
            model, use_gradient_checkpointing=recipe.activation_checkpointing
        )
    from peft import get_peft_model

    tuned: Any = get_peft_model(model, config, revision=revision)
    trained, total = tuned.get_nb_trainable_parameters()
    return Ready(tuned, anatomy, trained, total, tuple(notes))


def _lora(recipe: Recipe, wanted: Targets) -> PeftConfig:
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,  # type: ignore[arg-type] # PEFT takes fractions as well
        lora_dropout=recipe.lora_dropout,
        use_rslora=recipe.use_rslora,
        use_dora=recipe.use_dora,
        target_modules=list(wanted.modules),
        target_parameters=list(wanted.parameters) or None,
        **_patterns(recipe, wanted),
    )


def _molora(recipe: Recipe, wanted: Targets) -> PeftConfig:
    from taia.molora import MoloraConfig

    return MoloraConfig(
        task_type="CAUSAL_LM",
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        use_rslora=recipe.use_rslora,
        target_modules=list(wanted.modules),
        expert_modules=list(wanted.experts),
        num_experts=recipe.num_experts,
        top_k=recipe.top_k,
        shared_expert=recipe.shared_expert,
        routing=recipe.routing,
        router_aux_loss_coef=recipe.router_aux_loss_coef,
        **_patterns(recipe, wanted),
    )


def _patterns(recipe: Recipe, wanted: Targets) -> dict[str, Any]:
    """PEFT's patterns for other ranks; each update counts as much as with the recipe's rank."""
    if not wanted.ranks:
        return {}
    ranks = _by_projection(wanted)
    power = 0.5 if recipe.use_rslora else 1.0
    alphas = {name: recipe.lora_alpha * (r / recipe.lora_r) ** power for name, r in ranks.items()}
    return {"rank_pattern": ranks, "alpha_pattern": {k: _whole(a) for k, a in alphas.items()}}


def _by_projection(wanted: Targets) -> dict[str, int]:
    """Ranks by the modules' last names where these tell, else by their full names."""
    by_last: dict[str, set[int | None]] = {}
    for name in wanted.modules:
        by_last.setdefault(name.rpartition(".")[2], set()).add(wanted.ranks.get(name))
    short: dict[str, int] = {}
    for name, rank in wanted.ranks.items():
        last = name.rpartition(".")[2]
        short[last if len(by_last[last]) == 1 else name] = rank
    return short


def _whole(value: float) -> float:
    return int(value) if math.isclose(value, round(value)) else value


def _four_bit(recipe: Recipe) -> object:
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise InputError(
            "QLoRA needs bitsandbytes, which is not installed.",
            "Install it (pip install 'taia[qlora]'), or use --technique lora.",
        )
    from transformers import BitsAndBytesConfig

    dtype = torch.bfloat16 if _gpu_has_bf16() else torch.float16
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=recipe.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=recipe.use_bnb_nested_quant,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype,  # FSDP splits tensors of floats only
    )


def _gpu_has_bf16() -> bool:
    if not torch.accelerator.is_available():
        return False
    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported()
