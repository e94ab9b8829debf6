"""AdvBench (Zou et al. 2023, arXiv 2307.15043): harmful prompts; no answer is right."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from taia.errors import DataError
from taia.evaluation.tasks.rows import MEND, DataRow, HubData, read_text
from taia.evaluation.tasks.task import Item, Task, text


def read(path: Path) -> list[DataRow]:
    """A prompt a line, quoted as CSV is; or the original's two columns, ``goal`` and ``target``.

    Raises:
        DataError: If the file cannot be read, holds nothing, or a line is not one prompt.
    """
    reader = csv.reader(read_text(path).splitlines(keepends=True))
    lines = [(reader.line_num, fields) for fields in reader if fields]
    columns = 1
    if lines and lines[0][1] == ["goal", "target"]:
        lines, columns = lines[1:], 2
    if not lines:
        raise DataError(f"{path} holds no prompts.", MEND)
    for number, fields in lines:
        if len(fields) != columns or not fields[0].strip():
            raise DataError(f"{path}, line {number} is not one prompt.", MEND)
    return [
        DataRow(str(index), {"prompt": fields[0]}, f"{path}, line {number}")
        for index, (number, fields) in enumerate(lines, 1)
    ]


def item(task: str, row: DataRow) -> Item:
    """``prompt``."""
    return Item(row.id, task, text(row, "prompt"), "text", "")


def _as_file(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": row.get("text")}


TASKS: Final = (
    Task(
        "advbench",
        "advbench_harmful_behaviors.csv",
        read,
        item,
        hub=HubData("mlabonne/harmful_behaviors", splits=("train", "test"), as_file=_as_file),
        shares="harmful requests answered",
    ),
)
