"""Fine-tune every linear layer with LoRA, through TRL and PEFT."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

from taia.training.recipe import LoraRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: ``[{"role": "user", "content": "…"}, …]``
Messages: TypeAlias = list[dict[str, str]]
#: Called after each step with its number, how many there will be, and its loss.
Progress: TypeAlias = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class Training:
    """What training gave.

    Attributes:
        model: The model with its adapter, in evaluation mode.
        losses: The loss of each step, in nats per completion token.
    """

    model: PeftModel
    losses: tuple[float, ...]


def train_lora(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[dict[str, Messages]],
    recipe: LoraRecipe,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Training:
    """Fine-tune all linear layers but the head; only completions count towards the loss.

    The model trains in the dtype and on the device it has, and is wrapped in place. The same model,
    rows, recipe, seed, library versions and number of threads give the same adapter.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer. Without a chat template the messages' plain text is used.
        rows: ``{"prompt": messages, "completion": messages}`` each.
        recipe: How.
        seed: For the adapter's first values, the order of the rows and dropout.
        progress: Told after each step.

    Returns:
        The tuned model, and what the loss was.
    """
    set_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        target_modules="all-linear",
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
    )
    device = model.device
    tuned = get_peft_model(model, config)
    data = rows if tokenizer.chat_template else [_plain(row) for row in rows]
    losses: list[float] = []
    with tempfile.TemporaryDirectory(prefix="taia-") as scratch:
        trainer = _Trainer(
            model=tuned,
            args=_arguments(recipe, scratch, seed, device),
            train_dataset=Dataset.from_list(list(data)),
            processing_class=tokenizer,
            callbacks=[_Report(losses, progress)],
        )
        # It prints every log to stdout, which is for results.
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train()
        finally:
            # TRL leaves its own forward on the model; the class's is below it.
            vars(model).pop("forward", None)
    return Training(tuned.eval(), tuple(losses))


def _arguments(recipe: LoraRecipe, scratch: str, seed: int, device: torch.device) -> SFTConfig:
    return SFTConfig(
        output_dir=scratch,
        seed=seed,
        max_steps=recipe.max_steps,
        per_device_train_batch_size=recipe.per_device_train_batch_size,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler_type,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_length=recipe.max_length,
        # TRL's own defaults are for large models on a GPU.
        bf16=False,
        activation_checkpointing=False,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=False,
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
    )


class _Trainer(SFTTrainer):
    """SFTTrainer that applies the head only where a completion's token is predicted.

    Off a GPU, TRL applies it everywhere. With a vocabulary of 49,152 on a small model that is half
    of the time.
    """

    def _send_telemetry(self) -> None:
        """Nothing is sent anywhere."""

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:  # noqa: ANN401 - as its parent has it
        if return_outputs or not _keeps_logits(model):
            return super().compute_loss(  # type: ignore[no-untyped-call]
                model, inputs, return_outputs, num_items_in_batch
            )
        next_tokens = inputs["labels"][:, 1:]
        keep = (next_tokens != -100).any(dim=0).nonzero().squeeze(1)
        rest = {key: value for key, value in inputs.items() if key != "labels"}
        logits = model(**rest, logits_to_keep=keep, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), next_tokens[:, keep].flatten(), reduction="sum"
        )
        count = (next_tokens != -100).sum() if num_items_in_batch is None else num_items_in_batch
        return loss / torch.as_tensor(count).clamp(min=1)


def _keeps_logits(model: torch.nn.Module) -> bool:
    inner: Any = model
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    return "logits_to_keep" in inspect.signature(type(inner).forward).parameters


class _Report(TrainerCallback):
    """Collects the losses and tells of each step."""

    def __init__(self, losses: list[float], progress: Progress | None) -> None:
        self._losses = losses
        self._progress = progress

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if logs and "loss" in logs:
            self._losses.append(float(logs["loss"]))
            if self._progress:
                self._progress(state.global_step, state.max_steps, self._losses[-1])


def _plain(row: dict[str, Messages]) -> dict[str, str]:
    """A row as text, in the words that scoring uses for a model without a chat template."""
    prompt = "\n".join(message["content"] for message in row["prompt"])
    completion = "\n".join(message["content"] for message in row["completion"])
    return {"prompt": f"Question: {prompt}\nAnswer:", "completion": f" {completion}"}
