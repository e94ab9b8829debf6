"""Plots with an axis: differences, shares, two measures against each other, a loss."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from taia.evaluation.scores.statistics import Estimate
from taia.reporting.svg.drawing import (
    WIDTH,
    arrow,
    bar,
    label,
    line,
    mark,
    picture,
    short,
    step,
    text,
    ticks,
    upright,
)
from taia.reporting.words import change, interval, percent


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


def forest(gaps: Sequence[Gap], words: str, reach: float) -> str:
    """Differences and their 95% intervals around a line at zero.

    Args:
        gaps: From the top down.
        words: What the plot shows; the numbers are put behind it.
        reach: How far the axis goes, a fraction; the same for plots that stand side by side. What
            lies further out ends in an arrow.
    """
    left, right, row = 130, WIDTH - 14, 26
    reach = max(0.05, reach)
    distance = step(reach, 3.5)

    def x(value: float) -> float:
        return (left + right) / 2 + value / (reach * 1.04) * (right - left) / 2

    height = 6.0
    parts = []
    for mode, name, shown, difference, hollow in gaps:
        middle = height + row / 2
        parts.append(label(left - 8, middle + 4, shown, name))
        ends = [max(-reach, min(reach, end)) for end in difference.interval or ()]
        drawn = [line(bar(mode), x(ends[0]), middle, x(ends[1]), middle)] if ends else []
        for sign in (-1, 1):
            if extent(difference, sign) > reach:
                drawn.append(arrow(mode, x(sign * reach), middle, sign))
        title = f"<title>{escape(name)}: {change(difference)}</title>"
        if abs(difference.value) <= reach:
            drawn.append(mark(mode, x(difference.value), middle, hollow=hollow))
        parts.append(f"<g>{title}{''.join(drawn)}</g>")
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


def extent(difference: Estimate, sign: int) -> float:
    """How far a difference and its interval go to the right of zero, or with −1 to the left."""
    return max(sign * difference.value, *(sign * end for end in difference.interval or (0.0,)))


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

    A mark without an interval is hollow.

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
            alone = estimate.interval is None
            point = mark(mode, x(estimate.value), middle, 4.5, hollow=alone)
            marks.append(f"<g>{title}{span}{point}</g>")
            numbers.append(f"{called} {percent(estimate)}")
            height += row
        told.append(f"{name}: {', '.join(numbers)}")
        parts.append(label(left - 8, (start + height) / 2 + 4, short(name, 12), name))
        if chance is not None:
            parts.append(line("chance", x(chance), start, x(chance), height))
        height += 12
    grid = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        grid.append(line("grid", x(tick), 4, x(tick), height - 6))
        grid.append(text("tick", x(tick), height + 10, f"{100 * tick:.0f}", "middle"))
    below = text("axis", (left + right) / 2, height + 28, axis, "middle")
    return picture(height + 34, f"{words} {'; '.join(told)}", [*grid, *parts, *marks, below])


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
    """A mark for each mode, and its two 95% intervals; hollow where one is not known.

    Args:
        points: At least one.
        across: What the axis across says.
        upwards: What the axis upwards says.
        words: The numbers, for who cannot see the plot.
    """
    left, right, top, bottom = 48, WIDTH - 12, 12, 252
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
    for mode, a, b in points:
        alone = a.interval is None or b.interval is None
        parts.append(mark(mode, x(a.value), y(b.value), 6, hollow=alone))
    parts.append(text("axis", (left + right) / 2, bottom + 36, across, "middle"))
    parts.append(upright("axis", 14, (top + bottom) / 2, upwards, "middle"))
    return picture(bottom + 44, words, parts)


def _range(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """An axis that holds all intervals, with some air."""
    ends = [end for e in estimates for end in (e.value, *(e.interval or ()))]
    low, high = min(ends), max(ends)
    air = max(0.02, 0.08 * (high - low))
    return max(0.0, low - air), min(1.0, high + air)


def losses(values: Sequence[float]) -> str:
    """The training loss, step by step."""
    left, right, top, bottom = 42, WIDTH - 12, 10, 130
    high = max(values) * 1.05 or 1.0

    def x(number: int) -> float:
        return left + (number - 1) / max(1, len(values) - 1) * (right - left)

    def y(value: float) -> float:
        return bottom - value / high * (bottom - top)

    distance = step(high, 6)
    parts = []
    for number in range(int(high / distance) + 1):
        value = number * distance
        parts.append(line("grid", left, y(value), right, y(value)))
        parts.append(text("tick", left - 6, y(value) + 4, f"{value:g}", "end"))
    points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(values, 1))
    parts.append(f'<polyline class="curve" points="{points}"/>')
    for at in sorted({1, len(values)}):
        anchor = "start" if at == 1 and len(values) > 1 else "end"
        parts.append(text("tick", x(at), bottom + 16, f"step {at}", anchor))
    parts.append(text("axis", (left + right) / 2, bottom + 16, "loss, nats a token", "middle"))
    words = f"Training loss from {values[0]:.2f} to {values[-1]:.2f} in {len(values)} steps"
    return picture(bottom + 24, words, parts)
