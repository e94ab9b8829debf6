"""Conditions on the scores, such as ``taia >= base`` or ``taia.TASK >= tuned - 0.02``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from taia.errors import InputError
from taia.evaluation.scores.groups import read_groups

if TYPE_CHECKING:
    from taia.evaluation.scores.summary import Summary

#: A mode's score of a task, or its average over all tasks.
Score: TypeAlias = Callable[[str, str | None], float]

_OFFSET: Final = re.compile(r"(?P<what>.+?)\s*(?P<sign>[+-])\s*(?P<size>\d*\.?\d+)")
_FORM: Final = "Write it as 'taia >= base', 'taia.TASK >= tuned.TASK - 0.02' or 'taia.TASK <= 0.1'."
_CONDITION: Final = re.compile(r"(?P<left>[^<>]*)(?P<sign>[<>]=?)(?P<right>[^<>=]*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a condition: a mode's score moved by an offset, or only the offset.

    Attributes:
        mode: The mode; ``None`` for a plain number.
        task: The task or group; ``None`` for the average over all.
        offset: What is added.
    """

    mode: str | None
    task: str | None
    offset: float

    def value(self, score: Score) -> float:
        """What it is worth."""
        return self.offset + (0.0 if self.mode is None else score(self.mode, self.task))


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition.

    Attributes:
        text: As it was written.
        left: What is compared.
        sign: How it must compare: ``>=``, ``>``, ``<=`` or ``<``.
        right: With what.
    """

    text: str
    left: Side
    sign: str
    right: Side

    def failure(self, score: Score) -> str | None:
        """Why the condition is not met, in one line; ``None`` if it is."""
        left, right = self.left.value(score), self.right.value(score)
        # Scores are sums of many numbers: what differs by rounding is equal.
        margin = 1e-9
        excess = right - left if self.sign.startswith("<") else left - right
        if excess >= -margin if self.sign.endswith("=") else excess > margin:
            return None
        return f"{self.text!r} is not met: {left:.4f} against {right:.4f}"


def read_gate(text: str, modes: Collection[str], tasks: Collection[str] | None = None) -> Gate:
    """Read a condition: ``SIDE (>=|>|<=|<) SIDE``, each ``MODE[.TASK] [± number]`` or a number.

    Args:
        text: The condition.
        modes: The names that modes have.
        tasks: The names that tasks and groups have; without them any name is one.

    Raises:
        InputError: If it cannot be read, or names what is not evaluated.
    """
    found = _CONDITION.fullmatch(text)
    if found is None or not found["left"].strip() or not found["right"].strip():
        raise InputError(f"The condition {text!r} cannot be read.", _FORM)
    left, right = (_side(found[side].strip(), text, modes, tasks) for side in ("left", "right"))
    return Gate(text, left, found["sign"], right)


def score(summary: Summary, mode: str, task: str | None) -> float:
    """What a condition means by a mode, or a mode's task: what the table shows.

    Args:
        summary: Of the run.
        mode: The mode.
        task: A task or group; ``None`` for the average. Where the table has none (of one task, or
            of tasks that are not averaged), the mean over what it shows.
    """
    if task is None:
        average = summary.average(mode)
        shown = summary.averaged or summary.tasks
        return average.value if average else _mean([summary.score(mode, t).value for t in shown])
    if summary.has(mode, task):
        return summary.score(mode, task).value
    for group in summary.about.values():
        if task in group.parts:
            items = group.items[mode].items()
            return _mean([value for item, value in items if item.startswith(f"{task}/")])
    # A group whose tasks stand apart: its own score if its file gives it one.
    own = summary.groups.get((mode, task), {})
    parts = read_groups(summary.facts)[task].parts
    return next(iter(own.values())) if own else _mean([score(summary, mode, p) for p in parts])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _side(part: str, text: str, modes: Collection[str], tasks: Collection[str] | None) -> Side:
    try:
        return Side(None, None, float(part))
    except ValueError:
        pass
    # A mode may be a selection, which has signs of its own: names come before sums.
    if found := _name(part, modes, tasks):
        return Side(*found, 0.0)
    if (sum_ := _OFFSET.fullmatch(part)) and (found := _name(sum_["what"], modes, tasks)):
        return Side(*found, float(sum_["sign"] + sum_["size"]))
    raise InputError(
        f"The condition {text!r} names {part!r}, which is not evaluated.",
        f"The modes are {', '.join(modes)}"
        + (f"; the tasks are {', '.join(tasks)}." if tasks else "."),
    )


def _name(
    part: str, modes: Collection[str], tasks: Collection[str] | None
) -> tuple[str, str | None] | None:
    if part in modes:
        return part, None
    for mode in modes:
        task = part.removeprefix(f"{mode}.")
        if task != part and (tasks is None or task in tasks):
            return mode, task
    return None
