"""Tensors of a live model that are exchanged by reference: the base's, the tuned, or between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from taia.errors import CheckpointError
from taia.runtime.alphas import Alphas, Slot
from taia.runtime.between import Between, between
from taia.selection import Alpha, Pieces


@dataclass(slots=True)
class Exchanged:
    """A tensor that differs.

    Attributes:
        name: Its name in the live model.
        live: The model's parameter or buffer, which holds ``base``, ``tuned`` or what lies between.
        base: The base's values.
        tuned: The tuned model's.
        place: Where the values that ``live`` holds begin in memory.
    """

    name: str
    live: torch.Tensor
    base: torch.Tensor
    tuned: torch.Tensor
    place: int


def exchange(tensors: Iterable[Exchanged], alphas: Sequence[Alpha | torch.Tensor]) -> None:
    """Put tensors at their α, or at values: 0 and 1 are references, a fraction is calculated.

    Raises:
        CheckpointError: If one was exchanged by someone else meanwhile; then none is changed.
    """
    tensors = tuple(tensors)
    for tensor in tensors:
        if tensor.live.data_ptr() != tensor.place:
            raise CheckpointError(
                f"{tensor.name} was moved or exchanged since the model was made switchable.",
                "Move or convert the models first, and wrap them then.",
            )
    # What can fail comes before anything is changed.
    values = [
        _at(tensor.base, tensor.tuned, alpha) for tensor, alpha in zip(tensors, alphas, strict=True)
    ]
    for tensor, value in zip(tensors, values, strict=True):
        tensor.live.data = value
        tensor.place = value.data_ptr()


def stand_ins(model: nn.Module, tensors: Iterable[Exchanged], alphas: Alphas) -> tuple[Slot, ...]:
    """What stands in a model's modules where the α of tensors have a gradient.

    Args:
        model: The model, of which a tied tensor is in several modules.
        tensors: What differs.
        alphas: The α; of other names, too.
    """
    made = {
        id(tensor.live): Between.of(tensor.base, tensor.tuned, alphas.of(tensor.name))
        for tensor in tensors
        if tensor.name in alphas
    }
    return tuple(
        Slot(table, name, made[id(live)])
        for module in model.modules()
        for table in (module._parameters, module._buffers)
        for name, live in table.items()
        if id(live) in made
    )


def _at(base: torch.Tensor, tuned: torch.Tensor, alpha: Alpha | torch.Tensor) -> torch.Tensor:
    if isinstance(alpha, torch.Tensor):
        return alpha
    if isinstance(alpha, Pieces):
        out = torch.empty_like(tuned)
        for start, stop, part in alpha.pieces:
            ours, theirs, piece = (
                tensor.narrow(alpha.axis, start, stop - start) for tensor in (base, tuned, out)
            )
            piece.copy_(_at(ours, theirs, part))
        return out
    if alpha in (0.0, 1.0):
        return tuned if alpha else base
    return between(base, tuned, alpha)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are equal bit for bit: −0.0 is not 0.0, and NaN may equal NaN."""
    bits = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[one.dtype.itemsize]
    if one.shape != other.shape:
        return False
    return torch.equal(one.view(bits), other.to(one.device).view(bits))
