"""Penalties that hold what trains near the base: L2 and elastic weight consolidation (EWC).

Both are the baselines the paper compares with (Jiang et al. 2024, arXiv 2405.20192)::

    L2     λ Σ (θ − θ_base)²
    EWC    λ Σ F (θ − θ_base)²      F: the Fisher information's diagonal, from ``fisher``

EWC is Kirkpatrick et al. 2017 (arXiv 1612.00796), whose λ is twice this one. The sums are over
weights of the model, not of the adapter: for LoRA θ − θ_base is s·BA, for DoRA the weight it stands
for less the base's, and for a module that is saved whole the difference to its original. So one λ
means the same for an adapter and for full fine-tuning, and one Fisher serves both.

Every term is recomputed in the backward pass, so that no more than one weight's difference exists
at a time. Terms are summed in float32, whatever the parameters are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from taia.errors import DataError, InputError, MismatchError, RunError
from taia.training.baselines.updates import WeightUpdate, gathered, like, updates, wide

#: Told after each example or batch how many there were.
BatchProgress: TypeAlias = Callable[[int], None]


class Regulariser(Protocol):
    """A term of the loss that depends on the parameters alone."""

    def penalty(self, model: nn.Module) -> Tensor:
        """The term, to be added to the loss.

        It does not depend on the batch. Where gradients are accumulated over several batches, add
        it divided by their number to each, or whole to one of them.

        Under FSDP, call it before the model's forward pass: the last block stays gathered after.

        Args:
            model: The model the regulariser was made for, or a wrapper around it.

        Returns:
            A scalar, in float32 (float64 where the parameters are), with a gradient.

        Raises:
            MismatchError: If something trains that did not when the regulariser was made.
        """
        ...


def l2(
    model: nn.Module, strength: float, *, device: torch.device | str | None = None
) -> Regulariser:
    """Squared distance to the base: λ Σ (θ − θ_base)².

    For LoRA it is computed from the factors, ‖s·BA‖² = s² Σ (BᵀB)∘(AAᵀ), without the product.

    Args:
        model: Untrained: the parameters that train are at the base's values, or are adapters.
        strength: λ, not negative.
        device: Where to keep the base's values of parameters that are trained themselves, in their
            own dtype; None: beside them. Adapters need no copy.

    Returns:
        The regulariser; its penalty is 0 until the model has moved.

    Raises:
        InputError: If λ is negative or not finite, or nothing trains.
        AdapterError: If an adapter's update is not a difference of weights that is known.
    """
    return _Towards(_strength(strength), _base(model, device), None)


def ewc(
    model: nn.Module,
    strength: float,
    fisher: Mapping[str, Tensor],
    *,
    device: torch.device | str | None = None,
) -> Regulariser:
    """Distance to the base in the Fisher metric: λ Σ F (θ − θ_base)².

    Args:
        model: As for ``l2``.
        strength: λ, not negative.
        fisher: What ``fisher`` gave for this model, or for its base without adapters: for each
            weight of the base its importance, of the weight's shape. Weights that do not train are
            passed over.
        device: As for ``l2``, and where F is kept.

    Returns:
        The regulariser.

    Raises:
        InputError: If λ is negative or not finite, or nothing trains.
        AdapterError: If an adapter's update is not a difference of weights that is known.
        MismatchError: If F lacks a weight that trains, or has it in another shape.
    """
    kept = {}
    for update in _trained(model):
        importance = fisher.get(update.name)
        if importance is None:
            raise MismatchError(
                f"The Fisher information lacks {update.name}.",
                "Compute it for the model that trains, or for its base with every weight trained.",
            )
        if importance.shape != update.shape:
            raise MismatchError(
                f"The Fisher information of {update.name} has the shape {tuple(importance.shape)}, "
                f"the weight {tuple(update.shape)}.",
                "Compute it for the model that trains.",
            )
        kept[update.name] = importance if device is None else importance.to(device)
    return _Towards(_strength(strength), _base(model, device), kept)


def fisher(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    progress: BatchProgress | None = None,
    *,
    per: Literal["example", "batch"] = "example",
) -> dict[str, Tensor]:
    """The diagonal of the empirical Fisher information: the mean squared gradient of the loss.

    Each example's gradient is squared, then the squares are averaged. The paper's authors square
    the gradient of a batch's mean loss instead: ``per="batch"``. Where examples disagree their
    gradients cancel in the mean, so that for n examples it is up to n times smaller; the two need
    different λ, and rank the weights differently.

    Adapters are switched off and dropout too; the model is as it was afterwards, gradients
    included. The loss is the model's own: the mean over an example's labelled tokens.

    Args:
        model: At the base's values. Of a model with adapters, the weights they adapt are measured;
            otherwise the parameters that train.
        batches: General data, as the model takes it: ``input_ids``, ``labels``, …, of shape
            (examples, tokens).
        progress: Told the number of examples (of batches, ``per="batch"``) so far.
        per: Whose gradient is squared.

    Returns:
        For each weight, by its name in the base, the mean of its squared gradients: float32, of
        the weight's shape, on its device.

    Raises:
        InputError: If nothing trains.
        AdapterError: If a weight is quantised, or an adapter's update is not known.
        DataError: If there is no data, or an example has no label to predict.
        RunError: If a loss is not finite.
    """
    weights = {update.name: update.base_weight() for update in _trained(model)}
    sums = {name: torch.zeros_like(wide(weight)) for name, weight in weights.items()}
    device = next(iter(weights.values())).device
    count = 0
    with _at_base(model, weights.values()):
        for sample in _samples(batches, per):
            count += 1
            loss = model(**{key: value.to(device) for key, value in sample.items()}).loss
            if not torch.isfinite(loss):
                raise RunError(
                    f"The loss of {per} {count} is {loss.item()}.",
                    "Compute the Fisher information in float32 or bfloat16.",
                )
            gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            for name, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:  # an expert that no token went to
                    sums[name] += wide(gradient).square()
            if progress:
                progress(count)
    if not count:
        raise DataError("There is no data to compute the Fisher information from.", "Give some.")
    return {name: total / count for name, total in sums.items()}


@dataclass(frozen=True, slots=True)
class _Towards:
    """λ Σ F (θ − θ_base)², with F = 1 where there is none."""

    strength: float
    base: Mapping[str, Tensor]
    fisher: Mapping[str, Tensor] | None

    def penalty(self, model: nn.Module) -> Tensor:
        """The term, to be added to the loss."""
        terms = [self._term(update) for update in _trained(model)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term.to(total.device)
        return self.strength * total

    def _term(self, update: WeightUpdate) -> Tensor:
        if update.needs_base and update.name not in self.base:
            raise MismatchError(
                f"{update.name} trains, but did not when the regulariser was made.",
                "Make the regulariser after choosing what trains.",
            )
        base = self.base.get(update.name)
        weight = self.fisher[update.name] if self.fisher is not None else None

        def term(*parameters: Tensor) -> Tensor:
            if weight is None:
                return gathered(update.square(parameters, like(base, parameters[0])))
            delta = update.delta(parameters, like(base, parameters[0]))
            importance = like(weight, delta)
            assert importance is not None
            return gathered((delta.square() * importance).sum())

        # Recomputed in the backward pass: only the parameters stay in memory meanwhile.
        done = checkpoint(term, *update.parameters(), use_reentrant=False, preserve_rng_state=False)
        assert isinstance(done, Tensor)
        return done


def _strength(value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"A regulariser's strength is {value}.", "Give a number of at least 0.")
    return float(value)


def _trained(model: nn.Module) -> list[WeightUpdate]:
    found = list(updates(model))
    if not found:
        raise InputError("Nothing of the model trains.", "Choose what trains first.")
    return found


def _base(model: nn.Module, device: torch.device | str | None) -> dict[str, Tensor]:
    return {
        update.name: update.base_weight().detach().to(device, copy=True)
        for update in _trained(model)
        if update.needs_base
    }


@contextmanager
def _at_base(model: nn.Module, weights: Iterable[Tensor]) -> Iterator[None]:
    """The base itself, in evaluation mode, with gradients for some weights and for no others."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    trains = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    adapted: list[Any] = [
        module
        for module in model.modules()
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
        and not module.disable_adapters
    ]
    try:
        model.eval()
        for module in adapted:
            module.enable_adapters(False)
        for parameter, _ in trains:
            parameter.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)
        yield
    finally:
        for module in adapted:
            module.enable_adapters(True)
        for parameter, trained in trains:
            parameter.requires_grad_(trained)
        for module, training in modes:
            module.training = training


def _samples(
    batches: Iterable[Mapping[str, Tensor]], per: Literal["example", "batch"]
) -> Iterator[dict[str, Tensor]]:
    for number, batch in enumerate(batches, 1):
        labels = batch.get("labels")
        if labels is None:
            raise DataError(f"Batch {number} has no labels.", "Give input_ids and labels.")
        # A label is predicted from the token before it, so the first never is.
        labelled = (labels[:, 1:] != -100).any(dim=1)
        if not labelled.all():
            row = int((~labelled).nonzero()[0])
            raise DataError(
                f"Batch {number}, row {row + 1} has no label to predict.",
                "Leave out rows whose answer is empty or was cut off.",
            )
        if per == "batch":
            yield dict(batch)
        else:
            for row in range(len(labels)):
                yield {key: value[row : row + 1] for key, value in batch.items()}
