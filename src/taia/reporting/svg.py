"""Plots as SVG text, drawn for a page that sets the colours.

Marks carry a mode by shape as well as by colour (classes ``m0``, ``m1``, …), sizes are in units of
the view box, 380 wide, so that text stays readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from taia.evaluation.comparison import Comparison
from taia.evaluation.statistics import Estimate
from taia.reporting.words import change, heading, interval, percent

WIDTH: Final = 380
#: How many modes have a shape and a colour of their own; more repeat them, hollow.
SHAPES: Final = 6


def mark(mode: int, x: float, y: float, size: float = 5) -> str:
    """A mode's mark, centred on a point."""
    kind, s = mode % SHAPES, size
    if kind == 0:
        body = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{s:.1f}"/>'
    elif kind == 1:
        body = f'<rect x="{x - s:.1f}" y="{y - s:.1f}" width="{2 * s:.1f}" height="{2 * s:.1f}"/>'
    else:
        shapes = {
            2: [(0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)],
            3: [(0, -1.3), (1.3, 1), (-1.3, 1)],
            4: [(0, 1.3), (1.3, -1), (-1.3, -1)],
            5: [(-1.2, -0.4), (1.2, -0.4), (1.2, 0.4), (-1.2, 0.4)],
        }
        points = " ".join(f"{x + s * dx:.1f},{y + s * dy:.1f}" for dx, dy in shapes[kind])
        body = f'<polygon points="{points}"/>'
    style = f"mark m{kind}" if mode < SHAPES else f"mark open s{kind}"
    return f'<g class="{style}">{body}</g>'


def legend(mode: int) -> str:
    """A mode's mark alone, for a line of text."""
    return f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true">{mark(mode, 8, 8)}</svg>'


def trade_off(comparison: Comparison) -> str:
    """Trained skill across, knowledge upwards, a cross of 95% intervals for each mode."""
    left, right, top, bottom = 42, WIDTH - 12, 12, 252
    modes = comparison.modes
    skill = [comparison.accuracy(mode, "skill") for mode in modes]
    knowledge = [comparison.accuracy(mode, "knowledge") for mode in modes]
    (x0, x1), (y0, y1) = _range(skill), _range(knowledge)

    def x(value: float) -> float:
        return left + (value - x0) / (x1 - x0) * (right - left)

    def y(value: float) -> float:
        return bottom - (value - y0) / (y1 - y0) * (bottom - top)

    parts = []
    for tick in _ticks(x0, x1):
        parts.append(_line("grid", x(tick), top, x(tick), bottom))
        parts.append(_text("tick", x(tick), bottom + 16, f"{100 * tick:.0f}", "middle"))
    for tick in _ticks(y0, y1):
        parts.append(_line("grid", left, y(tick), right, y(tick)))
        parts.append(_text("tick", left - 6, y(tick) + 4, f"{100 * tick:.0f}", "end"))
    for index, (s, k) in enumerate(zip(skill, knowledge, strict=True)):
        kind = index % SHAPES
        parts.append(_line(f"bar s{kind}", x(s.low), y(k.value), x(s.high), y(k.value)))
        parts.append(_line(f"bar s{kind}", x(s.value), y(k.low), x(s.value), y(k.high)))
    for index, (s, k) in enumerate(zip(skill, knowledge, strict=True)):
        parts.append(mark(index, x(s.value), y(k.value), 6))
    parts.append(_text("axis", (left + right) / 2, bottom + 36, "trained skill, % right", "middle"))
    middle = (top + bottom) / 2
    parts.append(
        f'<text class="axis" text-anchor="middle" transform="translate(12 {middle:.1f}) '
        'rotate(-90)">knowledge, % right</text>'
    )
    words = "; ".join(
        f"{mode}: skill {percent(s)}, knowledge {percent(k)}"
        for mode, s, k in zip(modes, skill, knowledge, strict=True)
    )
    return _svg(bottom + 44, f"Percent right. {words}", parts)


def by_kind(comparison: Comparison) -> str:
    """A line per kind and mode: its accuracy and 95% interval, and guessing as a dashed line."""
    left, right, row = 92, WIDTH - 14, 15
    groups = [group for group in comparison.groups if group != "knowledge"]

    def x(value: float) -> float:
        return left + value * (right - left)

    height = 8.0
    parts, marks, told = [], [], []
    for group in groups:
        start, numbers = height, []
        for index, mode in enumerate(comparison.modes):
            middle = height + row / 2
            estimate = comparison.accuracy(mode, group)
            line = _line(
                f"bar s{index % SHAPES}", x(estimate.low), middle, x(estimate.high), middle
            )
            title = f"<title>{escape(mode)}: {percent(estimate)} ({interval(estimate)})</title>"
            marks.append(f"<g>{title}{line}{mark(index, x(estimate.value), middle, 4.5)}</g>")
            numbers.append(f"{mode} {percent(estimate)}")
            height += row
        name = heading(group)
        told.append(f"{name}: {', '.join(numbers)}")
        parts.append(_label(left - 8, (start + height) / 2 + 4, _short(name, 13), name))
        chance = x(comparison.chance(group))
        parts.append(_line("chance", chance, start, chance, height))
        height += 12
    grid = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        grid.append(_line("grid", x(tick), 4, x(tick), height - 6))
        grid.append(_text("tick", x(tick), height + 10, f"{100 * tick:.0f}", "middle"))
    axis = _text("axis", (left + right) / 2, height + 28, "% right", "middle")
    words = f"Percent right by kind of question. {'; '.join(told)}"
    return _svg(height + 34, words, [*grid, *parts, *marks, axis])


