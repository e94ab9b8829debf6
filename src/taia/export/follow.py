"""The same tokens through two models: the source's own greedy ones, and how the other scores them.

The source continues a prompt greedily; every other model is then given the same tokens, so that one
token chosen otherwise does not hide what comes after it. If both choose alike everywhere, their
greedy texts are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from taia.errors import CheckpointError
from taia.export.result import Check
from taia.loading.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from taia.checkpoint.locate import Located

#: How many tokens are compared.
STEPS: Final = 16
_PROMPT: Final = "Three things to know before you move to another country are"


@dataclass(frozen=True, slots=True)
class Trace:
    """How a model goes on, greedily.

    Attributes:
        ids: The prompt and the tokens chosen, but for the last.
        logits: Scores of every token at each step, ``[STEPS, vocabulary]``, float32.
    """

    ids: tuple[int, ...]
    logits: torch.Tensor


def prompt_ids(place: Located, vocabulary: int) -> list[int]:
    """A prompt's tokens; without a tokenizer, some tokens from all over the vocabulary."""
    try:
        ids = load_tokenizer(place)(_PROMPT)["input_ids"]
    except CheckpointError:
        ids = []
    if ids and max(ids) < vocabulary:
        return list(ids)
    return [vocabulary * step // 8 for step in range(8)]


def lead(model: Any, prompt: Sequence[int]) -> Trace:  # noqa: ANN401 - transformers' or PEFT's
    """Lets a model continue a prompt greedily."""
    ids = list(prompt)
    for _ in range(STEPS):
        logits = _forward(model, ids)
        ids.append(int(logits[-1].argmax()))
    return Trace(tuple(ids[:-1]), logits[-STEPS:])


def follow(model: Any, trace: Trace) -> torch.Tensor:  # noqa: ANN401 - transformers' or PEFT's
    """Another model's scores at the steps of a trace, ``[STEPS, vocabulary]``."""
    return _forward(model, trace.ids)[-STEPS:]


def _forward(model: Any, ids: Sequence[int]) -> torch.Tensor:  # noqa: ANN401
    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor([list(ids)], device=model.device)).logits
    return logits[0].float().cpu()


def spread(logits: torch.Tensor) -> float:
    """Root mean square of scores less their mean: a constant on all of a step's says nothing."""
    return float((logits - logits.mean(dim=-1, keepdim=True)).square().mean().sqrt())


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """How far two sets of scores are apart, as :func:`spread` measures."""
    return spread(one - other)


def compared(
    loader: str,
    trace: Trace,
    got: torch.Tensor,
    *,
    precision: float,
    without: torch.Tensor | None = None,
    slack: float = 0.0,
) -> Check:
    """Compares what a loaded output says with what the source says.

    Args:
        loader: What loaded the output, for the sentence.
        trace: The source's.
        got: The output's, over the same tokens.
        precision: How far they may be apart, as a share of the spread of the source's scores.
        without: The base's scores, where an adapter was exported: what a loader would say that
            ignores it. Whether the comparison could have told the two apart is said.
        slack: What may come on top because the loader's base weights are not the base's.
    """
    apart = distance(got, trace.logits)
    allowed = precision * spread(trace.logits) + slack
    effect = None if without is None else distance(trace.logits, without)
    tells = effect is None or effect > 2 * allowed
    equal = int((got.argmax(-1) == trace.logits.argmax(-1)).sum())
    said = (
        f"{loader}: {equal} of {STEPS} greedy tokens are the source's, scores differ by "
        f"{apart:.1e} ({allowed:.1e} allowed"
    )
    said += ")." if effect is None else f"; without the adapter {effect:.1e})."
    if not tells:
        said += " The adapter changes too little here for this to tell it from the base."
    measured = {"equal": equal, "of": STEPS, "difference": apart, "allowed": allowed}
    measured |= {} if effect is None else {"effect": effect}
    return Check(said, apart <= allowed, measured)
