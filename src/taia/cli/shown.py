"""A run in the terminal: its table, or all of it as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from taia.cli.options import say_json

if TYPE_CHECKING:
    from taia.evaluation.scores.summary import Summary


def show_run(
    output: Path,
    summary: Summary,
    as_json: bool,
    *,
    unmet: Sequence[str] = (),
    files: Mapping[str, Path] | None = None,
) -> None:
    """Print a run.

    Args:
        output: Its folder.
        summary: What it says.
        as_json: Whether to print all of it as JSON, in place of the table.
        unmet: Of each condition that is not met, why.
        files: Name → what else is there, told below the table.
    """
    if as_json:
        whole = {"output": str(output), "run": summary.facts, **summary.to_json()}
        say_json({**whole, "unmet": list(unmet)})
        return
    from taia.reporting.findings import headlines
    from taia.reporting.screen import Screen
    from taia.reporting.table import render

    screen = Screen()
    screen.print(render(summary))
    screen.print("")
    for sentence in headlines(summary):
        screen.print(f"• {sentence}")
    screen.print(f"\nThe run is {output}", soft_wrap=True)
    for name, file in (files or {}).items():
        screen.print(f"The {name} is {file}", soft_wrap=True)
    if "report" not in (files or {}):
        screen.print(f"Its report: taia report {output}", soft_wrap=True)
