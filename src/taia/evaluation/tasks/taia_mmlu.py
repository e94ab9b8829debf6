"""MMLU (Hendrycks et al. 2021, arXiv 2009.03300): exam questions of 57 subjects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from taia.errors import DataError
from taia.evaluation.tasks.rows import MEND, DataRow, HubData, read_jsonl
from taia.evaluation.tasks.task import LETTER, LETTERS, Item, Task, choice, field, options, text


def item(task: str, row: DataRow) -> Item:
    """``question``, ``choices``, ``answer`` (an index from 0), ``type`` (the subject)."""
    texts = options(field(row, "choices"), row)
    answer = field(row, "answer")
    if type(answer) is not int or not 0 <= answer < len(texts):
        raise DataError(f"{row.where}: 'answer' is not the index of an option.", MEND)
    question, group = text(row, "question"), text(row, "type")
    return choice(task, row, texts, LETTERS[answer], question, group)


def _as_file(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "type": row.get("subject")}


TASKS: Final = (
    Task(
        "taia_mmlu",
        "mmlu_test.jsonl",
        read_jsonl,
        item,
        LETTER,
        HubData("cais/mmlu", configs=("all",), as_file=_as_file),
        part="mmlu_stem_test.jsonl",
    ),
)
