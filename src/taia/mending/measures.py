"""How well a mode has learnt, and how far it is from base: two smooth measures, in nats.

*Loss* is the mean of −log p(token) over the tokens that count in learnt rows. *KL* is
KL(base ‖ mode) = Σ p_base (log p_base − log p_mode) over the whole vocabulary, at the places that
count in kept examples; along answers that base itself drew it is the KL of the two models'
distributions of whole answers, by the chain rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeAlias

import torch

from taia.errors import InputError
from taia.mending.batches import ExampleBatch, batched
from taia.mending.examples import Example
from taia.mending.paired import Ratio, ratio_of
from taia.mending.reference import Reader, Reference
from taia.runtime.forward import without_dropout
from taia.runtime.rating import tokens_at_once

if TYPE_CHECKING:
    from taia.runtime.switchable import SwitchableModel

#: Most logits of one batch: 128 MiB in float32 on a CPU, 1 GiB elsewhere.
_ON_CPU: Final = 1 << 25
_ELSEWHERE: Final = 1 << 28


#: Nats of each row of a batch, ``[rows]``.
Measure: TypeAlias = Callable[[ExampleBatch], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Nats:
    """What a mode has on each example.

    Attributes:
        nats: By example, added up over its tokens that count.
        tokens: How many those are.
    """

    nats: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Nats a token: all nats by all tokens."""
        return math.fsum(self.nats) / sum(self.tokens)

    @property
    def error(self) -> float:
        """The standard error of the mean, over examples."""
        return ratio_of(self.nats, self.tokens).error

    def minus(self, other: Nats) -> Ratio:
        """The difference from another mode on the same examples.

        Raises:
            InputError: If the examples are others.
        """
        if self.tokens != other.tokens:
            raise InputError(
                f"{len(self.tokens)} examples were to be compared with {len(other.tokens)} others.",
                "Compare what was measured on the same examples.",
            )
        apart = [one - two for one, two in zip(self.nats, other.nats, strict=True)]
        return ratio_of(apart, self.tokens)


class Meter:
    """Loss and KL of whatever mode a live model is in, on one set of examples of each kind.

    Both are exact: every token that counts, the whole vocabulary, float32, added up in float64.
    How examples are batched changes an example's nats by float32's rounding of the model's own
    sums, and nothing else. Dropout is off meanwhile.

    Args:
        model: The model.
        learn: Learnt rows.
        keep: What must not change.
        batch_tokens: How many tokens run together; by default what suits the device.

    Attributes:
        model: As given.
        learn: As given.
        keep: As given.
    """

    def __init__(
        self,
        model: SwitchableModel,
        learn: Sequence[Example],
        keep: Sequence[Example],
        *,
        batch_tokens: int | None = None,
    ) -> None:
        self.model = model
        self.learn = tuple(learn)
        self.keep = tuple(keep)
        self._tokens = batch_tokens or tokens_at_once(model.device)
        with self._resting():
            self._reader = Reader(model)
        logits = _ON_CPU if model.device.type == "cpu" else _ELSEWHERE
        self._labels = max(1, logits // self._reader.vocabulary)

    def loss(self) -> Nats:
        """−log p of learnt rows, in the mode that the model is in.

        Raises:
            InputError: If there are no learnt rows.
        """
        return self._measured(self.learn, self.losses, "learnt rows")

    def divergence(self) -> Nats:
        """KL(base ‖ mode) on kept examples, of the mode that the model is in.

        Raises:
            InputError: If there are no kept examples.
        """
        return self._measured(self.keep, self.divergences, "kept examples")

    def batches(
        self, examples: Sequence[Example], which: Sequence[int] | None = None
    ) -> Iterator[ExampleBatch]:
        """Batches of the learnt rows or the kept examples, or of some of them by their places."""
        return batched(examples, self._tokens, self._labels, which)

    def losses(self, batch: ExampleBatch) -> torch.Tensor:
        """−log p of a batch of learnt rows, with a gradient where there is one.

        Returns:
            ``[rows]``: nats, in float64.
        """
        logits = self._reader.logits(batch)
        targets = batch.targets.to(logits.device)
        each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        return batch.sums(each)

    def divergences(self, batch: ExampleBatch, of_base: torch.Tensor | None = None) -> torch.Tensor:
        """KL(base ‖ mode) of a batch of kept examples, with a gradient where there is one.

        Args:
            batch: The batch.
            of_base: What :meth:`base_logits` gives, where the mode cannot be left for it; used up.

        Returns:
            ``[rows]``: nats, in float64.
        """
        if of_base is None:
            of_base = self.base_logits(batch)
        before = of_base.log_softmax(-1)
        after = self._reader.logits(batch).log_softmax(-1)
        each = (before.exp() * (before - after)).sum(-1)
        return batch.sums(each)

    def base_logits(self, batch: ExampleBatch) -> torch.Tensor:
        """Base's logits on a batch of kept examples: ``[counted, vocabulary]``."""
        return self._reference.logits(batch)

    @contextmanager
    def _resting(self) -> Iterator[None]:
        with without_dropout(self.model.model), torch.no_grad():
            yield

    @cached_property
    def _reference(self) -> Reference:
        return Reference(self._reader, self.keep, [*self.batches(self.keep)])

    def _measured(
        self,
        examples: Sequence[Example],
        measure: Callable[[ExampleBatch], torch.Tensor],
        what: str,
    ) -> Nats:
        if not examples:
            raise InputError(f"There are no {what} to measure on.", "Give at least one.")
        nats = [0.0] * len(examples)
        with self._resting():
            for batch in self.batches(examples):
                for index, value in zip(batch.examples, measure(batch).tolist(), strict=True):
                    nats[index] = value
        return Nats(tuple(nats), tuple(len(each.counted) for each in examples))
