"""What was learnt against what was given back: a mark for each way to keep a part."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

from taia.reporting.svg.drawing import WIDTH, line, mark, picture, text, upright

#: Of both axes, shares.
_LOW: Final = 0.0
_HIGH: Final = 1.05


class Tradeoff(NamedTuple):
    """A way to keep a part of an update.

    Attributes:
        name: What it is called.
        across: The share that it takes back.
        upwards: The share that it keeps.
        mode: Number of its mark; None for a small one that many have.
    """

    name: str
    across: float
    upwards: float
    mode: int | None = None


def trade(ways: Sequence[Tradeoff], across: str, upwards: str, words: str) -> str:
    """A mark for each way, and a line along those that no other beats in both.

    What lies below or left of the axes is drawn at their edge; its title has the numbers.

    Args:
        ways: At least one.
        across: What the axis across says.
        upwards: What the axis upwards says.
        words: The numbers, for who cannot see the plot.
    """
    left, right, top, bottom = 48, WIDTH - 12, 12, 252

    def x(share: float) -> float:
        return left + (_inside(share) - _LOW) / (_HIGH - _LOW) * (right - left)

    def y(share: float) -> float:
        return bottom - (_inside(share) - _LOW) / (_HIGH - _LOW) * (bottom - top)

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        shown = f"{100 * tick:.0f}"
        parts.append(line("grid", x(tick), top, x(tick), bottom))
        parts.append(text("tick", x(tick), bottom + 16, shown, "middle"))
        parts.append(line("grid", left, y(tick), right, y(tick)))
        parts.append(text("tick", left - 6, y(tick) + 4, shown, "end"))
    front = sorted(_front(ways), key=lambda way: way.across)
    if len(front) > 1:
        points = " ".join(f"{x(way.across):.1f},{y(way.upwards):.1f}" for way in front)
        parts.append(f'<polyline class="front" points="{points}"/>')
    for way in sorted(ways, key=lambda way: way.mode is not None):
        told = f"{way.name}: keeps {100 * way.upwards:.0f}%, takes back {100 * way.across:.0f}%"
        at = x(way.across), y(way.upwards)
        drawn = (
            f'<circle class="other" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="3"/>'
            if way.mode is None
            else mark(way.mode, *at, 6)
        )
        parts.append(f"<g><title>{escape(told)}</title>{drawn}</g>")
    parts.append(text("axis", (left + right) / 2, bottom + 36, across, "middle"))
    parts.append(upright("axis", 14, (top + bottom) / 2, upwards, "middle"))
    return picture(bottom + 44, words, parts)


def _inside(share: float) -> float:
    return max(_LOW, min(_HIGH, share))


def _front(ways: Sequence[Tradeoff]) -> list[Tradeoff]:
    """Those that no other beats in both."""
    return [
        way
        for way in ways
        if not any(
            other.across >= way.across
            and other.upwards >= way.upwards
            and (other.across, other.upwards) != (way.across, way.upwards)
            for other in ways
        )
    ]
