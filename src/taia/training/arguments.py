"""A recipe in the terms of TRL and transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer as TransformersTrainer
from transformers import get_scheduler
from trl.trainer.sft_config import SFTConfig

from taia.errors import InputError, first_line
from taia.training.recipe import Recipe
from taia.training.techniques import mixed_precision


def arguments(recipe: Recipe, output: Path, *, cpu: bool = False) -> SFTConfig:
    """The trainer's arguments.

    Args:
        recipe: How to train.
        output: Where checkpoints to resume from go.
        cpu: Stay on the CPU, whatever there is.

    Raises:
        InputError: If transformers refuses a value.
    """
    cpu = cpu or not torch.accelerator.is_available()
    evaluates = recipe.validation is not None
    early = recipe.early_stopping_patience > 0
    eval_steps = recipe.eval_steps or None
    # The best of the evaluated steps is loaded in the end, so each of them is saved.
    save_steps = eval_steps if early and eval_steps else recipe.save_steps
    saves = "epoch" if early and not eval_steps else "steps"
    with _refused():
        args = SFTConfig(
            output_dir=str(output),
            seed=recipe.seed,
            num_train_epochs=recipe.num_train_epochs,
            max_steps=recipe.max_steps,
            per_device_train_batch_size=recipe.per_device_train_batch_size,
            per_device_eval_batch_size=recipe.per_device_train_batch_size,
            gradient_accumulation_steps=recipe.gradient_accumulation_steps,
            learning_rate=recipe.rate,
            lr_scheduler_type=recipe.lr_scheduler_type,
            warmup_steps=recipe.warmup_steps,
            weight_decay=recipe.weight_decay,
            max_grad_norm=recipe.max_grad_norm,
            optim=recipe.optim,
            bf16=mixed_precision(recipe),
            fp16=recipe.fp16,
            activation_checkpointing=recipe.activation_checkpointing,
            use_cpu=cpu,
            # The rows are tokens already, cut to their length and packed.
            completion_only_loss=True,
            max_length=None,
            padding_free=recipe.packing,
            dataloader_pin_memory=not cpu,
            eval_strategy=("steps" if eval_steps else "epoch") if evaluates else "no",
            eval_steps=eval_steps,
            save_strategy=saves if save_steps or early else "no",
            save_steps=save_steps or 500,
            save_total_limit=recipe.save_total_limit,
            load_best_model_at_end=early,
            metric_for_best_model="loss" if early else None,
            logging_steps=recipe.logging_steps,
            logging_nan_inf_filter=False,
            report_to=list(recipe.report_to) or "none",
            run_name=recipe.run_name,
            disable_tqdm=True,
        )
        _check_optimisation(args)
    return args


def _check_optimisation(args: SFTConfig) -> None:
    """Make an optimiser and a schedule of nothing.

    Some need packages, others settings that no recipe has; the trainer would say so only with data
    and model in memory.
    """
    nothing: Any = torch.nn.Linear(1, 1)
    TransformersTrainer.get_optimizer_cls_and_kwargs(args, nothing)
    if "layerwise" in args.optim or "galore" in args.optim or "apollo" in args.optim:
        raise ValueError(f"{args.optim} needs optim_target_modules, which recipes do not have")
    get_scheduler(
        args.lr_scheduler_type,
        torch.optim.SGD(nothing.parameters()),
        num_warmup_steps=1,
        num_training_steps=2,
    )


@contextmanager
def _refused() -> Iterator[None]:
    """What transformers does not accept is input that cannot be used."""
    try:
        yield
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise InputError(
            f"The recipe cannot be used: {first_line(error)}.",
            "Change that key; `taia train --help` has them.",
        ) from error
