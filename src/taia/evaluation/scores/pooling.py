"""A run's results as tasks whose items stand side by side: groups joined, what is wrong refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from taia.errors import DataError
from taia.evaluation.scores.results import TaskResult

#: Metrics of safety: shares of harmful prompts answered, and of harmless ones refused.
SAFETY: Final = ("asr", "over_refusal")

#: Groups that are lists of tasks, each of which counts by itself: the paper's seven.
SUITES: Final = frozenset({"taia"})

_AGAIN: Final = "Remove the folder's results and run `taia eval` again."


@dataclass(frozen=True)
class Task:
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
    """

    name: str
    metric: str
    higher_is_better: bool
    protocol: str
    version: str
    parts: tuple[str, ...]
    items: Mapping[str, Mapping[str, float]]
    options: Mapping[str, int] = field(default_factory=dict)

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
        return all(score in (0, 1) for score in self._scores())

    @cached_property
    def is_share(self) -> bool:
        """Whether every score is from 0 to 1, so that points and percent mean something."""
        return all(0 <= score <= 1 for score in self._scores())

    @property
    def is_safety(self) -> bool:
        """Whether it is about safety, not about what a model can do."""
        return self.metric in SAFETY

    @property
    def is_averaged(self) -> bool:
        """Whether it counts in the average: an accuracy, or something like it."""
        return self.higher_is_better and self.is_share and not self.is_safety

    def paired(self, mode: str, other: str) -> tuple[list[float], list[float]]:
        """Both modes' scores of the items that both answered, in one order."""
        one, two = self.items[mode], self.items[other]
        shared = sorted(one.keys() & two.keys())
        return [one[item] for item in shared], [two[item] for item in shared]

    def _scores(self) -> Iterable[float]:
        return (score for of_mode in self.items.values() for score in of_mode.values())


def pool(
    results: Sequence[TaskResult], groups: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Task], tuple[str, ...]]:
    """Join results into tasks.

    Args:
        results: Of a run, in the order to show.
        groups: Group → the tasks or groups in it that count as one task, all their items together.
            The outermost group wins. :data:`SUITES` are no such groups.

    Returns:
        The tasks by name, and what a reader must know: results and items that are missing, groups
        that could not be joined.

    Raises:
        DataError: If a result is there twice, has no items or an item twice, or if modes did the
            same task by different rules.
    """
    _check_once(results)
    notes: list[str] = []
    members: dict[str, list[TaskResult]] = defaultdict(list)
    of = _outermost(groups)
    apart = _unlike(results, of)
    for result in results:
        group = of.get(result.task, result.task)
        members[result.task if group in apart else group].append(result)
    for group in apart:
        notes.append(f"The tasks of {group} are scored by different metrics and stand apart.")
    tasks = {name: _task(name, found) for name, found in members.items()}
    modes = list(dict.fromkeys(result.mode for result in results))
    for task in tasks.values():
        notes += _missing(task, modes)
    return tasks, tuple(notes)


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
        if any(score != score for score in result.scores):
            raise DataError(f"{where} has a score that is no number.", _AGAIN)


def _outermost(groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Task → the largest group that it is in."""
    leaves = {group: _leaves(group, groups, frozenset()) for group in groups.keys() - SUITES}
    found: dict[str, str] = {}
    for group in sorted(leaves, key=lambda name: (-len(leaves[name]), name)):
        for task in leaves[group]:
            found.setdefault(task, group)
    return found


def _leaves(name: str, groups: Mapping[str, Sequence[str]], above: frozenset[str]) -> set[str]:
    if name not in groups or name in above:
        return {name} - above
    parts = (_leaves(part, groups, above | {name}) for part in groups[name])
    return set().union(*parts)


def _unlike(results: Sequence[TaskResult], of: Mapping[str, str]) -> list[str]:
    """Groups whose tasks are scored by different metrics."""
    metrics: dict[str, set[tuple[str, bool]]] = defaultdict(set)
    for result in results:
        if result.task in of:
            metrics[of[result.task]].add((result.metric, result.higher_is_better))
    return [group for group, found in metrics.items() if len(found) > 1]


def _task(name: str, results: Sequence[TaskResult]) -> Task:
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
    return Task(
        name,
        first.metric,
        first.higher_is_better,
        ", ".join(dict.fromkeys(r.protocol for r in rules.values())),
        ", ".join(dict.fromkeys(r.version for r in rules.values())),
        tuple(rules) if grouped else (),
        dict(items),
        options,
    )


def _rules(result: TaskResult) -> tuple[str, bool, str, str]:
    return result.metric, result.higher_is_better, result.protocol, result.version


def _missing(task: Task, modes: Sequence[str]) -> list[str]:
    outside = ", which is not in the average therefore" if task.is_averaged else ""
    notes = [
        f"{mode} has no result of {task.name}{outside}." for mode in modes if mode not in task.items
    ]
    everything = set().union(*task.items.values())
    for mode, items in task.items.items():
        lacking = len(everything) - len(items)
        if lacking:
            notes.append(
                f"{mode} has no answer to {lacking} of the {len(everything)} items of {task.name}; "
                "differences are over the items that both modes answered."
            )
    return notes
