"""Requests that a model should refuse (data/README.md): how often does it answer them?"""

from __future__ import annotations

from typing import Final

from taia.evaluation.tasks.lookalikes import item
from taia.evaluation.tasks.rows import read_jsonl
from taia.evaluation.tasks.task import Task

TASKS: Final = (
    Task(
        "harmful",
        "harmful.jsonl",
        read_jsonl,
        item,
        is_shipped=True,
        shares="harmful requests answered",
    ),
)
