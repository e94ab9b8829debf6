"""A training run, for people: what it would take, and how its loss went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from taia.checkpoint.output.staging import write_file
from taia.reporting import svg
from taia.reporting.screen import Text
from taia.text import in_bytes, in_millions, in_time

if TYPE_CHECKING:
    from taia.training.forecast.forecast import Forecast

_ALONE = """<svg xmlns="http://www.w3.org/2000/svg" """
_STYLE = """<style>
  svg { background: #fff; font: 12px system-ui, sans-serif; }
  text { fill: #59636e; } .grid { stroke: #d8dee4; }
  .curve { fill: none; stroke: #0072b2; stroke-width: 1.75; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0f1318; } text { fill: #9aa5b1; } .grid { stroke: #2d353e; }
    .curve { stroke: #56b4e9; }
  }
</style>"""


def write_loss_curve(path: Path, losses: Sequence[float]) -> None:
    """Draw a run's loss, step by step, as a picture that stands alone.

    Args:
        path: The SVG file.
        losses: Of each step written down; at least one.
    """
    plot = svg.losses(losses)
    head, _, rest = plot.partition(">")
    write_file(path, f"{_ALONE}{head.removeprefix('<svg ')}>{_STYLE}{rest}\n")


def forecast_table(told: Forecast) -> RenderableType:
    """What a run would take: parameters per component, then memory and time."""
    parts = Table(box=box.SIMPLE_HEAD, show_edge=False)
    parts.add_column("component", style="bold", no_wrap=True)
    for heading in ("parameters", "trained"):
        parts.add_column(heading, justify="right", no_wrap=True)
    for name, count in told.parameters.items():
        trains = told.trained.get(name, 0)
        parts.add_row(name, in_millions(count), in_millions(trains) if trains else "–")
    parts.add_section()
    total = sum(told.parameters.values()), sum(told.trained.values())
    parts.add_row("total", *map(in_millions, total))
    memory = Table(box=box.SIMPLE_HEAD, show_edge=False)
    memory.add_column("memory of each process", style="bold", no_wrap=True)
    memory.add_column("about", justify="right", no_wrap=True)
    need = told.estimate
    for name in ("weights", "gradients", "optimiser", "activations", "logits", "exchange"):
        if size := getattr(need, name):
            memory.add_row(name, in_bytes(size))
    memory.add_section()
    memory.add_row("at most", in_bytes(need.total))
    learnt = told.tokens[1] / told.tokens[0]
    lines = [
        f"{told.rows:,} rows an epoch, the longest of {told.longest:,} tokens; {told.tokens[0]:,} "
        f"tokens, {learnt:.0%} of them learnt",
        f"{need.steps:,} steps, {need.tokens:,} tokens in all"
        + ("" if need.seconds is None else f", roughly {in_time(need.seconds)} on this machine"),
        *(f"• {note}" for note in told.notes),
    ]
    return Group(parts, "", memory, "", *(Text(line) for line in lines))
