"""General knowledge, 300 questions with four options (data/README.md), told by likelihood."""

from __future__ import annotations

from typing import Final

from taia.errors import DataError
from taia.evaluation.tasks.rows import MEND, DataRow, read_jsonl
from taia.evaluation.tasks.task import Item, Task, field, options, text


def item(task: str, row: DataRow) -> Item:
    """``id``, ``kind``, ``question``, ``options``, and as ``answer`` the right one's index."""
    listed, answer = options(field(row, "options"), row), field(row, "answer")
    if type(answer) is not int or not 0 <= answer < len(listed):
        raise DataError(f"{row.where}: 'answer' is not the index of an option.", MEND)
    name, kind, question = (text(row, key) for key in ("id", "kind", "question"))
    return Item(name, task, question, "text", listed[answer], listed, kind)


TASKS: Final = (
    Task(
        "questions",
        "questions.jsonl",
        read_jsonl,
        item,
        is_shipped=True,
        shares="general questions answered rightly",
    ),
)
