"""What a run says: every mode's score of every task, and which differences are real."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

from taia.errors import DataError
from taia.evaluation.scores.changes import TaskChange, changes
from taia.evaluation.scores.groups import aggregates, read_groups, read_parts
from taia.evaluation.scores.pooling import SAFETY, PooledTask, pool
from taia.evaluation.scores.resampling import FEWEST
from taia.evaluation.scores.results import TaskResult
from taia.evaluation.scores.scored import FurtherShare, TaskScore, further_shares, score
from taia.evaluation.scores.statistics import (
    Average,
    Contrast,
    Estimate,
    average,
    average_difference,
)


@dataclass(frozen=True)
class Summary:
    """What a run says.

    Attributes:
        facts: The run's ``run.json``.
        selections: Mode → what it stands for, in the order shown.
        about: Task or group → what it is.
        notes: What a reader must know: missing results and items.
        scores: (mode, task) → its score.
        changes: (mode, other mode, task) → the difference, both ways round.
        readings: What further metrics say of the tasks about safety.
        seconds: Task → how long all modes' answers took to compute.
        groups: (mode, group) → the group's scores as lm-evaluation-harness makes them of its file:
            ``METRIC,FILTER`` → score.
    """

    facts: Mapping[str, Any]
    selections: Mapping[str, str]
    about: Mapping[str, PooledTask]
    notes: tuple[str, ...]
    scores: Mapping[tuple[str, str], TaskScore]
    changes: Mapping[tuple[str, str, str], TaskChange]
    readings: tuple[FurtherShare, ...] = ()
    groups: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, results: Sequence[TaskResult], facts: Mapping[str, Any]) -> Summary:
        """Summarise a run.

        Intervals and p-values are those of :mod:`taia.evaluation.scores.statistics`; p-values are
        corrected over the tasks that two modes share, by Holm's method.

        Args:
            results: Of every mode and task there is, in the order to show.
            facts: The run's ``run.json``; ``groups`` of it are tasks that count as one.

        Raises:
            DataError: If there are none, or they do not belong together; see
                :func:`taia.evaluation.scores.pooling.pool`.
        """
        if not results:
            raise DataError("There are no results to summarise.", "Let `taia eval` finish a task.")
        about, notes = pool(results, facts)
        selections = {result.mode: result.selection for result in results}
        scores = {
            (mode, task.name): score(task, mode)
            for task in about.values()
            for mode in selections
            if mode in task.items
        }
        found: dict[tuple[str, str, str], TaskChange] = {}
        for mode, other in combinations(selections, 2):
            for task, change in changes(about, mode, other).items():
                found[mode, other, task] = change
                found[other, mode, task] = change.turned()
        notes += _without_interval(scores, about)
        notes += tuple(part.told for part in read_parts(facts).values())
        further = further_shares(results, SAFETY)
        groups = {
            (mode, group.name): aggregates(group, {r.task: r for r in results if r.mode == mode})
            for mode in selections
            for group in read_groups(facts).values()
        }
        seconds = {
            task: math.fsum(one.seconds for one in results if one.task == task)
            for task in dict.fromkeys(one.task for one in results)
        }
        said = cls(facts, selections, about, notes, scores, found, further, groups, seconds)
        return replace(said, notes=(*notes, *_of_groups(said)))

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes, in the order shown."""
        return tuple(self.selections)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks and groups: those in the average, then others, then safety."""
        kinds = (self.averaged, self.others, self.safety)
        return tuple(task for kind in kinds for task in kind)

    @cached_property
    def averaged(self) -> tuple[str, ...]:
        """Tasks that the average is over: those like an accuracy that every mode has done."""
        return tuple(
            name
            for name, task in self.about.items()
            if task.is_averaged and all(mode in task.items for mode in self.modes)
        )

    @property
    def safety(self) -> tuple[str, ...]:
        """Tasks about safety."""
        return tuple(name for name, task in self.about.items() if task.is_safety)

    @property
    def others(self) -> tuple[str, ...]:
        """Tasks that are neither in the average nor about safety."""
        known = {*self.averaged, *self.safety}
        return tuple(name for name in self.about if name not in known)

    def has(self, mode: str, task: str) -> bool:
        """Whether a mode has done a task."""
        return (mode, task) in self.scores

    def score(self, mode: str, task: str) -> TaskScore:
        """A mode's score of a task; a fraction where the task is a share.

        Raises:
            KeyError: If the mode has not done it; see :meth:`has`.
        """
        return self.scores[mode, task]

    def standard_error(self, mode: str, task: str) -> float:
        """Of a mode's score of a task."""
        return self.score(mode, task).standard_error

    def difference(self, mode: str, other: str, task: str) -> TaskChange | None:
        """A mode's score minus another's over the same items; none where they share no item."""
        return self.changes.get((mode, other, task))

    def average(self, mode: str) -> Average | None:
        """The mean of a mode's averaged tasks, each weighing the same; none of fewer than two."""
        if len(self.averaged) < 2:
            return None
        # Sorted, so that the last digit does not depend on the items' order.
        return average(
            {name: sorted(self.about[name].items[mode].values()) for name in self.averaged}
        )

    def average_difference(self, mode: str, other: str) -> Contrast | None:
        """One average minus another, over the items that both answered.

        None of fewer than two tasks, or where two modes share no items of one.
        """
        return self._average_differences.get((mode, other))

    @cached_property
    def _average_differences(self) -> dict[tuple[str, str], Contrast]:
        found: dict[tuple[str, str], Contrast] = {}
        for mode, other in combinations(self.modes, 2):
            pairs = [self.about[name].paired(mode, other) for name in self.averaged]
            if len(pairs) > 1 and all(first for first, _ in pairs):
                there = average_difference(pairs)
                found[mode, other], found[other, mode] = there, there.turned()
        return found

    def to_json(self) -> dict[str, Any]:
        """As JSON values; scores and differences are as the tasks count them, not in percent."""
        return {
            "tasks": [self.about[name].described(name in self.averaged) for name in self.tasks],
            "modes": [self._mode(mode) for mode in self.modes],
            "readings": [asdict(reading) for reading in self.readings],
            "groups": {
                mode: {
                    group: dict(found) for (of, group), found in self.groups.items() if of == mode
                }
                for mode in self.modes
            },
            "seconds": dict(self.seconds),
            "notes": list(self.notes),
        }

    def _mode(self, mode: str) -> dict[str, Any]:
        others = [other for other in self.modes if other != mode]
        return {
            "mode": mode,
            "selection": self.selections[mode],
            "scores": {
                task: _plain(self.score(mode, task)) for task in self.tasks if self.has(mode, task)
            },
            "average": _plain(self.average(mode)),
            "minus": {
                other: {
                    "tasks": {
                        task: {**asdict(change), **_judged(change)}
                        for task in self.tasks
                        if (change := self.difference(mode, other, task))
                    },
                    "average": _contrast(self.average_difference(mode, other)),
                }
                for other in others
            },
        }


