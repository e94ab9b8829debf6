"""Lines, words, axes, and the mark of a mode: a shape and a colour of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

#: Of the view box, in its units.
WIDTH: Final = 380

#: How many modes have a shape and a colour of their own; more repeat them, hollow.
SHAPES: Final = 6

_CORNERS: Final = {
    2: [(0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)],
    3: [(0, -1.3), (1.3, 1), (-1.3, 1)],
    4: [(0, 1.3), (1.3, -1), (-1.3, -1)],
    5: [(-1.2, -0.4), (1.2, -0.4), (1.2, 0.4), (-1.2, 0.4)],
}


def line(style: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A line."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(style: str, x: float, y: float, words: str, anchor: str) -> str:
    """A line of text."""
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def upright(style: str, x: float, y: float, words: str, anchor: str) -> str:
    """A line of text that runs upwards."""
    return (
        f'<text class="{style}" text-anchor="{anchor}" '
        f'transform="translate({x:.1f} {y:.1f}) rotate(-90)">{escape(words)}</text>'
    )


def label(x: float, y: float, shown: str, words: str) -> str:
    """A label to the left of a row; a pointer finds what was left out."""
    title = f"<title>{escape(words)}</title>" if shown != words else ""
    return (
        f'<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="end">{escape(shown)}{title}'
        "</text>"
    )


def short(words: str, room: int) -> str:
    """Words cut to so many characters; both ends are kept, as names often differ in the last."""
    if len(words) <= room:
        return words
    tail = (room - 1) // 3
    return f"{words[: room - 1 - tail].rstrip()}…{words[len(words) - tail :].lstrip()}"


def picture(height: float, words: str, parts: Sequence[str]) -> str:
    """A whole plot.

    Args:
        height: Of the view box.
        words: What it shows, for who cannot see it.
        parts: What is drawn, the lowest first.
    """
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(words)}">{"".join(parts)}</svg>'
    )


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two, six or seven at most."""
    distance = step(high - low, 6)
    first = -int(-low / distance // 1)
    return [number * distance for number in range(first, int(high / distance + 1e-9) + 1)]


def step(reach: float, most: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that fits so often at most."""
    power = 10.0 ** math.floor(math.log10(reach / most))
    return next(power * digit for digit in (1, 2, 5, 10, 20) if reach / (power * digit) <= most)


def mark(mode: int, x: float, y: float, size: float = 5, *, hollow: bool = False) -> str:
    """A mode's mark, centred on a point."""
    kind, s = mode % SHAPES, size
    if kind == 0:
        body = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{s:.1f}"/>'
    elif kind == 1:
        body = f'<rect x="{x - s:.1f}" y="{y - s:.1f}" width="{2 * s:.1f}" height="{2 * s:.1f}"/>'
    else:
        points = " ".join(f"{x + s * dx:.1f},{y + s * dy:.1f}" for dx, dy in _CORNERS[kind])
        body = f'<polygon points="{points}"/>'
    style = f"mark open s{kind}" if hollow or mode >= SHAPES else f"mark m{kind}"
    return f'<g class="{style}">{body}</g>'


def bar(mode: int) -> str:
    """The class of a mode's intervals."""
    return f"bar s{mode % SHAPES}"


def arrow(mode: int, x: float, y: float, sign: int) -> str:
    """The head of an interval that goes on to the right, or with −1 to the left."""
    points = f"{x:.1f},{y:.1f} {x - 7 * sign:.1f},{y - 4:.1f} {x - 7 * sign:.1f},{y + 4:.1f}"
    return f'<polygon class="on m{mode % SHAPES}" points="{points}"/>'


def legend(mode: int) -> str:
    """A mode's mark alone, for a line of text."""
    return f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true">{mark(mode, 8, 8)}</svg>'
