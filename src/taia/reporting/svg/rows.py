"""Shares with their intervals, a line for each mode, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from taia.evaluation.scores.statistics import Estimate
from taia.reporting.svg.drawing import WIDTH, label, line, picture, short, text
from taia.reporting.svg.marks import bar, mark
from taia.reporting.words import interval, percent


class Block(NamedTuple):
    """Lines under one heading.

    Attributes:
        name: The heading.
        lines: For each mode that has one, its number, name and share.
        chance: The share of guessing, where it is known.
    """

    name: str
    lines: Sequence[tuple[int, str, Estimate]]
    chance: float | None = None


def rows(blocks: Sequence[Block], words: str, axis: str = "% right") -> str:
    """A line per block and mode: its share and 95% interval, and guessing as a dashed line.

    Args:
        blocks: From the top down.
        words: What the plot shows; the numbers are put behind it.
        axis: What the axis says.
    """
    left, right, row = 98, WIDTH - 14, 15

    def x(value: float) -> float:
        return left + value * (right - left)

    height = 8.0
    parts, marks, told = [], [], []
    for name, lines, chance in blocks:
        start, numbers = height, []
        for mode, called, estimate in lines:
            middle = height + row / 2
            span = ""
            if estimate.interval is not None:
                low, high = map(x, estimate.interval)
                span = line(bar(mode), low, middle, high, middle)
            title = f"<title>{escape(called)}: {percent(estimate)} ({interval(estimate)})</title>"
            marks.append(f"<g>{title}{span}{mark(mode, x(estimate.value), middle, 4.5)}</g>")
            numbers.append(f"{called} {percent(estimate)}")
            height += row
        told.append(f"{name}: {', '.join(numbers)}")
        parts.append(label(left - 8, (start + height) / 2 + 4, short(name, 13), name))
        if chance is not None:
            parts.append(line("chance", x(chance), start, x(chance), height))
        height += 12
    grid = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        grid.append(line("grid", x(tick), 4, x(tick), height - 6))
        grid.append(text("tick", x(tick), height + 10, f"{100 * tick:.0f}", "middle"))
    below = text("axis", (left + right) / 2, height + 28, axis, "middle")
    return picture(height + 34, f"{words} {'; '.join(told)}", [*grid, *parts, *marks, below])
