"""The mark of a mode: a shape and a colour of its own."""

from __future__ import annotations

from typing import Final

#: How many modes have a shape and a colour of their own; more repeat them, hollow.
SHAPES: Final = 6

_CORNERS: Final = {
    2: [(0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)],
    3: [(0, -1.3), (1.3, 1), (-1.3, 1)],
    4: [(0, 1.3), (1.3, -1), (-1.3, -1)],
    5: [(-1.2, -0.4), (1.2, -0.4), (1.2, 0.4), (-1.2, 0.4)],
}


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


def legend(mode: int) -> str:
    """A mode's mark alone, for a line of text."""
    return f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true">{mark(mode, 8, 8)}</svg>'
