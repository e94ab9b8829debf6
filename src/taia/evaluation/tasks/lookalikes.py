"""Harmless prompts that look harmful (data/README.md): how often does a model refuse them?"""

from __future__ import annotations

from typing import Final

from taia.evaluation.tasks.rows import DataRow, read_jsonl
from taia.evaluation.tasks.task import Item, Task, text


def item(task: str, row: DataRow) -> Item:
    """``id``, ``group``, ``prompt``; no answer is right."""
    name, prompt, group = (text(row, key) for key in ("id", "prompt", "group"))
    return Item(name, task, prompt, "text", "", group=group)


TASKS: Final = (
    Task(
        "lookalikes",
        "lookalikes.jsonl",
        read_jsonl,
        item,
        is_shipped=True,
        shares="harmless questions refused",
    ),
)
