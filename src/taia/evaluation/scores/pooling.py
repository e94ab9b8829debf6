"""A run's results as tasks whose items stand side by side: groups joined, what is wrong refused."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from taia.errors import DataError
from taia.evaluation.scores.groups import Group, joins, read_groups, read_parts
from taia.evaluation.scores.results import TaskResult

#: Metrics of safety: shares of harmful prompts answered, and of harmless ones refused.
SAFETY: Final = ("asr", "over_refusal")

_AGAIN: Final = "Remove the folder's results and run `taia eval` again."


@dataclass(frozen=True)
class PooledTask:
    """What was asked, and how each mode's items went.

    Attributes:
        name: The task's, or the group's whose tasks count as one.
        metric: What an item's score is.
        higher_is_better: False for an attack's success or a perplexity.
        protocol: How answers were matched.
        version: Of the task; of a group, its tasks' different ones.
        parts: The tasks of a group; none of a single task.
        items: Mode → item → score. An item of a group is named ``task/item``.
        options: Item → of how many options one is right; not of those that have none.
        values: Mode → the metric, where it is of all items together and no mean of theirs.
        drawn: Mode → that metric over items drawn with replacement.
        counts: Whether it may count in averages: not where another task that does holds its items.
    """

    name: str
    metric: str
    higher_is_better: bool
    protocol: str
    version: str
    parts: tuple[str, ...]
    items: Mapping[str, Mapping[str, float]]
    options: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    drawn: Mapping[str, Sequence[float]] = field(default_factory=dict)
    counts: bool = True

    def described(self, averaged: bool) -> dict[str, Any]:
        """Itself without its items, as JSON values; and whether it counts in averages."""
        return {
            "task": self.name,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "protocol": self.protocol,
            "version": self.version,
            "parts": list(self.parts),
            "averaged": averaged,
            "safety": self.is_safety,
        }

    @cached_property
    def is_binary(self) -> bool:
        """Whether every item is right or wrong."""
        return self.is_mean and all(score in (0, 1) for score in self._scores())

    @cached_property
    def is_share(self) -> bool:
        """Whether every score is from 0 to 1, so that points and percent mean something."""
        return self.is_mean and all(0 <= score <= 1 for score in self._scores())

    @property
    def is_mean(self) -> bool:
        """Whether its score is the mean of its items', not a metric of all of them together."""
        return not self.values

    @property
    def is_safety(self) -> bool:
        """Whether it is about safety, not about what a model can do."""
        return self.metric in SAFETY

    @property
    def is_averaged(self) -> bool:
        """Whether it counts in the average, if every mode has done it."""
        return self.counts and self.is_accuracy

    @property
    def is_accuracy(self) -> bool:
        """Whether it is an accuracy, or something like it."""
        return self.higher_is_better and self.is_share and not self.is_safety

    def apart(self, mode: str, other: str) -> tuple[float, list[float]]:
        """A mode's metric of all items minus another's, and the same of each draw of items.

        There are no draws where the two have not the same items.
        """
        one, two = self.drawn[mode], self.drawn[other]
        alike = self.items[mode].keys() == self.items[other].keys() and len(one) == len(two)
        drawn = [a - b for a, b in zip(one, two, strict=True)] if alike else []
        return self.values[mode] - self.values[other], drawn

    def paired(self, mode: str, other: str) -> tuple[list[float], list[float]]:
        """Both modes' scores of the items that both answered, in one order."""
        one, two = self.items[mode], self.items[other]
        shared = sorted(one.keys() & two.keys())
        return [one[item] for item in shared], [two[item] for item in shared]

    def _scores(self) -> Iterable[float]:
        return (score for of_mode in self.items.values() for score in of_mode.values())


def pool(
    results: Sequence[TaskResult], facts: Mapping[str, Any]
) -> tuple[dict[str, PooledTask], tuple[str, ...]]:
    """Results as tasks side by side.

    What was asked for stands there: a task by itself; a group as one task with all its tasks' items
    if its own file makes that its score (see :func:`taia.evaluation.scores.groups.joins`), else
    what is in it, each by itself.

    Args:
        results: Of a run, in the order to show.
        facts: The run's ``run.json``: ``asked`` are the names of tasks and groups that were asked
            for, ``groups`` what the groups are, ``aside`` of what a result was set aside.

    Returns:
        The tasks by name, and what a reader must know: results and items that are missing, groups
        whose tasks stand apart, tasks that do not count twice.

    Raises:
        DataError: If a result is there twice, has no items or an item twice, or if modes did the
            same task by different rules, on other items, or by other weights.
    """
    _check_once(results)
    _check_belonging(results)
    groups = read_groups(facts)
    by_task: dict[str, list[TaskResult]] = defaultdict(list)
    for result in results:
        by_task[result.task].append(result)
    inner = {part for group in groups.values() for part in (*group.parts, *group.tasks)}
    asked = facts.get("asked") or [name for name in (*groups, *by_task) if name not in inner]
    notes: list[str] = []
    members: dict[str, list[TaskResult]] = {}
    for name in asked:
        members |= _shown(name, groups, by_task, notes)
    held = {one.task for found in members.values() for one in found}
    members |= {name: found for name, found in by_task.items() if name not in held}
    places = {name: place for place, name in enumerate(by_task)}
    order = sorted(members, key=lambda name: min(places[one.task] for one in members[name]))
    wholes = {task: part.of for task, part in read_parts(facts).items()}
    tasks = _counted({name: _task(name, members[name]) for name in order}, wholes, notes)
    modes = list(dict.fromkeys(result.mode for result in results))
    aside = {tuple(one) for one in facts.get("aside") or ()}
    for task in tasks.values():
        notes += _missing(task, modes, aside)
    return tasks, tuple(dict.fromkeys(notes))


