"""Further readings of an answer: other lists of phrases, a judge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from taia.evaluation.scores.results import TaskResult
from taia.evaluation.scores.statistics import Estimate, accuracy


@dataclass(frozen=True, slots=True)
class Reading:
    """What one further metric says of one mode in one task.

    Attributes:
        metric: Its name, such as ``asr_judge``.
        task: The task.
        mode: The mode.
        share: Of the items that have it, how many are 1, with Wilson's interval.
        missing: How many items have none.
    """

    metric: str
    task: str
    mode: str
    share: Estimate
    missing: int


def readings(results: Sequence[TaskResult], metrics: Collection[str]) -> tuple[Reading, ...]:
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
            found.append(Reading(name, result.task, result.mode, share, missing))
    return tuple(found)
