"""SVAMP (Patel et al. 2021, arXiv 2103.07191): short word problems."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from taia.errors import DataError
from taia.evaluation.tasks.answers import authors
from taia.evaluation.tasks.rows import MEND, DataRow, HubData, read_jsonl
from taia.evaluation.tasks.task import FORMAT, Item, Task, field, text


def item(task: str, row: DataRow) -> Item:
    """``Body``, ``Question``, ``Answer`` (a number), ``Type``."""
    answer = field(row, "Answer")
    if type(answer) not in (int, float):
        raise DataError(f"{row.where}: 'Answer' is missing or is not a number.", MEND)
    body, question = text(row, "Body").strip(), text(row, "Question").strip()
    full = f"{body}{'' if body[-1] in '.?!,' else '.'} {question}"
    return Item(row.id, task, full, "number", str(answer), (), text(row, "Type"))


def _as_file(row: Mapping[str, Any]) -> dict[str, Any]:
    answer = row.get("Answer")
    is_number = isinstance(answer, str) and re.fullmatch(r"-?\d+(\.\d+)?", answer)
    return {**row, "Answer": float(answer)} if is_number and answer else dict(row)


TASKS: Final = (
    Task(
        "taia_svamp",
        "svamp_test.jsonl",
        read_jsonl,
        item,
        FORMAT,
        HubData("ChilleD/SVAMP", splits=("train", "test"), as_file=_as_file),
        is_finished=True,
        by_authors=authors.number,
    ),
)
