"""Loss and KL at any α, with their gradients, on some examples or on all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from taia.mending.examples import Example
from taia.mending.measures import Measure, Meter, Nats
from taia.mending.places import Place, Places
from taia.runtime.forward import without_dropout


class Slope(NamedTuple):
    """A measure on some examples at some α, and how it goes on from there.

    Attributes:
        nats: Nats by example, in the order in which the examples were named.
        tokens: How many tokens count in all of them.
        gradient: ``[coefficients]``, of the mean in nats a token.
    """

    nats: dict[int, float]
    tokens: int
    gradient: np.ndarray

    @property
    def mean(self) -> float:
        """Nats a token."""
        return sum(self.nats.values()) / self.tokens


class Tuning:
    """A live model whose α can be turned, each place's by itself or several as one.

    Args:
        meter: What measures it.
        groups: Free place → the coefficient that is its α; None for one coefficient a place, in
            order.

    Attributes:
        meter: As given.
        places: The places of the update.
        groups: As given, in full.
        size: How many coefficients there are.
    """

    def __init__(self, meter: Meter, groups: Mapping[Place, int] | None = None) -> None:
        self.meter = meter
        self.places = Places(meter.model.changed)
        self.groups = (
            {place: index for index, place in enumerate(self.places.free)}
            if groups is None
            else dict(groups)
        )
        self.size = max(self.groups.values(), default=-1) + 1
        self._at = {
            name: self.groups[self.places.free[place]] for name, place in self.places.at.items()
        }

    def alphas(self, values: np.ndarray) -> dict[Place, float]:
        """α by place, those that stay tuned too, from the coefficients."""
        free = {place: float(values[group]) for place, group in self.groups.items()}
        return free | dict.fromkeys(self.places.fixed, 1.0)

    @contextmanager
    def at(self, values: np.ndarray) -> Iterator[torch.Tensor]:
        """The model at coefficients ``[size]``, as a tensor that gradients come to."""
        tensor = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        model = self.meter.model
        with without_dropout(model.model), model.at(tensor, self._at):
            yield tensor

    def loss(self, values: np.ndarray, which: Sequence[int] | None = None) -> Slope:
        """Loss of learnt rows, all or some by their places, with its gradient."""
        return self._slope(values, self.meter.learn, self.meter.losses, which)

    def divergence(self, values: np.ndarray, which: Sequence[int] | None = None) -> Slope:
        """KL on kept examples, all or some by their places, with its gradient."""
        return self._slope(values, self.meter.keep, self.meter.divergences, which)

    def measured(self, values: np.ndarray) -> tuple[Nats, Nats]:
        """Loss and KL on all examples, without gradients."""
        with self.at(values):
            return self.meter.loss(), self.meter.divergence()

    def _slope(
        self,
        values: np.ndarray,
        examples: Sequence[Example],
        measure: Measure,
        which: Sequence[int] | None,
    ) -> Slope:
        chosen = range(len(examples)) if which is None else which
        tokens = sum(len(examples[index].counted) for index in chosen)
        nats = dict.fromkeys(chosen, 0.0)
        with self.at(values) as tensor, torch.enable_grad():
            for batch in self.meter.batches(examples, chosen):
                each = measure(batch)
                (each.sum() / tokens).backward()  # type: ignore[no-untyped-call]
                nats |= dict(zip(batch.examples, each.tolist(), strict=True))
            gradient = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            return Slope(nats, tokens, gradient.numpy())


class RunningMean:
    """A mean in which what is old counts less and less.

    Args:
        keep: What part of its weight each value keeps when another comes.

    Attributes:
        count: How many values there were.
    """

    def __init__(self, keep: float) -> None:
        self.count = 0
        self._keep = keep
        self._sum: np.ndarray | float = 0.0
        self._weight = 0.0

    def add(self, value: np.ndarray | float) -> None:
        """Take in another value."""
        self.count += 1
        self._sum = self._keep * self._sum + value
        self._weight = self._keep * self._weight + 1.0

    @property
    def value(self) -> np.ndarray:
        """The average."""
        return np.asarray(self._sum / self._weight)
