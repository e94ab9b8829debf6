"""The comparison of modes as plots."""

from __future__ import annotations

from collections.abc import Sequence

from taia.evaluation.comparison import Comparison
from taia.reporting import svg
from taia.reporting.svg.drawing import short
from taia.reporting.words import heading, percent


def trade_off(comparison: Comparison) -> str:
    """Trained skill across, knowledge upwards, a cross of 95% intervals for each mode."""
    points = [
        svg.Point(
            number,
            comparison.accuracy(mode, "skill"),
            comparison.accuracy(mode, "knowledge"),
        )
        for number, mode in enumerate(comparison.modes)
    ]
    words = "; ".join(
        f"{comparison.modes[mode]}: skill {percent(x)}, knowledge {percent(y)}"
        for mode, x, y in points
    )
    return svg.cross(
        points, "trained skill, % right", "knowledge, % right", f"Percent right. {words}"
    )


def by_kind(comparison: Comparison) -> str:
    """A line per kind and mode: its accuracy and 95% interval, and guessing as a dashed line."""
    blocks = [
        svg.Block(
            heading(group),
            [
                (number, mode, comparison.accuracy(mode, group))
                for number, mode in enumerate(comparison.modes)
            ],
            comparison.chance(group),
        )
        for group in comparison.groups
        if group != "knowledge"
    ]
    return svg.rows(blocks, "Percent right by kind of question.")


def against(comparison: Comparison, pairs: Sequence[tuple[str, str]], group: str) -> str:
    """Differences with their 95% intervals around a line at zero."""
    gaps = [
        svg.Gap(
            comparison.modes.index(one),
            f"{one} − {other}",
            f"{short(one, 15 - len(other))} − {other}",
            comparison.difference(one, other, group),
        )
        for one, other in pairs
    ]
    return svg.forest(gaps, "Differences in points.")
