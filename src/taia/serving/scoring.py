"""How likely a model finds each token of a prompt: what ``echo`` with ``logprobs`` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from taia.runtime.generation import Token

if TYPE_CHECKING:
    from torch import Tensor

    from taia.runtime.switchable import SwitchableModel

#: Positions whose logits are in memory at once; a single longer prompt still runs whole.
_POSITIONS: Final = 2048
#: Positions whose logits are widened to float32 at once.
_WIDE: Final = 256


@dataclass(frozen=True, slots=True)
class Scoring:
    """A prompt to score.

    Attributes:
        mode: One of the model's modes.
        prompt: Its tokens.
        alternatives: How many likeliest tokens are wanted at each place.
    """

    mode: str
    prompt: tuple[int, ...]
    alternatives: int


def batch_of(asked: Sequence[Scoring], mix: bool) -> int:
    """How many of the first prompts run together.

    Args:
        asked: The prompts that wait, at least one.
        mix: Whether one batch may hold several modes.
    """
    width = 0
    for count, scoring in enumerate(asked):
        width = max(width, len(scoring.prompt))
        other = not mix and scoring.mode != asked[0].mode
        if count and (other or width * (count + 1) > _POSITIONS):
            return count
    return len(asked)


def score(model: SwitchableModel, asked: Sequence[Scoring]) -> list[tuple[Token, ...]]:
    """Every token of each prompt with its log-probability; the first has none.

    Prompts are padded at their ends only, so no position ever attends to padding, and the model's
    own masks and positions are right.

    Args:
        model: The model; where it cannot mix modes all prompts are in the same one.
        asked: The prompts.
    """
    width = max(len(scoring.prompt) for scoring in asked)
    rows = [(*s.prompt, *s.prompt[-1:] * (width - len(s.prompt))) for s in asked]
    ids = torch.tensor(rows, device=model.device)
    modes = [scoring.mode for scoring in asked]
    with torch.no_grad():
        if model.can_mix:
            logits = model(input_ids=ids, use_cache=False, modes=modes).logits
        else:
            with model.mode(modes[0]):
                logits = model(input_ids=ids, use_cache=False).logits
        return [
            (Token(scoring.prompt[0]), *_tokens(logits[row], scoring))
            for row, scoring in enumerate(asked)
        ]


def _tokens(logits: Tensor, scoring: Scoring) -> Iterator[Token]:
    """The tokens after the first; ``logits`` is ``[positions, vocabulary]``."""
    for start in range(0, len(scoring.prompt) - 1, _WIDE):
        targets = scoring.prompt[start + 1 : start + 1 + _WIDE]
        likely = torch.log_softmax(logits[start : start + len(targets)].float(), dim=-1)
        own = likely.gather(1, torch.tensor(targets, device=likely.device)[:, None])[:, 0]
        top = likely.topk(scoring.alternatives, dim=-1)
        for token, logprob, values, ids in zip(
            targets, own.tolist(), top.values.tolist(), top.indices.tolist(), strict=True
        ):
            yield Token(token, logprob, tuple(zip(ids, values, strict=True)))
