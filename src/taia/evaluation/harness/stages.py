"""Generations: what a task asks of one, and its one or two stages, the same for every backend.

A task asks by lm-evaluation-harness's ``generation_kwargs`` and our own: ``letters`` with
``letter_bias`` (one token, a bias on the letters' logits) and ``second_stage`` (append " The answer
is " and generate again), the protocol of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from taia.errors import InputError
from taia.evaluation.settings import Watch

_Number = TypeVar("_Number", int, float)

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

    @property
    def is_drawn(self) -> bool:
        """Whether chance has a part in it, so that asking twice gives two answers."""
        return any(
            stage is not None and stage.temperature > 0 for stage in (self.first, self.second)
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """A generation in a mode.

    Attributes:
        mode: Who answers.
        prompt: What it goes on from, in the chat format where there is one.
        stages: How.
        seed: Of its draws.
    """

    mode: str
    prompt: str
    stages: Stages
    seed: int


@dataclass(frozen=True, slots=True)
class Turn:
    """A stage of a generation.

    Attributes:
        asked: What was asked.
        stage: Which stage of it.
        seed: Of this stage's draws.
        begun: What the answer begins with already.
    """

    asked: Asked
    stage: Stage
    seed: int
    begun: str = ""


#: Generates what each turn adds, given a name to tell progress of.
_Generate: TypeAlias = Callable[[Sequence[Turn], str, Watch], list[str]]


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


def in_stages(asked: Sequence[Asked], generate: _Generate, watch: Watch) -> list[str]:
    """All first stages together, then all second ones.

    Returns:
        The answers; of two stages, the first text, what is appended to it, and the second.
    """
    first = [Turn(one, one.stages.first, one.seed) for one in asked]
    texts = generate(first, "generating", watch)
    again = {
        place: Turn(one, one.stages.second, one.seed + 1, texts[place] + lead(texts[place]))
        for place, one in enumerate(asked)
        if one.stages.second is not None
    }
    if again:
        ends = generate(list(again.values()), "second stage", watch)
        for (place, turn), end in zip(again.items(), ends, strict=True):
            texts[place] = turn.begun + end
    return texts


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
    temperature = _temperature(kwargs, where)
    known = normalize_gen_kwargs({k: v for k, v in kwargs.items() if k != "temperature"})
    length = int(known["max_gen_toks"]) if max_new_tokens is None else max_new_tokens
    return Stage(
        max_new_tokens=1 if letters else _checked(length, where, "max_gen_toks", least=1),
        until=tuple(text for text in known.get("until") or () if text),
        temperature=temperature,
        top_p=_checked(float(known.get("top_p", 1.0)), where, "top_p", most=1.0),
        top_k=_checked(int(known.get("top_k", 0)), where, "top_k"),
        letters=letters,
        letter_bias=bias if letters else 0.0,
    )


def _temperature(kwargs: Mapping[str, Any], where: str) -> float:
    """What is drawn at: nothing where it is not asked for, 1 where only that it is drawn is told.

    So does transformers, whose own default it is; lm-evaluation-harness fails there.
    """
    draws, given = kwargs.get("do_sample"), kwargs.get("temperature")
    if draws not in (None, True, False):
        raise InputError(f"A task's {where} has do_sample: {draws!r}.", "Write true or false.")
    if draws is False:
        return 0.0
    if given is None:
        return 1.0 if draws else 0.0
    if draws and float(given) == 0:
        raise InputError(
            f"A task's {where} has do_sample: true with temperature: 0, at which nothing is drawn.",
            "Write do_sample: false, or a temperature above 0.",
        )
    return _checked(float(given), where, "temperature")


def _checked(
    value: _Number, where: str, name: str, *, least: int = 0, most: float = math.inf
) -> _Number:
    if not least <= value <= most or math.isinf(value):
        most_told = "" if math.isinf(most) else f" and at most {most:g}"
        raise InputError(
            f"A task's {where} has {name}: {value}.", f"Give at least {least}{most_told}."
        )
    return value
