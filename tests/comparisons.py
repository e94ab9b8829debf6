"""Comparisons made by hand: who answers what rightly, and no model."""

from __future__ import annotations

from collections.abc import Mapping

from taia.evaluation.comparison import Comparison
from taia.evaluation.tasks.questions import Question


def comparison(
    right: Mapping[str, Mapping[str, str]], selections: Mapping[str, str] | None = None
) -> Comparison:
    """A comparison in which each mode answers as told.

    Args:
        right: Mode → kind → a ``1`` for each question answered rightly, a ``0`` for the others.
        selections: Mode → its selection, if that is not its name.
    """
    kinds = next(iter(right.values()))
    questions, scores = [], {mode: [] for mode in right}
    for kind, answers in kinds.items():
        for number in range(len(answers)):
            answer = number % 4
            options = tuple("abcd")
            questions.append(Question(f"{kind}-{number}", kind, "What?", options, answer))
            for mode, row in scores.items():
                wanted = answer if right[mode][kind][number] == "1" else (answer + 1) % 4
                row.append([float(option == wanted) for option in range(4)])
    names = {mode: (selections or {}).get(mode, mode) for mode in right}
    return Comparison(tuple(questions), names, scores)


def first(count: int, total: int) -> str:
    """The first so many right, the rest wrong."""
    return "1" * count + "0" * (total - count)


def last(count: int, total: int) -> str:
    """The last so many right, the rest wrong."""
    return first(count, total)[::-1]


def realistic(**more: str) -> Comparison:
    """Six kinds of sixty or eighty questions; tuning costs knowledge, and taia mends half.

    Args:
        more: Further modes → their selection; they answer as taia does.
    """
    kinds = ("everyday", "animals", "science", "places", "words")
    table = {
        "base": ([45, 48, 38, 33, 41], 6),
        "tuned": ([34, 33, 27, 24, 25], 51),
        "taia": ([41, 42, 33, 29, 36], 47),
        "taif": ([37, 36, 30, 25, 29], 26),
    } | dict.fromkeys(more, ([41, 42, 33, 29, 36], 47))
    return comparison(
        {
            mode: {kind: first(n, 60) for kind, n in zip(kinds, knows, strict=True)}
            | {"trained": first(skill, 80)}
            for mode, (knows, skill) in table.items()
        },
        more,
    )
