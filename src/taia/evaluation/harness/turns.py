"""Generations of one or two stages, the same for every backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from taia.evaluation.harness.backend import Asked
from taia.evaluation.harness.stages import Stage, lead
from taia.evaluation.settings import Watch


@dataclass(frozen=True, slots=True)
class Turn:
    """A stage of a generation.

    Attributes:
        asked: What was asked.
        stage: Which stage of it.
        begun: What the answer begins with already.
    """

    asked: Asked
    stage: Stage
    begun: str = ""


#: Generates what each turn adds, given a name to tell progress of.
_Generate: TypeAlias = Callable[[Sequence[Turn], str, Watch], list[str]]


def in_stages(asked: Sequence[Asked], generate: _Generate, watch: Watch) -> list[str]:
    """All first stages together, then all second ones.

    Returns:
        The answers; of two stages, the first text, what is appended to it, and the second.
    """
    texts = generate([Turn(one, one.stages.first) for one in asked], "generating", watch)
    again = {
        place: Turn(one, one.stages.second, texts[place] + lead(texts[place]))
        for place, one in enumerate(asked)
        if one.stages.second is not None
    }
    if again:
        ends = generate(list(again.values()), "second stage", watch)
        for (place, turn), end in zip(again.items(), ends, strict=True):
            texts[place] = turn.begun + end
    return texts
