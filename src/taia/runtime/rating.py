"""Continuations of prompts in tokens, how likely they are, and how much may run at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from taia.runtime.forward import Forward

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

#: Tokens that run together on a CPU, where more do not pay, and elsewhere.
_ON_CPU: Final = 1024
_ELSEWHERE: Final = 16384
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


class Rater:
    """A model's forward pass, and how much of it may run at once."""

    def __init__(
        self, model: PreTrainedModel | PeftModel, batch_tokens: int | None, *, pads: bool
    ) -> None:
        self.forward = Forward(model)
        on_cpu = self.forward.device.type == "cpu"
        self.batch_tokens = batch_tokens or (_ON_CPU if on_cpu else _ELSEWHERE)
        vocabulary = model.get_output_embeddings().weight.shape[0]
        self.batch_labels = max(1, min(self.batch_tokens, _LOGITS // vocabulary))
        #: Whether rows may be padded between what is before them and their own tokens.
        self.pads = pads and self.forward.takes_positions

    def rows_that_fit(self, cache: Any, columns: int) -> int:  # noqa: ANN401 - as transformers'
        """How many rows of so many columns a copy of a cache may have."""
        if cache is None:
            return self.batch_tokens
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        each: int = sum(t[0, :, 0].numel() * t.element_size() for pair in layers for t in pair)
        return max(1, _STATES // (each * columns))


def rate(
    logits: torch.Tensor, starts: Sequence[int], options: Sequence[Sequence[int]]
) -> list[Likelihood]:
    """The likelihood of each row's tokens, of which the first is predicted at ``starts``.

    The log-probabilities are added in double precision.
    """
    logs, best = logits.float().log_softmax(-1), logits.argmax(-1)
    places = [
        (row, start + offset, token)
        for row, (start, option) in enumerate(zip(starts, options, strict=True))
        for offset, token in enumerate(option)
    ]
    rows, columns, tokens = torch.tensor(places, device=logits.device).T
    chosen = logs[rows, columns, tokens].double().cpu()
    greedy = (best[rows, columns] == tokens).cpu()
    sizes = [len(option) for option in options]
    return [
        Likelihood(float(some.sum()), bool(whether.all()))
        for some, whether in zip(
            torch.split(chosen, sizes), torch.split(greedy, sizes), strict=True
        )
    ]
