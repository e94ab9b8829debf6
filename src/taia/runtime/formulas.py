"""A method on a live model: W = W_base + α · f(Δ), made when a mode is named and kept with it.

The formulas are those of files (:mod:`taia.methods.calculate`), one tensor at a time in NumPy, and
give the same bits. Experts are refused: a checkpoint's files may have them one by one and memory in
one stack, where an expert's gate and up are one matrix with another name, so that what is measured
here would not be what is composed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from taia.anatomy import Label
from taia.anatomy.fused import TRANSPOSED_EXPERTS
from taia.anatomy.labels import depths
from taia.checkpoint.arithmetic import moved
from taia.errors import MethodError
from taia.methods import Applied, Given
from taia.methods.calculate import changed
from taia.methods.method import is_stack
from taia.runtime.exchange import Exchanged
from taia.selection import Alpha
from taia.selection.alpha import times

if TYPE_CHECKING:
    from taia.methods.given import Array


class LiveFormula:
    """A method on the update of one model.

    Args:
        applied: The method.
        labels: Of all the model's tensors.

    Attributes:
        applied: As given.

    Raises:
        MethodError: If the method needs what a live model has not: statistics of calibration rows,
            or another model.
    """

    def __init__(self, applied: Applied, labels: Mapping[str, Label]) -> None:
        if applied.method.needs:
            raise MethodError(
                f"The method {applied.method.name} needs {', '.join(applied.method.needs)}, which "
                "a live model has not.",
                "Compose it on disk with `taia compose`, and load what that writes.",
            )
        self.applied = applied
        self._labels = labels
        self._depths = depths(labels.values())

    def label(self, name: str) -> Label:
        """What a tensor is."""
        return self._labels[name]

    def weighed(self, alphas: Mapping[str, Alpha]) -> dict[str, Alpha]:
        """The selection's α, with what the method makes of them by their place."""
        scales = {
            name: self.applied.scale(label, self._depth(label))
            for name, label in self._labels.items()
        }
        return {name: times(alpha, scales[name]) for name, alpha in alphas.items()}

    def calculates(self, name: str, alpha: Alpha) -> bool:
        """Whether a tensor of this α has numbers of the method's own.

        Raises:
            MethodError: If those would be another's than the files' tensors have.
        """
        label = self._labels[name]
        if alpha == 0 or not self.applied.calculates(label):
            return False
        if is_stack(label):
            raise MethodError(
                f"{name} has its experts in one stack, and files may have them one by one, for "
                f"which the method {self.applied.method.name} has other numbers.",
                "Compose it on disk with `taia compose`, and load what that writes.",
            )
        return True

    def weight(
        self, name: str, base: torch.Tensor, tuned: Array, alpha: Alpha, *, inputs_first: bool
    ) -> torch.Tensor:
        """``W_base + α·f(Δ)``.

        Args:
            name: The tensor's.
            base: W_base.
            tuned: W_tuned, as :func:`array` gives it.
            alpha: How much of it.
            inputs_first: Whether the tensor is stored [inputs, outputs].

        Returns:
            With base's dtype and device.

        Raises:
            MethodError: If the tensor holds numbers that no formula can work with.
        """
        before = array(base)
        update = tuned - before
        given = self.given(name, before, update, inputs_first=inputs_first)
        return like(moved(before, tuned, update, changed(self.applied, given), alpha), base)

    def given(
        self, name: str, weight: Array | None, update: Array | None, *, inputs_first: bool
    ) -> Given:
        """What a formula is given of a tensor; ``None`` is what it does not read."""

        def numbers(array: Array | None) -> Array:
            assert array is not None
            return array

        label = self._labels[name]
        return Given(
            label,
            self._depth(label),
            lambda: numbers(weight),
            lambda: numbers(update),
            inputs_first=inputs_first,
        )

    def _depth(self, label: Label) -> int:
        return self._depths.get(label.stack, 0) if label.layer is not None else 0


def by_formula(
    model: nn.Module, tensor: Exchanged, formula: LiveFormula, alpha: Alpha
) -> Alpha | torch.Tensor:
    """What a tensor is exchanged for: an α, or numbers of the method's own."""
    if not formula.calculates(tensor.name, alpha):
        return alpha
    turned = inputs_first(model, tensor.live, formula.label(tensor.name))
    return formula.weight(tensor.name, tensor.base, array(tensor.tuned), alpha, inputs_first=turned)


def inputs_first(model: nn.Module, tensor: torch.Tensor, label: Label) -> bool:
    """Whether a model stores a tensor [inputs, outputs]."""
    from transformers.pytorch_utils import Conv1D

    if is_stack(label):
        config: Any = model.config
        return config.model_type in TRANSPOSED_EXPERTS
    return any(isinstance(module, Conv1D) and module.weight is tensor for module in model.modules())


def array(tensor: torch.Tensor) -> Array:
    """A tensor's numbers in float32, or in float64."""
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    numbers: Array = tensor.detach().to("cpu", wide).numpy()
    return numbers


def like(numbers: Array, tensor: torch.Tensor) -> torch.Tensor:
    """Numbers as a tensor of another's dtype and device."""
    return torch.from_numpy(numbers).to(tensor.device, tensor.dtype)