def against(comparison: Comparison, pairs: Sequence[tuple[str, str]], group: str) -> str:
    """Differences with their 95% intervals around a line at zero."""
    left, right, row = 130, WIDTH - 14, 26
    differences = [comparison.difference(one, other, group) for one, other in pairs]
    reach = max([0.05, *(max(-d.low, d.high) for d in differences)])
    step = _step(reach, 3.5)

    def x(value: float) -> float:
        return (left + right) / 2 + value / (reach * 1.04) * (right - left) / 2

    height = 6.0
    parts = []
    for (one, other), difference in zip(pairs, differences, strict=True):
        index, middle = comparison.modes.index(one), height + row / 2
        short = f"{_short(one, 15 - len(other))} − {other}"
        parts.append(_label(left - 8, middle + 4, short, f"{one} − {other}"))
        line = _line(
            f"bar s{index % SHAPES}", x(difference.low), middle, x(difference.high), middle
        )
        title = f"<title>{escape(f'{one} − {other}')}: {change(difference)}</title>"
        parts.append(f"<g>{title}{line}{mark(index, x(difference.value), middle)}</g>")
        height += row
    grid = [_line("zero", x(0), 2, x(0), height + 2)]
    for number in range(-int(reach / step), int(reach / step) + 1):
        value = number * step
        grid.append(_line("grid", x(value), 2, x(value), height + 2))
        label = f"{100 * value:+.0f}".replace("-", "−") if number else "0"
        grid.append(_text("tick", x(value), height + 18, label, "middle"))
    axis = _text("axis", (left + right) / 2, height + 36, "percentage points", "middle")
    words = "; ".join(
        f"{one} minus {other}: {change(d)}"
        for (one, other), d in zip(pairs, differences, strict=True)
    )
    return _svg(height + 42, f"Differences in points. {words}", [*grid, *parts, axis])


def losses(values: Sequence[float]) -> str:
    """The training loss, step by step."""
    left, right, top, bottom = 42, WIDTH - 12, 10, 130
    high = max(values) * 1.05 or 1.0

    def x(step: int) -> float:
        return left + (step - 1) / max(1, len(values) - 1) * (right - left)

    def y(value: float) -> float:
        return bottom - value / high * (bottom - top)

    step = _step(high, 6)
    parts = []
    for number in range(int(high / step) + 1):
        value = number * step
        parts.append(_line("grid", left, y(value), right, y(value)))
        parts.append(_text("tick", left - 6, y(value) + 4, f"{value:g}", "end"))
    points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(values, 1))
    parts.append(f'<polyline class="curve" points="{points}"/>')
    for at in sorted({1, len(values)}):
        anchor = "start" if at == 1 and len(values) > 1 else "end"
        parts.append(_text("tick", x(at), bottom + 16, f"step {at}", anchor))
    parts.append(_text("axis", (left + right) / 2, bottom + 16, "loss, nats a token", "middle"))
    words = f"Training loss from {values[0]:.2f} to {values[-1]:.2f} in {len(values)} steps"
    return _svg(bottom + 24, words, parts)


def _range(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """An axis that holds all intervals, with some air."""
    low, high = min(e.low for e in estimates), max(e.high for e in estimates)
    air = max(0.02, 0.08 * (high - low))
    return max(0.0, low - air), min(1.0, high + air)


def _ticks(low: float, high: float) -> list[float]:
    step = _step(high - low, 6)
    first = -int(-low / step // 1)
    return [number * step for number in range(first, int(high / step + 1e-9) + 1)]


def _step(reach: float, most: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that fits so often at most."""
    power = 10.0 ** math.floor(math.log10(reach / most))
    return next(power * digit for digit in (1, 2, 5, 10, 20) if reach / (power * digit) <= most)


def _line(style: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(style: str, x: float, y: float, words: str, anchor: str) -> str:
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def _label(x: float, y: float, short: str, words: str) -> str:
    """A label to the left of a row; a pointer finds what was left out."""
    title = f"<title>{escape(words)}</title>" if short != words else ""
    return (
        f'<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="end">{escape(short)}{title}'
        "</text>"
    )


def _short(words: str, room: int) -> str:
    return words if len(words) <= room else f"{words[: room - 1].rstrip()}…"


def _svg(height: float, words: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(words)}">{"".join(parts)}</svg>'
    )
