"""The comparison of modes in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from taia.evaluation.comparison import Comparison
from taia.reporting.screen import Text
from taia.reporting.words import change, findings, heading, interval, pairs, percent


def render(comparison: Comparison) -> RenderableType:
    """Two tables, accuracies and differences, and what they say; fits 80 columns."""
    parts: list[RenderableType] = [accuracies(comparison), ""]
    if pairs(comparison.modes):
        parts += [differences(comparison), ""]
    for sentence in findings(comparison):
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_row("•", Text(sentence))
        parts.append(line)
    return Group(*parts)


def accuracies(comparison: Comparison) -> Table:
    """Modes in rows, kinds of question in columns: percent right over its 95% interval."""
    table = Table(
        title="Right answers in percent, and 95% intervals",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 0, 0, 1),
    )
    table.add_column("mode", style="bold", overflow="fold", min_width=8)
    for group in comparison.groups:
        table.add_column(
            Text("\n".join([*heading(group).split(), str(comparison.size(group))])),
            justify="right",
            style="bold" if group in ("knowledge", "skill") else "",
            overflow="fold",
            min_width=5,
        )
    for mode in comparison.modes:
        cells = []
        for group in comparison.groups:
            estimate = comparison.accuracy(mode, group)
            cells.append(Text(percent(estimate)).append(f"\n{interval(estimate)}", style="dim"))
        table.add_row(Text(mode), *cells)
    chance = [f"{100 * comparison.chance(group):.0f}" for group in comparison.groups]
    table.add_row("guessing", *chance, style="dim")
    return table


def differences(comparison: Comparison) -> Table:
    """Each mode against base and tuned, on the same questions."""
    table = Table(
        title="Differences in points; * the interval excludes 0",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 0, 0, 1),
    )
    table.add_column("", style="bold", overflow="fold")
    groups = [group for group in ("knowledge", "skill") if comparison.size(group)]
    for group in groups:
        table.add_column(heading(group), justify="right", no_wrap=True)
    for mode, other in pairs(comparison.modes):
        cells = []
        for group in groups:
            difference = comparison.difference(mode, other, group)
            mark = "*" if difference.is_clear else " "
            cells.append(Text(change(difference) + mark, "bold" if difference.is_clear else ""))
        table.add_row(Text(f"{mode} − {other}"), *cells)
    return table
