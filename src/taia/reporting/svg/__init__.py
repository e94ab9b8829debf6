"""Plots as SVG text, drawn for a page that sets the colours (docs/decisions/0006-plots-are-svg.md).

Marks carry a mode by shape as well as by colour (classes ``m0``, ``m1``, …), sizes are in units of
the view box, 380 wide, so that text stays readable on a phone.
"""

from taia.reporting.svg.charts import Block, Gap, Point, cross, extent, forest, losses, rows
from taia.reporting.svg.drawing import SHAPES, WIDTH, legend, mark
from taia.reporting.svg.heat import Cell, heat
from taia.reporting.svg.trade import Tradeoff, trade

__all__ = [
    "SHAPES",
    "WIDTH",
    "Block",
    "Cell",
    "Gap",
    "Point",
    "Tradeoff",
    "cross",
    "extent",
    "forest",
    "heat",
    "legend",
    "losses",
    "mark",
    "rows",
    "trade",
]
