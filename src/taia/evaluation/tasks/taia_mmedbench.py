"""MedQA as MMedBench has it (Qiu et al. 2024, arXiv 2402.13963), in English and in Chinese."""

from __future__ import annotations

from typing import Final

from taia.errors import DataError
from taia.evaluation.tasks.answers import authors
from taia.evaluation.tasks.rows import MEND, DataRow, HubData, read_jsonl
from taia.evaluation.tasks.task import (
    LETTER,
    LETTER_ZH,
    LETTERS,
    Item,
    Task,
    choice,
    field,
    options,
    text,
)


def item(task: str, row: DataRow) -> Item:
    """``question``, ``options`` by letter, ``answer_idx`` (a letter)."""
    given = field(row, "options")
    if not isinstance(given, dict) or sorted(given) != list(LETTERS[: len(given)]):
        raise DataError(f"{row.where}: 'options' is missing or its keys are not A, B, …", MEND)
    texts = options([given[key] for key in sorted(given)], row)
    return choice(task, row, texts, text(row, "answer_idx"), text(row, "question"))


TASKS: Final = (
    Task(
        "taia_mmedbench",
        "medqa_en_test.jsonl",
        read_jsonl,
        item,
        LETTER,
        HubData("GBaker/MedQA-USMLE-4-options"),
        by_authors=authors.first_capital,
    ),
    Task(
        "taia_mmedbench_zh",
        "medqa_zh_test.jsonl",
        read_jsonl,
        item,
        LETTER_ZH,
        by_authors=authors.first_capital,
    ),
)
