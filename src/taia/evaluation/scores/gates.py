"""Conditions on the scores: ``taia >= base - 0.02``, ``lost(taia.TASK, base) <= 0.05``."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from taia.errors import InputError
from taia.evaluation.scores.groups import Group, read_groups
from taia.text import listed

if TYPE_CHECKING:
    from taia.evaluation.scores.summary import Summary

#: A mode's score of a task, or its average over all tasks.
Score: TypeAlias = Callable[[str, str | None], float]
#: What is counted of answers that turned.
Way: TypeAlias = Literal["lost", "gained"]
#: The share of a task's items, or of all, that one mode lost or gained against another.
Turned: TypeAlias = Callable[[Way, str, str | None, str], float]

_OFFSET: Final = re.compile(r"(?P<what>.+?)\s*(?P<sign>[+-])\s*(?P<size>\d*\.?\d+)")
_BLANK: Final = re.compile(r"[\s(),]")
_FORM: Final = (
    "Write it as 'taia >= base', 'taia.TASK >= tuned.TASK - 0.02', 'taia.TASK <= 0.1' or "
    "'lost(taia.TASK, base) <= 0.05'."
)
_CONDITION: Final = re.compile(r"(?P<left>[^<>]*)(?P<sign>[<>]=?)(?P<right>[^<>=]*)", re.DOTALL)
_TURNS: Final = "Name a task of right and wrong answers, as in 'lost(taia.TASK, base) <= 0.05'."
_TURNED: Final = re.compile(r"(?P<way>lost|gained)\s*\(\s*(?P<inside>.*?)\s*\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a task's score is, as far as conditions go.

    Attributes:
        metric: Its metric.
        is_mean: Whether that is the mean of the items' scores.
        is_accuracy: Whether it is one, or like one, so that it has a mean with others of this kind.
    """

    metric: str
    is_mean: bool
    is_accuracy: bool


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a condition: a mode's score moved by an offset, or only the offset.

    Attributes:
        mode: The mode; ``None`` for a plain number.
        task: The task or group; ``None`` for the average over all.
        offset: What is added.
        way: ``lost`` or ``gained`` where answers that turned are counted; ``None`` for the score.
        other: Against which mode they turned.
    """

    mode: str | None
    task: str | None
    offset: float
    way: Way | None = None
    other: str = ""

    def value(self, score: Score, turned: Turned | None = None) -> float:
        """What it is worth."""
        if self.mode is None:
            return self.offset
        if self.way is None:
            return self.offset + score(self.mode, self.task)
        assert turned is not None, "which answers turned is needed for this condition"
        return self.offset + turned(self.way, self.mode, self.task, self.other)


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

    def failure(self, score: Score, turned: Turned | None = None) -> str | None:
        """Why the condition is not met, in one line; ``None`` if it is."""
        left, right = (side.value(score, turned) for side in (self.left, self.right))
        # Scores are sums of many numbers: what differs by rounding is equal.
        margin = 1e-9
        excess = right - left if self.sign.startswith("<") else left - right
        if excess >= -margin if self.sign.endswith("=") else excess > margin:
            return None
        return f"{self.text!r} is not met: {left:.4f} against {right:.4f}"


def read_gate(text: str, modes: Collection[str], tasks: Collection[str] | None = None) -> Gate:
    """Read a condition: ``SIDE (>=|>|<=|<) SIDE``.

    A side is ``MODE[.TASK]``, ``lost(MODE[.TASK], MODE)`` or ``gained(MODE[.TASK], MODE)``, each
    ``± number``, or a number.

    Args:
        text: The condition.
        modes: The names that modes have.
        tasks: The names that tasks and groups have; without them any word is one.

    Raises:
        InputError: If it cannot be read, or names what is not evaluated.
    """
    found = _CONDITION.fullmatch(text)
    sides = [found[side].strip() for side in ("left", "right")] if found else [""]
    if found is None or not all(sides):
        raise InputError(f"The condition {text!r} cannot be read.", _FORM)
    left, right = (_side(side, text, modes, tasks) for side in sides)
    return Gate(text, left, found["sign"], right)


def check_means(
    gates: Sequence[Gate], kinds: Mapping[str, Kind], groups: Mapping[str, Group]
) -> None:
    """Refuse, before any work, conditions on what will not be there.

    Args:
        gates: The conditions.
        kinds: Task → what its score is, of all that are evaluated.
        groups: Those that are evaluated.

    Raises:
        InputError: If one needs a mean of unlike metrics, or answers that turned where none can.
    """
    for gate in gates:
        for side in (gate.left, gate.right):
            if side.mode is None:
                continue
            group = None if side.task is None else groups.get(side.task)
            tasks = group.tasks if group else [side.task or ""]
            inside = kinds if side.task is None else {task: kinds[task] for task in tasks}
            who = f"The condition {gate.text!r}"
            has_average = sum(kind.is_accuracy for kind in kinds.values()) > 1
            if side.way is not None:
                _check_turned(inside, who, needs_all=side.task is not None)
            elif not (group.metrics if group else side.task is None and has_average):
                _check_alike(inside, who)


def score(summary: Summary, mode: str, task: str | None) -> float:
    """What a condition means by a mode, or a mode's task: what the table shows.

    Args:
        summary: Of the run.
        mode: The mode.
        task: A task or group; ``None`` for the average. Where the table has none (of one task, or
            of tasks that are not averaged), the mean over what it shows.

    Raises:
        InputError: If that is the mean of tasks by unlike metrics, which says nothing.
    """
    if task is None:
        if (average := summary.average(mode)) is not None:
            return average.value
        _check_alike(_kinds(summary, summary.tasks), f"A condition on {mode}")
        return fmean([summary.score(mode, shown).value for shown in summary.tasks])
    if summary.has(mode, task):
        return summary.score(mode, task).value
    for group in summary.about.values():
        if task in group.parts:
            items = group.items[mode].items()
            return fmean([value for item, value in items if item.startswith(f"{task}/")])
    # A group whose tasks stand apart: its own score if its file gives it one.
    if own := summary.groups.get((mode, task), {}):
        return next(iter(own.values()))
    _check_alike(_kinds(summary, _shown(summary, task)), f"A condition on {mode}.{task}")
    return fmean([score(summary, mode, part) for part in read_groups(summary.facts)[task].parts])


def turned(summary: Summary, way: Way, mode: str, task: str | None, other: str) -> float:
    """The share of items that turned: of those that both modes answered.

    Where lower is better, such as an attack's success, right is what does not count.

    Args:
        summary: Of the run.
        way: ``lost``: the other mode has them right and this one wrong; ``gained``: the reverse.
        mode: The mode.
        task: A task or group; ``None`` for all of right and wrong answers, but for those about
            safety. Items of several tasks count together, as in the report's sentence.
        other: The mode that it is compared with.

    Raises:
        InputError: If the task has no such items, or no task has.
    """
    tasks = (*summary.averaged, *summary.others) if task is None else tuple(_shown(summary, task))
    found = {one: change for one in tasks if (change := summary.difference(mode, other, one))}
    flips = {one: change.flips for one, change in found.items() if change.flips is not None}
    if not flips or (task is not None and len(flips) < len(tasks)):
        without = [one for one in tasks if one not in flips]
        raise InputError(
            f"What {mode} has {way} against {other} cannot be told of {listed(without)}: there are "
            "no items that are right or wrong in both.",
            _TURNS,
        )
    counts = [one.lost if way == "lost" else one.gained for one in flips.values()]
    return sum(one.count for one in counts) / sum(one.items for one in flips.values())


def _kinds(summary: Summary, tasks: Iterable[str]) -> dict[str, Kind]:
    about = ((task, summary.about[task]) for task in tasks)
    return {task: Kind(t.metric, t.is_mean, t.is_accuracy) for task, t in about}


def _shown(summary: Summary, task: str) -> Iterator[str]:
    """The tasks of the table that a name stands for."""
    if task in summary.about:
        yield task
    elif (group := read_groups(summary.facts).get(task)) is not None:
        for part in group.parts:
            yield from _shown(summary, part)


def _check_alike(kinds: Mapping[str, Kind], who: str) -> None:
    """Refuse the mean of tasks that are neither of one metric nor all like an accuracy.

    Raises:
        InputError: If they are; with their metrics.
    """
    alike = {"" if kind.is_accuracy else kind.metric for kind in kinds.values()}
    if len(alike) > 1:
        metrics = listed([f"{task} by {kind.metric}" for task, kind in kinds.items()])
        raise InputError(
            f"{who} needs one number of {metrics}, which have no mean that says anything.",
            "Name one task, as in 'taia.TASK >= base.TASK'.",
        )


def _check_turned(kinds: Mapping[str, Kind], who: str, *, needs_all: bool) -> None:
    """Refuse to count answers that turned where none can.

    Raises:
        InputError: If a task, or every one, has a metric of all its items together.
    """
    without = [f"{task} ({kind.metric})" for task, kind in kinds.items() if not kind.is_mean]
    if without and (needs_all or len(without) == len(kinds)):
        raise InputError(
            f"{who} counts right answers, of which {listed(without)} has none.", _TURNS
        )


def _side(part: str, text: str, modes: Collection[str], tasks: Collection[str] | None) -> Side:
    try:
        return Side(None, None, float(part))
    except ValueError:
        pass
    # A mode may be a selection, which has signs of its own: names come before sums.
    if found := _term(part, modes, tasks):
        return found
    if (sum_ := _OFFSET.fullmatch(part)) and (found := _term(sum_["what"], modes, tasks)):
        return replace(found, offset=float(sum_["sign"] + sum_["size"]))
    known = f"The modes are {', '.join(modes)}"
    known += f"; the tasks are {', '.join(tasks)}." if tasks else "."
    if (call := _TURNED.match(part)) and "," not in call["inside"]:
        problem = f"The condition {text!r} does not say against which mode {part!r} is counted."
        raise InputError(problem, f"Write {call['way']}({call['inside']}, OTHER). {known}")
    raise InputError(f"The condition {text!r} names {part!r}, which is not evaluated.", known)


def _term(part: str, modes: Collection[str], tasks: Collection[str] | None) -> Side | None:
    """A mode's score, or what it lost or gained against another."""
    if found := _name(part, modes, tasks):
        return Side(*found, 0.0)
    if (call := _TURNED.fullmatch(part)) is None:
        return None
    # A mode may be a selection with commas of its own: it is not looked for between two of them.
    for other in modes:
        who = call["inside"].removesuffix(other).rstrip()
        if who.endswith(",") and (found := _name(who[:-1].rstrip(), modes, tasks)):
            return Side(*found, 0.0, cast(Way, call["way"]), other)
    return None


def _name(
    part: str, modes: Collection[str], tasks: Collection[str] | None
) -> tuple[str, str | None] | None:
    if part in modes:
        return part, None
    for mode in modes:
        task = part.removeprefix(f"{mode}.")
        # No name of a task has blanks: what has them is a sum.
        if task != part and (task in tasks if tasks is not None else not _BLANK.search(task)):
            return mode, task
    return None