def _of_groups(summary: Summary) -> list[str]:
    """The scores of groups that have one which stands nowhere else."""
    notes = []
    for name, group in read_groups(summary.facts).items():
        shown = {mode: summary.groups[mode, name] for mode in summary.modes}
        metric = next((key for found in shown.values() for key in found), None)
        is_average = set(group.tasks) == set(summary.averaged)
        if metric is None or name in summary.about or is_average:
            continue
        weighs = "by size" if group.metrics[0].weight_by_size else "all the same"
        scores = ", ".join(f"{m} {found[metric]:.4g}" for m, found in shown.items() if found)
        label = metric.removesuffix(",none")
        notes.append(f"{name}, whose tasks weigh {weighs} by its own file, has {label}: {scores}.")
    return notes


def _without_interval(
    scores: Mapping[tuple[str, str], TaskScore], about: Mapping[str, PooledTask]
) -> tuple[str, ...]:
    """That there is no interval, and why, said once for a task."""
    tasks = {task: found.items for (_, task), found in scores.items() if found.interval is None}
    return tuple(
        f"{task} has no intervals, and none of its differences is called real: "
        + (
            f"its {about[task].metric} has no upper limit, which takes {FEWEST} items, and it has "
            f"{items}."
            if items < FEWEST
            else f"its {items} items are too much alike."
        )
        for task, items in tasks.items()
    )


def _contrast(found: Contrast | None) -> dict[str, Any] | None:
    return None if found is None else {**asdict(found), **_judged(found)}


def _judged(found: Contrast) -> dict[str, Any]:
    return {"is_real": found.is_real, "verdict": found.verdict}


def _plain(estimate: Estimate | Average | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in asdict(estimate).items()
    }
