"""Texts of eight kinds (data/README.md): how well does a model still know language at large?

Scored by lm-evaluation-harness's own metrics of rolling log-likelihood, over all texts together.
"""

from __future__ import annotations

from typing import Final

from taia.evaluation.tasks.rows import DataRow, read_jsonl
from taia.evaluation.tasks.task import Item, Task, text


def item(task: str, row: DataRow) -> Item:
    """``id``, ``group``, ``text``, which is the prompt; nothing is asked and nothing is right."""
    name, whole, group = (text(row, key) for key in ("id", "text", "group"))
    return Item(name, task, whole, "text", "", group=group)


TASKS: Final = (
    Task(
        "text_loss",
        "texts.jsonl",
        read_jsonl,
        item,
        is_shipped=True,
        measures="bits a byte on general texts (less is better)",
    ),
)
