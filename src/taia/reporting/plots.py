"""A run as plots."""

from __future__ import annotations

from collections.abc import Callable

from taia.evaluation.scores.statistics import Average, Estimate
from taia.evaluation.scores.summary import Summary
from taia.reporting import svg
from taia.reporting.svg.drawing import short
from taia.reporting.words import AVERAGE, chance, pairs, percent, sign
from taia.text import counted

#: Tasks of fewer items have intervals so wide that others could not be read beside them.
_FEW = 20


def forests(summary: Summary) -> dict[tuple[str, str], str]:
    """For each pair of modes, their differences in the average's tasks; real ones are solid."""
    gaps = {pair: _gaps(summary, *pair) for pair in pairs(summary.modes)}
    reach = _reach(summary)
    return {
        (mode, other): svg.forest(some, f"{mode} minus {other}, in points.", reach)
        for (mode, other), some in gaps.items()
        if some
    }


def scores(summary: Summary) -> str | None:
    """A line per task and mode: the score and its 95% interval; none without shares."""
    tasks = [task for task in summary.tasks if summary.about[task].is_share]
    blocks = [
        svg.Block(
            task,
            [
                (number, mode, summary.score(mode, task))
                for number, mode in enumerate(summary.modes)
                if summary.has(mode, task)
            ],
            chance(summary, task),
        )
        for task in tasks
    ]
    return svg.rows(blocks, "Scores in percent.", "%") if blocks else None


def safety(summary: Summary) -> dict[str, str]:
    """For each task of safety, it across and what the modes can do upwards."""
    helpful = _helpful(summary)
    if helpful is None:
        return {}
    name, measure = helpful
    drawn = {}
    for task in summary.safety:
        points = [
            svg.Point(number, summary.score(mode, task), measure(mode))
            for number, mode in enumerate(summary.modes)
            if summary.has(mode, task)
        ]
        told = "; ".join(
            f"{summary.modes[mode]}: {percent(x)} and {percent(y)}" for mode, x, y in points
        )
        what = "answered" if summary.about[task].metric == "asr" else "refused"
        across = f"{short(task, 24)}, % {what}: less is better"
        upwards = f"{short(name, 24)}, %"
        drawn[task] = svg.cross(points, across, upwards, f"{task} across, {name} upwards: {told}")
    return drawn


def _gaps(summary: Summary, mode: str, other: str) -> list[svg.Gap]:
    number, gaps = summary.modes.index(mode), []
    average = summary.average_difference(mode, other)
    if average is not None:
        name = f"{AVERAGE}, {mode} − {other}"
        gaps.append(svg.Gap(number, name, AVERAGE, average, not sign(average)))
    for task in summary.averaged:
        found = summary.difference(mode, other, task)
        if found is not None:
            few = f", {counted(found.items, 'item')}" if task in _few(summary) else ""
            name = f"{task}{few}, {mode} − {other}"
            shown = f"{short(task, 16 - len(few))}{few}"
            gaps.append(svg.Gap(number, name, shown, found, not found.is_real))
    return gaps


def _reach(summary: Summary) -> float:
    """How far the axis of differences goes: tasks of few items do not stretch it."""
    few = _few(summary)
    ends = [0.0]
    for pair in pairs(summary.modes):
        shown: list[Estimate | None] = [
            summary.difference(*pair, task) for task in summary.averaged if task not in few
        ]
        average = summary.average_difference(*pair)
        if average is not None and few:
            ends.append(abs(average.value))
        elif average is not None:
            shown.append(average)
        ends += [svg.extent(found, way) for found in shown if found for way in (-1, 1)]
    return max(ends)


def _few(summary: Summary) -> set[str]:
    """The average's tasks of few items, where there are others."""
    found = {
        task
        for task in summary.averaged
        if min(summary.score(mode, task).items for mode in summary.modes) < _FEW
    }
    return found if len(found) < len(summary.averaged) else set()


def _helpful(summary: Summary) -> tuple[str, Callable[[str], Estimate]] | None:
    """What stands for all that modes can do: the average, or the one task there is."""
    if not summary.averaged:
        return None
    if len(summary.averaged) == 1:
        (task,) = summary.averaged
        return task, lambda mode: summary.score(mode, task)
    return f"{AVERAGE} of {len(summary.averaged)} tasks", lambda mode: _of(summary.average(mode))


def _of(average: Average | None) -> Estimate:
    assert average is not None  # there are two tasks or more
    return average
