"""α of the parts of a live model's update as one tensor, through which a gradient goes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from taia.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Alphas:
    """α of named parts of an update.

    A number is looked up in the tensor whenever it is used, so that a tensor whose values an
    optimiser changes in place need be given once.

    Attributes:
        values: ``[numbers]``, of any floating dtype.
        at: Name of a part → the place of its α in ``values``; several may share one. A part that
            is not named is tuned.
    """

    values: torch.Tensor
    at: Mapping[str, int]

    def __post_init__(self) -> None:
        size = len(self.values) if self.values.dim() == 1 else -1
        for name, place in self.at.items():
            if not 0 <= place < size:
                raise InputError(
                    f"α of {name} was to be number {place} of a tensor of "
                    f"{list(self.values.shape)}.",
                    "Give a tensor of one dimension, and a place in it for each name.",
                )

    def __contains__(self, name: str) -> bool:
        return name in self.at

    def of(self, name: str) -> One:
        """The α of one part."""
        return One(self.values, self.at[name])


class One(NamedTuple):
    """The α of one part."""

    values: torch.Tensor
    place: int

    def __call__(self) -> torch.Tensor:
        """What it is now: a tensor without dimensions, which has its gradient."""
        return self.values[self.place]


class Slot(NamedTuple):
    """A place in a model that holds something else for a while: ``table[key]``."""

    table: Any
    key: str
    value: Any


class Slots:
    """The places of a model that hold something else now."""

    def __init__(self) -> None:
        self._before: list[Slot] = []

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """All places hold what they held before, for the length of a block."""
        now = [slot._replace(value=slot.table[slot.key]) for slot in self._before]
        self.put(())
        try:
            yield
        finally:
            self.put(now)

    def put(self, slots: Iterable[Slot]) -> None:
        """Let places hold what is given, and all others what they held before."""
        while self._before:
            table, key, value = self._before.pop()
            table[key] = value
        for slot in slots:
            self._before.append(slot._replace(value=slot.table[slot.key]))
            slot.table[slot.key] = slot.value


class LiveScale:
    """What an update is multiplied by, where PEFT has a number: ``update * scaling``.

    Unlike a tensor it is true where it is 0, so that no layer skips its update, and with that the
    gradient.

    Args:
        tuned: What the number is where α is 1.
        alpha: The α.
    """

    def __init__(self, tuned: float, alpha: One) -> None:
        self._tuned = tuned
        self._alpha = alpha

    def __rmul__(self, update: torch.Tensor) -> torch.Tensor:
        """The update at its α, in its own dtype."""
        return update * (self._tuned * self._alpha())


class LiveB(nn.Module):
    """LoRA's B at an α: ``x ↦ α·Bx``.

    α is multiplied with what B is given, of which a token has only as many numbers as the rank: so
    much is kept for the gradient, and not the update itself.

    Args:
        b: The module, with or without a bias.
        alpha: The α.
    """

    def __init__(self, b: nn.Module, alpha: One) -> None:
        super().__init__()
        self._b: Any = [b]  # not as a child, whose parameters would be the model's twice
        self._alpha = alpha

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., r]`` → ``[..., outputs]``."""
        inner, alpha = self._b[0], self._alpha()
        if inner.bias is None:
            return inner(x * alpha)  # type: ignore[no-any-return]
        return inner(x) * alpha  # type: ignore[no-any-return]

    @property
    def weight(self) -> torch.Tensor:
        """α·B, for updates that are added to the weight (PEFT's ``ParamWrapper``)."""
        weight: torch.Tensor = self._b[0].weight
        return weight * self._alpha().to(weight.dtype)

    @property
    def bias(self) -> torch.Tensor | None:
        """α times B's bias."""
        bias: torch.Tensor | None = self._b[0].bias
        return None if bias is None else bias * self._alpha().to(bias.dtype)
