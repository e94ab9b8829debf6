"""Runs as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taia.reporting import svg
from taia.reporting.evaluation import joined, plots, words
from taia.reporting.evaluation.findings import findings
from taia.reporting.evaluation.run import Run
from taia.reporting.page import drawing, legends, page
from taia.reporting.words import pairs

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class _Section:
    """What is shown of a run.

    Attributes:
        run: The run.
        findings: What it says.
        keys: Mode → its mark.
        compared: The differences shown.
        forests: Pair of modes → their differences.
        safety: Task of safety → it against what the modes can do.
        plots: Further plots by name.
    """

    run: Run
    findings: Sequence[str]
    keys: Mapping[str, Markup]
    compared: Sequence[tuple[str, str]]
    forests: Mapping[tuple[str, str], Markup]
    safety: Mapping[str, Markup]
    plots: Mapping[str, Markup]


def render(runs: Sequence[Run], command: str) -> str:
    """A report as HTML text. It asks for nothing from the network.

    Args:
        runs: What it shows; each is a section of its own, and those that are alike stand side by
            side first.
        command: What to type to get the report again.

    Raises:
        RunError: If Jinja is not installed.
    """
    alike = joined.are_alike(runs)
    return page(
        "evaluation.html.j2",
        title=_title(runs),
        lead=_lead(runs),
        sections=[_section(run) for run in runs],
        columns=joined.columns(runs) if alike else [],
        together=joined.side_by_side(runs) if alike else {},
        joint=joined.findings(runs) if alike else [],
        w=words,
        told=plots.told,
        command=command,
    )


def _section(run: Run) -> _Section:
    summary = run.summary
    shades = run.norms and plots.update(run.norms)
    curve = svg.losses(run.losses) if run.losses else None
    drawn = {"scores": plots.scores(summary), "update": shades, "losses": curve}
    return _Section(
        run,
        findings(summary, run.norms),
        legends(summary.modes),
        pairs(summary.modes),
        {pair: drawing(text) for pair, text in plots.forests(summary).items()},
        {task: drawing(text) for task, text in plots.safety(summary).items()},
        {name: drawing(text) for name, text in drawn.items() if text},
    )


def _title(runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return f"What to keep of an update: {runs[0].models}"
    return f"What to keep of an update: {len(runs)} runs"


def _lead(runs: Sequence[Run]) -> str:
    modes = list(dict.fromkeys(mode for run in runs for mode in run.summary.modes))
    tasks = list(dict.fromkeys(task for run in runs for task in run.summary.tasks))
    return (
        f"{len(modes)} modes in {len(tasks)} tasks. A mode keeps a part of one and the same update "
        "of the weights, and is asked the same items as the others."
    )
