"""Lines, words and axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

#: Of the view box, in its units.
WIDTH: Final = 380


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
    """Words cut to so many characters."""
    return words if len(words) <= room else f"{words[: room - 1].rstrip()}…"


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
