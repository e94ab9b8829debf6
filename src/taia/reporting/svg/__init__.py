"""Plots as SVG text, drawn for a page that sets the colours (docs/decisions/0006-plots-are-svg.md).

Marks carry a mode by shape as well as by colour (classes ``m0``, ``m1``, …), sizes are in units of
the view box, 380 wide, so that text stays readable on a phone.
"""

from taia.reporting.svg.cross import Point, cross
from taia.reporting.svg.curve import losses
from taia.reporting.svg.drawing import WIDTH
from taia.reporting.svg.forest import Gap, forest
from taia.reporting.svg.heat import Cell, heat
from taia.reporting.svg.marks import SHAPES, legend, mark
from taia.reporting.svg.rows import Block, rows

__all__ = [
    "SHAPES",
    "WIDTH",
    "Block",
    "Cell",
    "Gap",
    "Point",
    "cross",
    "forest",
    "heat",
    "legend",
    "losses",
    "mark",
    "rows",
]
