"""What a task asks of a generation: lm-evaluation-harness's ``generation_kwargs`` and our own.

Ours are ``letters`` with ``letter_bias`` (one token, a bias on the letters' logits) and
``second_stage`` (append " The answer is " and generate again), the protocol of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from taia.errors import InputError

#: Added to the logits of letters where a task does not say how much.
_BIAS: Final = 15.0
_STAGE: Final = frozenset(
    {"do_sample", "until", "max_gen_toks", "temperature", "top_p", "top_k", "letters"}
    | {"letter_bias"}
)
_ALIASES: Final = frozenset({"max_new_tokens", "max_tokens", "max_completion_tokens"})


@dataclass(frozen=True, slots=True)
class Stage:
    """One generation.

    Attributes:
        max_new_tokens: At most so many tokens.
        until: Texts that end it.
        temperature: Of the draws; 0 takes the likeliest token.
        top_p: Draw from the likeliest tokens that have this much probability together.
        top_k: Draw from so many likeliest tokens; 0 from all.
        letters: Where not empty: the answer is one token, and these letters are favoured.
        letter_bias: What is added to their logits.
    """

    max_new_tokens: int
    until: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    letters: str = ""
    letter_bias: float = 0.0


@dataclass(frozen=True, slots=True)
class Stages:
    """A generation, and the one that goes on from its answer, if any."""

    first: Stage
    second: Stage | None = None


def read_stages(kwargs: Mapping[str, Any], max_new_tokens: int | None = None) -> Stages:
    """Read a task's ``generation_kwargs``.

    Args:
        kwargs: As the task has them.
        max_new_tokens: Of the first stage in place of the task's own; an answer of one letter
            stays one token.

    Raises:
        InputError: If a key is unknown: what it would change is not ignored.
    """
    own = dict(kwargs)
    second = own.pop("second_stage", None)
    first = _stage(own, "generation_kwargs", max_new_tokens)
    if not second:
        return Stages(first)
    if not isinstance(second, Mapping) or second.get("append") is not True:
        raise InputError(
            f"A task's second_stage is {second!r}.",
            "Write it as {append: true, max_gen_toks: 10}, with letters if it is one letter.",
        )
    rest = {key: value for key, value in second.items() if key != "append"}
    return Stages(first, _stage(rest, "second_stage", None))


def lead(text: str) -> str:
    """What is appended to a first answer before the second is generated (the paper's words)."""
    return " The answer is " if text.endswith(".") else ". The answer is "


def _stage(kwargs: dict[str, Any], where: str, max_new_tokens: int | None) -> Stage:
    from lm_eval.models.utils import normalize_gen_kwargs

    if unknown := sorted(set(kwargs) - _STAGE - _ALIASES):
        raise InputError(
            f"A task's {where} has {unknown[0]!r}, which taia does not know.",
            f"It knows {', '.join(sorted(_STAGE))}, and second_stage.",
        )
    letters = str(kwargs.pop("letters", ""))
    bias = float(kwargs.pop("letter_bias", _BIAS))
    known = normalize_gen_kwargs(kwargs)
    length = int(known["max_gen_toks"]) if max_new_tokens is None else max_new_tokens
    return Stage(
        max_new_tokens=1 if letters else length,
        until=tuple(text for text in known.get("until") or () if text),
        temperature=float(known.get("temperature", 0.0)),
        top_p=float(known.get("top_p", 1.0)),
        top_k=int(known.get("top_k", 0)),
        letters=letters,
        letter_bias=bias if letters else 0.0,
    )
