"""The comparison of modes as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taia.evaluation.comparison import Comparison
from taia.reporting import plots, svg
from taia.reporting.page import drawing, legends, page
from taia.reporting.words import change, findings, heading, pairs


@dataclass(frozen=True)
class Report:
    """What a report shows.

    Attributes:
        title: Its heading.
        lead: One sentence on what was done.
        comparison: What each mode answered.
        command: What to type to get it again.
        losses: The training loss of each step.
        facts: Heading → name → value, shown as they are: versions, hashes, times.
    """

    title: str
    lead: str
    comparison: Comparison
    command: str
    losses: Sequence[float]
    facts: Mapping[str, Mapping[str, Any]]


def write_report(path: Path, report: Report) -> None:
    """Write a report.

    Args:
        path: The HTML file. It asks for nothing from the network.
        report: What it shows.
    """
    path.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """A report as HTML text."""
    comparison = report.comparison
    shown = pairs(comparison.modes)
    whole = [group for group in ("knowledge", "skill") if comparison.size(group)]
    drawn = {"by_kind": plots.by_kind(comparison)}
    if len(whole) == 2:
        drawn["trade_off"] = plots.trade_off(comparison)
    if shown:
        drawn |= {group: plots.against(comparison, shown, group) for group in whole}
    if report.losses:
        drawn["losses"] = svg.losses(report.losses)
    return page(
        "comparison.html.j2",
        plots={name: drawing(text) for name, text in drawn.items()},
        keys=legends(comparison.modes),
        title=report.title,
        lead=report.lead,
        report=report,
        comparison=comparison,
        findings=findings(comparison),
        whole=whole,
        pairs=shown,
        heading=heading,
        change=change,
    )
