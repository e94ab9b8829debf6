"""Several runs of the same modes and tasks, side by side: seeds, or models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, stdev

from taia.evaluation.scores.summary import Summary
from taia.reporting.evaluation.run import Run
from taia.reporting.evaluation.words import AVERAGE, direction, mean, score
from taia.reporting.words import called, capital, pairs, points


def are_alike(runs: Sequence[Run]) -> bool:
    """Whether there are several runs, of the same modes and tasks."""
    kinds = {(run.summary.modes, run.summary.tasks, run.summary.averaged) for run in runs}
    return len(runs) > 1 and len(kinds) == 1


def columns(runs: Sequence[Run]) -> list[str]:
    """The tasks, with ``↓`` where lower is better, and the average before safety."""
    summary = runs[0].summary
    names = [f"{task} {direction(summary, task)}".strip() for task in summary.tasks]
    return _with_average(summary, names, lambda: AVERAGE)


def side_by_side(runs: Sequence[Run]) -> dict[str, dict[str, list[str]]]:
    """Mode → run → its scores, in the order of :func:`columns`."""
    return {
        mode: {run.name: _scores(run.summary, mode) for run in runs}
        for mode in runs[0].summary.modes
    }


def findings(runs: Sequence[Run]) -> list[str]:
    """How the averages' differences fall out from run to run."""
    return [
        sentence
        for mode, other in pairs(runs[0].summary.modes)
        if (sentence := _over_runs(runs, mode, other))
    ]


def _over_runs(runs: Sequence[Run], mode: str, other: str) -> str:
    found = [run.summary.average_difference(mode, other) for run in runs]
    values = [difference.value for difference in found if difference is not None]
    if len(values) < len(runs):
        return ""
    better = sum(value > 0 for value in values)
    return (
        f"{capital(called(mode))} minus {called(other)} on average, in {len(runs)} runs: "
        f"{', '.join(map(points, values))} points; mean {points(fmean(values))}, standard "
        f"deviation {100 * stdev(values):.1f}, above zero in {better} of them."
    )


def _scores(summary: Summary, mode: str) -> list[str]:
    found = [score(summary, mode, task) for task in summary.tasks]
    return _with_average(summary, found, lambda: mean(summary.average(mode)))


def _with_average(summary: Summary, cells: list[str], average: Callable[[], str]) -> list[str]:
    if len(summary.averaged) > 1:
        cells.insert(len(summary.averaged), average())
    return cells
