"""Groups of tasks, and their scores as lm-evaluation-harness makes them of their own files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from taia.errors import DataError
from taia.evaluation.scores.results import TaskResult


@dataclass(frozen=True, slots=True)
class GroupMetric:
    """One entry of a group's ``aggregate_metric_list``.

    Attributes:
        metric: The tasks' metric.
        filters: Of which filters; ``None``: of all that a task has.
        weight_by_size: Whether a task weighs as much as it has items; else all weigh the same.
    """

    metric: str
    filters: tuple[str, ...] | None
    weight_by_size: bool


@dataclass(frozen=True, slots=True)
class Group:
    """A group.

    Attributes:
        name: Its name.
        parts: The tasks and groups right in it.
        tasks: All tasks in it, those of inner groups too; one that is there twice counts twice.
        metrics: Of what it has a score of its own; none of a mere list.
    """

    name: str
    parts: tuple[str, ...]
    tasks: tuple[str, ...]
    metrics: tuple[GroupMetric, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Itself without its name, as JSON values."""
        plain = asdict(self)
        del plain["name"]
        return plain


def read_groups(facts: Mapping[str, Any]) -> dict[str, Group]:
    """The groups that a run's ``run.json`` tells of.

    Raises:
        DataError: If what it tells cannot be read.
    """
    try:
        return {
            name: Group(
                name,
                tuple(row["parts"]),
                tuple(row["tasks"]),
                tuple(
                    GroupMetric(
                        one["metric"],
                        None if one["filters"] is None else tuple(one["filters"]),
                        one["weight_by_size"],
                    )
                    for one in row["metrics"]
                ),
            )
            for name, row in (facts.get("groups") or {}).items()
        }
    except (TypeError, KeyError) as error:
        raise DataError(
            f"The run's groups cannot be read: {error}.", "Evaluate into another folder."
        ) from error


@dataclass(frozen=True, slots=True)
class TaskPart:
    """What a task that asks a part of another says of that.

    Attributes:
        of: The other task.
        told: What it leaves out, as a sentence.
    """

    of: str
    told: str


def read_parts(facts: Mapping[str, Any]) -> dict[str, TaskPart]:
    """Task → what it leaves out, of those that a run's ``run.json`` tells of.

    Raises:
        DataError: If what it tells cannot be read.
    """
    try:
        told = dict(facts.get("left_out") or {})
        return {task: TaskPart(str(row["of"]), str(row["told"])) for task, row in told.items()}
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(
            f"What the run's tasks leave out cannot be read: {error}.",
            "Evaluate into another folder.",
        ) from error


def aggregates(group: Group, results: Mapping[str, TaskResult]) -> dict[str, float]:
    """A group's scores of one mode: its tasks' metrics, averaged as its file says.

    As in lm-evaluation-harness, a task that has not the metric is left out.

    Args:
        group: The group.
        results: Task → the mode's result.

    Returns:
        ``METRIC,FILTER`` → its average; empty of a mere list.
    """
    there = [results[task] for task in group.tasks if task in results]
    found: dict[str, float] = {}
    for entry in group.metrics:
        known = {key for one in there for key in one.metrics if key.startswith(f"{entry.metric},")}
        filters = entry.filters or sorted(key.removeprefix(f"{entry.metric},") for key in known)
        for name in filters:
            key = f"{entry.metric},{name}"
            having = [one for one in there if key in one.metrics]
            sizes = [one.size if entry.weight_by_size else 1 for one in having]
            if having:
                sums = (one.metrics[key] * size for one, size in zip(having, sizes, strict=True))
                found[key] = sum(sums) / sum(sizes)
    return found


def joins(group: Group, results: Sequence[TaskResult]) -> bool:
    """Whether the items of a group's tasks are items of one task, with the group's own score.

    They are where its file weighs tasks by their items, and its metric is the one that each of
    them is scored by, the mean of the items: then the mean over all items is the group's score.

    Args:
        group: The group.
        results: Its tasks' results, of all modes.
    """
    if not group.metrics or not group.metrics[0].weight_by_size or not results:
        return False
    main = group.metrics[0]
    metric, _, filtered = results[0].metric.partition(",")
    return (
        metric == main.metric
        and (main.filters is None or (filtered or "none") == main.filters[0])
        and len(set(group.tasks)) == len(group.tasks)
        and len({(one.metric, one.higher_is_better) for one in results}) == 1
        and all(one.value is None and one.size == len(one.samples) for one in results)
    )
