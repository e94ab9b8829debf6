"""The comparison of modes as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taia.evaluation.comparison import Comparison
from taia.reporting import svg
from taia.reporting.table import pairs
from taia.reporting.words import change, findings, heading, interval, percent


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
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    comparison = report.comparison
    environment = Environment(
        loader=PackageLoader("taia.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = pairs(comparison)
    whole = [group for group in ("knowledge", "skill") if comparison.size(group)]
    plots = {"by_kind": Markup(svg.by_kind(comparison))}
    if len(whole) == 2:
        plots["trade_off"] = Markup(svg.trade_off(comparison))
    if shown:
        plots |= {group: Markup(svg.against(comparison, shown, group)) for group in whole}
    if report.losses:
        plots["losses"] = Markup(svg.losses(report.losses))
    return environment.get_template("report.html.j2").render(
        report=report,
        comparison=comparison,
        findings=findings(comparison),
        whole=whole,
        pairs=shown,
        plots=plots,
        keys={mode: Markup(svg.legend(i)) for i, mode in enumerate(comparison.modes)},
        heading=heading,
        percent=percent,
        interval=interval,
        change=change,
    )
