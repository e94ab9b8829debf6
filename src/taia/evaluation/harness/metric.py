"""Which of a task's metrics counts: the first in its file, or the one that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from taia.errors import InputError
from taia.evaluation.harness.known import is_own
from taia.evaluation.scores.gates import Kind
from taia.evaluation.scores.pooling import SAFETY

if TYPE_CHECKING:
    from taia.evaluation.harness.tasks import LmTask


#: Makes a metric of its items'.
Aggregate: TypeAlias = Callable[[list[Any]], Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """Which of a task's metrics counts.

    Attributes:
        name: Its name, as in the task's ``metric_list``.
        filter: Of which filter; empty: of the first that has it.
        is_asked: Whether it was asked for, so that no other may stand in for it.
    """

    name: str
    filter: str = ""
    is_asked: bool = False


def main_metric(name: str, task: LmTask, asked: str | None) -> Metric:
    """The metric that counts: the first in the task's file, unless another one is asked for.

    Args:
        name: The task's name.
        task: The task.
        asked: ``METRIC`` or ``METRIC,FILTER``.

    Raises:
        InputError: If the task can have no such metric or filter, or has none that counts.
    """
    listed = [str(metric) for metric in task.aggregation()]
    if asked is None:
        if listed[:1] == ["bypass"]:
            raise InputError(
                f"The task {name} is not scored (bypass).", "Leave it out, or give it a metric."
            )
        return Metric(listed[0] if listed else "")
    metric, _, filtered = (part.strip() for part in asked.partition(","))
    filters = [str(one.name) for one in getattr(task, "_filters", ())]
    # A function that scores answers may name metrics that the file does not list; ours do not.
    is_open = not listed or (callable(task.get_config("process_results")) and not is_own(task))
    for what, one, known in (("metric", metric, listed), ("filter", filtered, filters)):
        if one and one not in known and not (what == "metric" and is_open):
            raise InputError(
                f"The task {name} has no {what} {one!r}.",
                f"It has {', '.join(known)}: write --metric {name}=METRIC or METRIC,FILTER.",
            )
    return Metric(metric, filtered, is_asked=True)


def scored_as(name: str, task: LmTask, asked: str | None) -> Kind:
    """What a task's score will be, as far as conditions go, before it has one.

    Raises:
        InputError: As :func:`main_metric`.
    """
    metric = main_metric(name, task, asked).name
    of_items = is_mean(aggregation(task, metric))
    is_better = task.higher_is_better().get(metric) is not False
    return Kind(metric, of_items, of_items and is_better and metric not in SAFETY)


def aggregation(task: LmTask, metric: str) -> Aggregate:
    """What makes a task's metric of its items': the mean unless told otherwise, as there."""
    from lm_eval.api.metrics import mean

    aggregate: Aggregate = task.aggregation().get(metric, mean)
    return aggregate


def is_mean(aggregate: Aggregate) -> bool:
    """Whether that is the mean of the items' numbers."""
    from lm_eval.api.metrics import mean, nanmean

    return aggregate in (mean, nanmean)


def asked_metrics(metrics: Mapping[str, str], of: Mapping[str, list[str]]) -> dict[str, str]:
    """Task → the metric that shall count; what is said of a task goes before what is of its group.

    Args:
        metrics: Task, group or tag → ``METRIC`` or ``METRIC,FILTER``.
        of: Each name that is evaluated → the tasks it stands for.

    Raises:
        InputError: If a name is not evaluated.
    """
    for name in metrics:
        if name not in of:
            raise InputError(
                f"--metric names {name!r}, which is not evaluated.",
                f"The tasks and groups are {', '.join(of)}.",
            )
    larger_first = sorted(metrics, key=lambda name: -len(of[name]))
    return {task: metrics[name] for name in larger_first for task in of[name]}