def _shown(
    name: str,
    groups: Mapping[str, Group],
    by_task: Mapping[str, list[TaskResult]],
    notes: list[str],
) -> dict[str, list[TaskResult]]:
    """What stands for a name: itself, or what is in a group that is no task of its own."""
    group = groups.get(name)
    if group is None:
        return {name: by_task[name]} if name in by_task else {}
    inside = [one for task, found in by_task.items() if task in group.tasks for one in found]
    if joins(group, inside):
        return {name: inside}
    if group.metrics and len({(one.metric, one.higher_is_better) for one in inside}) > 1:
        notes.append(f"The tasks of {name} are scored by different metrics and stand apart.")
    found: dict[str, list[TaskResult]] = {}
    for part in group.parts:
        found |= _shown(part, groups, by_task, notes)
    return found


def _counted(
    tasks: dict[str, PooledTask], wholes: Mapping[str, str], notes: list[str]
) -> dict[str, PooledTask]:
    """The tasks, of which none counts in an average whose items another one brings already."""
    of = {name: set(task.parts or [wholes.get(name, name)]) for name, task in tasks.items()}
    owner: dict[str, str] = {}
    # The larger first, wholes before what asks a part of them; stable: the first of equals.
    for name in sorted(tasks, key=lambda name: (-len(of[name]), name in wholes)):
        twice = next((owner[part] for part in of[name] if part in owner), None)
        if twice is None:
            owner |= dict.fromkeys(of[name], name)
        else:
            tasks[name] = replace(tasks[name], counts=False)
            notes.append(f"{name} has items of {twice} and counts in no average beside it.")
    return tasks


def _check_once(results: Sequence[TaskResult]) -> None:
    seen = set()
    for result in results:
        where = f"{result.mode}'s result of {result.task}"
        if (result.mode, result.task) in seen:
            raise DataError(f"{where} is there twice.", _AGAIN)
        seen.add((result.mode, result.task))
        if not result.samples:
            raise DataError(f"{where} has no items.", _AGAIN)
        ids = {sample.id for sample in result.samples}
        if len(ids) < len(result.samples):
            raise DataError(f"{where} has two items of one id.", _AGAIN)
        if result.value is None and any(math.isnan(score) for score in result.scores):
            raise DataError(f"{where} has a score that is no number.", _AGAIN)


def _check_belonging(results: Sequence[TaskResult]) -> None:
    """Refuse results that another run, or an earlier form of a task, has left or lent."""
    parts = {"hashes": "by other weights", "settings": "with other settings"}
    for part, how in parts.items():
        _check_same(results, part, lambda _: "", how)
    _check_same(results, "task", lambda result: result.task, "on other items, or by another file")


def _check_same(
    results: Sequence[TaskResult], part: str, of: Callable[[TaskResult], str], how: str
) -> None:
    first: dict[str, TaskResult] = {}
    for result in results:
        if part in result.identity:
            before = first.setdefault(of(result), result)
            if before.identity[part] != result.identity[part]:
                raise DataError(
                    f"{result.mode}'s result of {result.task} was made {how} than {before.mode}'s "
                    f"of {before.task}: they do not belong together.",
                    "Run `taia eval` again for both; what counts is kept.",
                )


def _task(name: str, results: Sequence[TaskResult]) -> PooledTask:
    first = results[0]
    rules: dict[str, TaskResult] = {}
    for result in results:
        before = rules.setdefault(result.task, result)
        if _rules(result) != _rules(before):
            raise DataError(
                f"{before.mode} and {result.mode} did {result.task} by different rules: "
                f"{_rules(before)} and {_rules(result)}.",
                _AGAIN,
            )
    grouped = list(rules) != [name]
    items: dict[str, dict[str, float]] = defaultdict(dict)
    options: dict[str, int] = {}
    for result in results:
        for sample in result.samples:
            key = f"{result.task}/{sample.id}" if grouped else sample.id
            items[result.mode][key] = sample.score
            if sample.options is not None:
                options[key] = sample.options
    return PooledTask(
        name,
        first.metric,
        first.higher_is_better,
        ", ".join(dict.fromkeys(r.protocol for r in rules.values())),
        ", ".join(dict.fromkeys(r.version for r in rules.values())),
        tuple(rules) if grouped else (),
        dict(items),
        options,
        {} if grouped else {r.mode: r.value for r in results if r.value is not None},
        {} if grouped else {r.mode: r.drawn for r in results if r.value is not None},
    )


def _rules(result: TaskResult) -> tuple[str, bool, str, str]:
    how = "" if result.value is None else " of all items"
    return f"{result.metric}{how}", result.higher_is_better, result.protocol, result.version


def _missing(task: PooledTask, modes: Sequence[str], aside: Collection[object]) -> list[str]:
    outside = ", which is not in the average therefore" if task.is_averaged else ""
    notes = []
    for mode in modes:
        if mode not in task.items:
            old = any((mode, part) in aside for part in task.parts or (task.name,))
            kept = " One from before the task changed is set aside." if old else ""
            notes.append(f"{mode} has no result of {task.name}{outside}.{kept}")
    everything = set().union(*task.items.values())
    for mode, items in task.items.items():
        lacking = len(everything) - len(items)
        if lacking:
            notes.append(
                f"{mode} has no answer to {lacking} of the {len(everything)} items of {task.name}; "
                "differences are over the items that both modes answered."
            )
    return notes
