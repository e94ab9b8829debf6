"""Numbers as shades: layers downwards, what they are made of across."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

from taia.reporting.svg.drawing import WIDTH, picture, short, text, upright

#: Shades in the legend.
_SHADES: Final = 6


class Cell(NamedTuple):
    """A number in its place.

    Attributes:
        row: Number of its row.
        column: Number of its column.
        value: The number, 0 or more; it may be infinite.
        title: The same in words.
    """

    row: int
    column: int
    value: float
    title: str


def heat(
    cells: Sequence[Cell], rows: Sequence[str], columns: Sequence[str], unit: str, words: str
) -> str:
    """A map of shades from nothing to the largest number; exactly nothing is a dot.

    Args:
        cells: At most one in each place.
        rows: Their names, from the top down.
        columns: Their names, from left to right.
        unit: What the legend says a shade means.
        words: What the map shows, for who cannot see it.
    """
    left, right, top = 42, WIDTH - 8, 12 + 7.2 * min(16, max(map(len, columns)))
    wide = min(40.0, (right - left) / len(columns))
    high = 14.0 if len(rows) <= 40 else 9.0
    most = max((cell.value for cell in cells if math.isfinite(cell.value)), default=0.0)
    parts = []
    for number, name in enumerate(columns):
        x = left + (number + 0.5) * wide + 4
        parts.append(upright("tick", x, top - 6, short(name, 16), "start"))
    every = math.ceil(11 / high)  # names are 11 high
    for number, name in enumerate(rows):
        if number % every == 0:
            parts.append(text("tick", left - 6, top + (number + 0.5) * high + 4, name, "end"))
    for cell in cells:
        x, y = left + cell.column * wide, top + cell.row * high
        shade = _shade(cell.value, most, x, y, wide, high)
        parts.append(f"<g><title>{escape(cell.title)}</title>{shade}</g>")
    bottom = top + len(rows) * high + 12
    parts += _legend(most, unit, left, bottom)
    return picture(bottom + 44, words, parts)


def _shade(value: float, most: float, x: float, y: float, wide: float, high: float) -> str:
    strength = 1.0 if math.isinf(value) else value / most if most else 0.0
    square = (
        f'<rect class="cell" x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{wide - 1:.1f}" '
        f'height="{high - 1:.1f}" fill-opacity="{strength:.3f}"/>'
    )
    if value:
        return square
    dot = f'<circle class="nothing" cx="{x + wide / 2:.1f}" cy="{y + high / 2:.1f}" r="1"/>'
    return square + dot


def _legend(most: float, unit: str, left: float, y: float) -> list[str]:
    wide, high, parts = 34.0, 12.0, []
    for number in range(_SHADES):
        value = most * number / (_SHADES - 1)
        x = left + number * wide
        parts.append(_shade(value, most, x, y, wide, high))
        parts.append(
            text(
                "tick",
                x + wide / 2,
                y + high + 13,
                f"{value:,.0f}" if value >= 100 else f"{value:.2g}",
                "middle",
            )
        )
    parts.append(text("axis", left, y + high + 29, unit, "start"))
    return parts
