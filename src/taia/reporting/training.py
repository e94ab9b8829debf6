"""A training run, for people: what it would take, and how its loss went."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from taia.reporting import svg

if TYPE_CHECKING:
    from taia.training.record import Record

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


def write_loss_curve(path: Path, record: Record) -> None:
    """Draw a run's loss, step by step, as a picture that stands alone.

    Args:
        path: The SVG file.
        record: The run.
    """
    plot = svg.losses(record.losses)
    head, _, rest = plot.partition(">")
    path.write_text(f"{_ALONE}{head.removeprefix('<svg ')}>{_STYLE}{rest}\n", encoding="utf-8")
