"""What one mode scored in one task, by the task's own metric and by further ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from taia.evaluation.scores.bounded import Ends
from taia.evaluation.scores.pooling import PooledTask
from taia.evaluation.scores.resampling import drawn_limits, spread
from taia.evaluation.scores.results import TaskResult
from taia.evaluation.scores.statistics import SHARE, Estimate, accuracy, mean, standard_error


@dataclass(frozen=True, slots=True)
class TaskScore(Estimate):
    """A mode's score of a task.

    Attributes:
        standard_error: Of the mean, as lm-evaluation-harness prints it.
        items: How many it is over.
    """

    standard_error: float
    items: int


@dataclass(frozen=True, slots=True)
class FurtherShare:
    """What one further metric, such as a judge, says of one mode in one task.

    Attributes:
        metric: Its name, such as ``asr_judge``.
        task: The task.
        mode: The mode.
        share: Of the items that have it, how many are 1, with its interval.
        missing: How many items have none.
    """

    metric: str
    task: str
    mode: str
    share: Estimate
    missing: int


def score(task: PooledTask, mode: str) -> TaskScore:
    """A mode's score of a task that it has done."""
    scores = list(task.items[mode].values())
    if not task.is_mean:
        value, drawn = task.values[mode], task.drawn[mode]
        low, high, _ = drawn_limits(value, drawn, len(scores)) or (None, None, None)
        return TaskScore(value, low, high, spread(drawn), len(scores))
    found = mean(scores, ends(task))
    return TaskScore(found.value, found.low, found.high, standard_error(scores), len(scores))


def ends(task: PooledTask) -> Ends | None:
    """Between what a task's scores lie, as far as it is known.

    Scores that lie from 0 to 1 are shares, but for those of which less is better: nats per byte
    may lie there too, and have no upper end.
    """
    bounded = task.higher_is_better or task.is_safety
    return SHARE if task.is_binary or (task.is_share and bounded) else None


def further_shares(
    results: Sequence[TaskResult], metrics: Collection[str]
) -> tuple[FurtherShare, ...]:
    """The further metrics of some tasks' items.

    Args:
        results: Of a run, in the order to show.
        metrics: The tasks' main metrics; names of further ones begin with theirs, ``asr_judge``,
            or are ``gibberish``.
    """
    found = []
    for result in results:
        if result.metric not in metrics:
            continue
        names = {name for sample in result.samples for name in sample.scores}
        for name in sorted(
            name for name in names if name.startswith(f"{result.metric}_") or name == "gibberish"
        ):
            values = [s.scores[name] for s in result.samples if name in s.scores]
            share = accuracy([value == 1 for value in values])
            missing = len(result.samples) - len(values)
            found.append(FurtherShare(name, result.task, result.mode, share, missing))
    return tuple(found)
