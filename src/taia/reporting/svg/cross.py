"""Two measures of each mode against each other: a mark in a cross of intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from taia.evaluation.scores.statistics import Estimate
from taia.reporting.svg.drawing import WIDTH, line, picture, text, ticks, upright
from taia.reporting.svg.marks import bar, mark


class Point(NamedTuple):
    """A mode.

    Attributes:
        mode: Its number.
        x: What is measured across, a fraction.
        y: What is measured upwards.
    """

    mode: int
    x: Estimate
    y: Estimate


def cross(points: Sequence[Point], across: str, upwards: str, words: str) -> str:
    """A mark for each mode, and its two 95% intervals.

    Args:
        points: At least one.
        across: What the axis across says.
        upwards: What the axis upwards says.
        words: The numbers, for who cannot see the plot.
    """
    left, right, top, bottom = 42, WIDTH - 12, 12, 252
    x0, x1 = _range([point.x for point in points])
    y0, y1 = _range([point.y for point in points])

    def x(value: float) -> float:
        return left + (value - x0) / (x1 - x0) * (right - left)

    def y(value: float) -> float:
        return bottom - (value - y0) / (y1 - y0) * (bottom - top)

    parts = []
    for tick in ticks(x0, x1):
        parts.append(line("grid", x(tick), top, x(tick), bottom))
        parts.append(text("tick", x(tick), bottom + 16, f"{100 * tick:.0f}", "middle"))
    for tick in ticks(y0, y1):
        parts.append(line("grid", left, y(tick), right, y(tick)))
        parts.append(text("tick", left - 6, y(tick) + 4, f"{100 * tick:.0f}", "end"))
    for mode, a, b in points:
        if a.interval is not None:
            low, high = map(x, a.interval)
            parts.append(line(bar(mode), low, y(b.value), high, y(b.value)))
        if b.interval is not None:
            low, high = map(y, b.interval)
            parts.append(line(bar(mode), x(a.value), low, x(a.value), high))
    parts += [mark(mode, x(a.value), y(b.value), 6) for mode, a, b in points]
    parts.append(text("axis", (left + right) / 2, bottom + 36, across, "middle"))
    parts.append(upright("axis", 12, (top + bottom) / 2, upwards, "middle"))
    return picture(bottom + 44, words, parts)


def _range(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """An axis that holds all intervals, with some air."""
    ends = [end for e in estimates for end in (e.value, *(e.interval or ()))]
    low, high = min(ends), max(ends)
    air = max(0.02, 0.08 * (high - low))
    return max(0.0, low - air), min(1.0, high + air)
