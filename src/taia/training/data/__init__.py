"""Training data: from what people have to what a trainer takes.

::

    source      what is typed: a path or a hub name, and a weight
    containers  files and folders, to values           hub  the same through datasets
    formats     values to rows, a table of formats     row  what they become
    reading     all of the above: a source to its rows
    template    where the answers are in what a chat template renders
    tokens      rows to tokens and their mask
    mixing      how many of each source, in which order
    holdout     rows not trained on
    prepare     all of it                              prepared  what comes out
    preview     one example, shown
"""

from __future__ import annotations

from taia.training.data.options import DataOptions
from taia.training.data.prepare import prepare
from taia.training.data.prepared import PreparedData
from taia.training.data.preview import preview
from taia.training.data.reading import read_source
from taia.training.data.row import BadRow, Row, Rows, RowTurn
from taia.training.data.source import Source

__all__ = [
    "BadRow",
    "DataOptions",
    "PreparedData",
    "Row",
    "RowTurn",
    "Rows",
    "Source",
    "prepare",
    "preview",
    "read_source",
]
