"""Differences with their intervals around a line at zero."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from taia.evaluation.scores.statistics import Estimate
from taia.reporting.svg.drawing import WIDTH, label, line, picture, step, text
from taia.reporting.svg.marks import bar, mark
from taia.reporting.words import change


class Gap(NamedTuple):
    """A row.

    Attributes:
        mode: Number of the mode whose mark it has.
        name: What is compared.
        shown: The same, short enough for the margin.
        difference: How large it is, a fraction.
        hollow: Whether the mark is drawn hollow: not a real difference.
    """

    mode: int
    name: str
    shown: str
    difference: Estimate
    hollow: bool = False


def forest(gaps: Sequence[Gap], words: str, reach: float = 0.0) -> str:
    """Differences and their 95% intervals.

    Args:
        gaps: From the top down.
        words: What the plot shows; the numbers are put behind it.
        reach: The axis goes at least so far; the same for plots that stand side by side.
    """
    left, right, row = 130, WIDTH - 14, 26
    reach = max([0.05, reach, *map(extent, gaps)])
    distance = step(reach, 3.5)

    def x(value: float) -> float:
        return (left + right) / 2 + value / (reach * 1.04) * (right - left) / 2

    height = 6.0
    parts = []
    for mode, name, shown, difference, hollow in gaps:
        middle = height + row / 2
        parts.append(label(left - 8, middle + 4, shown, name))
        span = ""
        if difference.interval is not None:
            low, high = map(x, difference.interval)
            span = line(bar(mode), low, middle, high, middle)
        title = f"<title>{escape(name)}: {change(difference)}</title>"
        point = mark(mode, x(difference.value), middle, hollow=hollow)
        parts.append(f"<g>{title}{span}{point}</g>")
        height += row
    grid = [line("zero", x(0), 2, x(0), height + 2)]
    for number in range(-int(reach / distance), int(reach / distance) + 1):
        value = number * distance
        grid.append(line("grid", x(value), 2, x(value), height + 2))
        at = f"{100 * value:+.0f}".replace("-", "−") if number else "0"
        grid.append(text("tick", x(value), height + 18, at, "middle"))
    axis = text("axis", (left + right) / 2, height + 36, "percentage points", "middle")
    told = "; ".join(f"{gap.name.replace('−', 'minus')}: {change(gap.difference)}" for gap in gaps)
    return picture(height + 42, f"{words} {told}", [*grid, *parts, axis])


def extent(gap: Gap) -> float:
    """How far from zero a difference and its interval go."""
    ends: tuple[float, ...] = gap.difference.interval or ()
    return max(abs(end) for end in (gap.difference.value, *ends))
