"""Continuations of prompts in tokens, how likely they are, and how much may run at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from taia.runtime.forward import Forward
from taia.runtime.packing import can_pack

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

#: Tokens that run together on a CPU, where more do not pay, and elsewhere.
_ON_CPU: Final = 1024
_ELSEWHERE: Final = 16384
#: Part of a batch that may be padding in any case, and part of the largest batch that a smaller one
#: may be padded by: a forward of few tokens takes as long as one of some more.
_PADDING: Final = 0.1
_FREE: Final = 16
#: Most logits at once, and most bytes of keys and values that are copied for continuations.
_LOGITS: Final = 1 << 28
_STATES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt in tokens with its continuations, such as a question's options; none is empty."""

    prompt: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]


class Likelihood(NamedTuple):
    """How likely a continuation is.

    Attributes:
        logprob: Sum of its tokens' log-probabilities in nats.
        is_greedy: Whether each of its tokens is the likeliest at its place.
    """

    logprob: float
    is_greedy: bool


def tokens_at_once(device: torch.device) -> int:
    """How many tokens run together where nothing else is asked for."""
    return _ON_CPU if device.type == "cpu" else _ELSEWHERE


class Rater:
    """A model's forward pass, and how much of it may run at once."""

    def __init__(
        self, model: PreTrainedModel | PeftModel, batch_tokens: int | None, *, pads: bool
    ) -> None:
        self.forward = Forward(model)
        self.batch_tokens = batch_tokens or tokens_at_once(self.forward.device)
        vocabulary = model.get_output_embeddings().weight.shape[0]
        self.batch_labels = max(1, min(self.batch_tokens, _LOGITS // vocabulary))
        #: Whether rows may be padded between what is before them and their own tokens.
        self.pads = pads and self.forward.takes_positions
        self._model = model

    @cached_property
    def packs(self) -> bool:
        """Whether the options of a prompt may share a row."""
        return self.pads and can_pack(self._model)

    def wastes(self, padding: int, whole: int) -> bool:
        """Whether two forwards are cheaper than one with so much padding in it."""
        return padding > max(_PADDING * whole, self.batch_tokens // _FREE)

    def rows_that_fit(self, cache: Any, columns: int) -> int:  # noqa: ANN401 - as transformers'
        """How many rows of so many columns a copy of a cache may have."""
        if cache is None:
            return self.batch_tokens
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        each: int = sum(t[0, :, 0].numel() * t.element_size() for pair in layers for t in pair)
        return max(1, _STATES // (each * columns))


def rate(
    logits: torch.Tensor, places: Sequence[tuple[int, int]], options: Sequence[Sequence[int]]
) -> list[Likelihood]:
    """The likelihood of tokens, of which the first is predicted at a place: row and position.

    The log-probabilities are added in double precision.
    """
    logs, best = logits.float().log_softmax(-1), logits.argmax(-1)
    each = [
        (row, start + offset, token)
        for (row, start), option in zip(places, options, strict=True)
        for offset, token in enumerate(option)
    ]
    rows, columns, tokens = torch.tensor(each, device=logits.device).T
    chosen = logs[rows, columns, tokens].double().cpu()
    greedy = (best[rows, columns] == tokens).cpu()
    sizes = [len(option) for option in options]
    return [
        Likelihood(float(some.sum()), bool(whether.all()))
        for some, whether in zip(
            torch.split(chosen, sizes), torch.split(greedy, sizes), strict=True
        )
    ]
