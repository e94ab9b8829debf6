"""TRL's trainer, with a recipe's order of rows, learning rates, regulariser and loss."""

from __future__ import annotations

import inspect
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointWrapper
from torch.utils.data import Sampler
from transformers import EarlyStoppingCallback
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_callback import PrinterCallback
from trl.trainer.sft_trainer import SFTTrainer

from taia.errors import InputError, OutputError, RunError, first_line

if TYPE_CHECKING:
    from taia.training.baselines.regularisers import Regulariser

#: Epoch → the order of the rows in it.
EpochOrder = Callable[[int], Sequence[int]]


class Trainer(SFTTrainer):
    """SFTTrainer for rows that are tokens already.

    Args:
        epoch_order: Epoch → the order of the rows in it. The same in every process, and after a
            resume.
        learning_rates: Parameter → its own learning rate.
        regulariser: Adds its penalty to every step's loss.
        patience: Stop when the validation loss has not fallen so many times in a row; 0: never.
        **settings: SFTTrainer's.
    """

    def __init__(
        self,
        *,
        epoch_order: EpochOrder,
        learning_rates: Mapping[str, float],
        regulariser: Regulariser | None,
        patience: int,
        **settings: Any,  # noqa: ANN401 - as its parent has them
    ) -> None:
        self.epoch_order = epoch_order
        self._learning_rates = learning_rates
        self._regulariser = regulariser
        super().__init__(**settings)
        # It prints every log to stdout, which is for results.
        self.remove_callback(PrinterCallback)
        if patience:
            self.add_callback(EarlyStoppingCallback(patience))
        self._saves_head = self.args.device.type == "cpu" and _keeps_logits(self.model)

    def _send_telemetry(self) -> None:
        """Nothing is sent anywhere."""

    def create_model_card(self, *_: object, **__: object) -> None:
        """The output gets a card of ours, its checkpoints none."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:  # noqa: ANN401
        return _Ordered(self.epoch_order)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The recipe's optimiser, with a group for each learning rate.

        Raises:
            InputError: If it is not installed.
        """
        try:
            optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"optim cannot be {self.args.optim!s}: {first_line(error)}.",
                "Install what it needs, or use adamw_torch.",
            ) from error
        if self._learning_rates:
            trained: Any = model or self.model
            names = {id(p): _unwrapped(name) for name, p in trained.named_parameters()}
            groups = optimizer.param_groups[:]
            optimizer.param_groups.clear()
            for group in groups:
                by_rate: dict[float, list[torch.nn.Parameter]] = {}
                for parameter in group["params"]:
                    rate = self._learning_rates.get(names[id(parameter)], group["lr"])
                    by_rate.setdefault(rate, []).append(parameter)
                for rate, parameters in by_rate.items():
                    optimizer.add_param_group({**group, "params": parameters, "lr": rate})
        return optimizer

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:  # noqa: ANN401 - as its parent has it
        """The mean loss of the answers' tokens, and in training what else the recipe adds."""
        adds = model.training and not return_outputs
        penalty = self._penalty(model) if adds else None  # FSDP wants it before the forward pass
        if return_outputs or not self._saves_head or self.aux_loss_enabled:
            found = super().compute_loss(  # type: ignore[no-untyped-call]
                model, inputs, return_outputs, num_items_in_batch
            )
        else:
            found = self._loss(model, inputs, num_items_in_batch)
        if not adds:
            return found
        # The trainer adds the batches of a step up; what does not depend on tokens is their mean.
        summed = num_items_in_batch is not None
        batches = self.current_gradient_accumulation_steps if summed else 1
        for extra in (penalty, self._balance(model)):
            if extra is not None:
                found = found + extra.to(found.device) / batches
        return found

    def _penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        return None if self._regulariser is None else self._regulariser.penalty(model)

    def _balance(self, model: torch.nn.Module) -> torch.Tensor | None:
        """MoLoRA's load-balancing loss."""
        tuner: Any = getattr(self.accelerator.unwrap_model(model), "base_model", None)
        coefficient = getattr(tuner, "router_aux_loss_coef", 0.0)
        return coefficient * tuner.router_aux_loss() if coefficient else None

    def _loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None,
    ) -> torch.Tensor:
        """The loss, with the head applied only where an answer's token is predicted.

        Off a GPU, TRL applies it everywhere. With a vocabulary of 49,152 on a small model that is
        half of the time.
        """
        next_tokens = inputs["labels"][:, 1:]
        keep = (next_tokens != -100).any(dim=0).nonzero().squeeze(1)
        rest = {key: value for key, value in inputs.items() if key != "labels"}
        logits = model(**rest, logits_to_keep=keep, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), next_tokens[:, keep].flatten(), reduction="sum"
        )
        count = (next_tokens != -100).sum() if num_items_in_batch is None else num_items_in_batch
        loss = loss / torch.as_tensor(count).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # the gradients are averaged over them
        return loss

    @property
    def losses(self) -> list[float]:
        """The loss of each step written down."""
        return [float(row["loss"]) for row in self.state.log_history if "loss" in row]

    def finished_model(self) -> torch.nn.Module:
        """The trained model, with its own forward pass: TRL has put one of its own on it."""
        inner: Any = self.model
        vars(inner.get_base_model() if hasattr(inner, "get_base_model") else inner).pop(
            "forward", None
        )
        model: torch.nn.Module = inner.eval()
        return model

    def save_finished(self, folder: Path) -> None:
        """Write the model, gathered from all processes; each of them calls this."""
        plugin = self.accelerator.state.fsdp_plugin if self.is_fsdp_enabled else None
        if plugin is not None:
            plugin.set_state_dict_type("FULL_STATE_DICT")
            _unwrap_checkpointing(self.model)
        self.save_model(str(folder))
        (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)  # a pickle; the record says more
        self.accelerator.wait_for_everyone()

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:  # noqa: ANN401
        """Write a checkpoint to resume from, whole or not at all.

        Raises:
            OutputError: If it cannot be written.
        """
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[no-untyped-call]
        except (OSError, RuntimeError, SafetensorError) as error:  # torch.save's are RuntimeErrors
            step, output = self.state.global_step, Path(str(self.args.output_dir))
            if self.args.should_save:
                shutil.rmtree(output / f"checkpoint-{step}", ignore_errors=True)
            raise OutputError(
                f"The checkpoint of step {step} could not be written to {output}: "
                f"{first_line(error)}.",
                "Check the disk; then go on from the checkpoint before with --resume.",
            ) from error

    def training_step(self, *args: Any, **settings: Any) -> torch.Tensor:  # noqa: ANN401
        """One batch, forwards and backwards.

        Raises:
            RunError: If its loss is not a number; the message names the step and the batch.
        """
        loss: torch.Tensor = super().training_step(*args, **settings)  # type: ignore[no-untyped-call]
        if not math.isfinite(loss.item()):
            raise RunError(
                f"Training diverged: the loss of step {self.state.global_step + 1} is "
                f"{loss.item()} ({self._where()}).",
                "Lower --learning-rate or --max-grad-norm, train in another --dtype, or look at "
                "these rows.",
            )
        return loss

    def _where(self) -> str:
        """Which rows the current step is made of."""
        size = self._train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        per_epoch = math.ceil(len(self.epoch_order(0)) / size)
        epoch, step = divmod(self.state.global_step, per_epoch)
        rows = self.epoch_order(epoch)[step * size : (step + 1) * size]
        return f"rows {', '.join(str(row + 1) for row in rows)} of the training data"


class _Ordered(Sampler[int]):
    """Rows in an order that each epoch has of its own."""

    def __init__(self, epoch_order: EpochOrder) -> None:
        self._epoch_order = epoch_order
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(self._epoch_order(self._epoch))

    def __len__(self) -> int:
        return len(self._epoch_order(self._epoch))


def _keeps_logits(inner: Any) -> bool:  # noqa: ANN401 - with an adapter around it or without
    """Whether a model can apply its head to some positions alone."""
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    return "logits_to_keep" in inspect.signature(type(inner).forward).parameters


def _unwrapped(name: str) -> str:
    """A parameter's name without what FSDP's wrappers put into it."""
    for wrapper in ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module."):
        name = name.replace(wrapper, "")
    return name


def _unwrap_checkpointing(model: Any) -> None:  # noqa: ANN401 - with an adapter around it or without
    """Takes FSDP's wrappers for activation checkpointing off.

    PEFT 0.21 looks for an adapter's tensors under its modules' names, of which these are a part and
    of the tensors' not: it would save an adapter without a tensor, and say nothing.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, CheckpointWrapper):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, module._checkpoint_wrapped_module)
