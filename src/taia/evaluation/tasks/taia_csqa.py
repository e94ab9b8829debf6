"""CommonsenseQA (Talmor et al. 2019, arXiv 1811.00937): questions of five options."""

from __future__ import annotations

from typing import Final

from taia.errors import DataError
from taia.evaluation.tasks.answers import authors
from taia.evaluation.tasks.rows import MEND, DataRow, HubData, read_jsonl
from taia.evaluation.tasks.task import LETTERS, STEPS, Item, Task, choice, field, options, text


def item(task: str, row: DataRow) -> Item:
    """``id``, ``question``, ``choices`` (``label``, ``text``), ``answerKey``."""
    choices = field(row, "choices")
    if not isinstance(choices, dict):
        raise DataError(f"{row.where}: 'choices' is missing or is not an object.", MEND)
    texts = options(choices.get("text"), row)
    if choices.get("label") != list(LETTERS[: len(texts)]):
        raise DataError(f"{row.where}: the labels are not A, B, … for each option.", MEND)
    question, gold, name = (text(row, key) for key in ("question", "answerKey", "id"))
    return choice(task, row, texts, gold, question, name=name)


TASKS: Final = (
    Task(
        "taia_csqa",
        "commonsense_qa_dev.jsonl",
        read_jsonl,
        item,
        STEPS,
        HubData("tau/commonsense_qa", splits=("validation",)),
        is_finished=True,
        by_authors=authors.announced_letter,
    ),
)
