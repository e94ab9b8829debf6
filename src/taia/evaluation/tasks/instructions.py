"""Instructions whose keeping a rule can tell: in so many words, without commas, as JSON.

The prompts are taia's own (data/README.md), of the kinds of IFEval (Zhou et al. 2023, arXiv
2311.07911); the metrics are defined as there and named as lm-evaluation-harness names them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Final

from taia.errors import DataError
from taia.evaluation.tasks.rows import MEND, DataRow, read_jsonl
from taia.evaluation.tasks.rules import is_rule, keeps, keeps_loosely
from taia.evaluation.tasks.task import Item, Task, field, text


def item(task: str, row: DataRow) -> Item:
    """``id``, ``prompt``, ``rules`` (``rule`` and its arguments); the first one is the group."""
    rules = field(row, "rules")
    if not isinstance(rules, list) or not rules or not all(map(is_rule, rules)):
        raise DataError(f"{row.where}: 'rules' is no list of rules with what they take.", MEND)
    gold = json.dumps(rules, ensure_ascii=False)
    return Item(text(row, "id"), task, text(row, "prompt"), "rules", gold, group=rules[0]["rule"])


def score(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float | list[bool]]:
    """Whether an answer keeps all its rules, strictly and loosely; and which it keeps."""
    rules = json.loads(doc["gold"])
    strict = [keeps(results[0], rule) for rule in rules]
    loose = [keeps_loosely(results[0], rule) for rule in rules]
    return {
        "prompt_level_strict_acc": float(all(strict)),
        "inst_level_strict_acc": strict,
        "prompt_level_loose_acc": float(all(loose)),
        "inst_level_loose_acc": loose,
    }


def share(kept: Iterable[Sequence[bool]]) -> float:
    """Share of all prompts' rules that are kept."""
    every = list(chain.from_iterable(kept))
    return sum(every) / len(every)


_ALL: Final = Task(
    "instructions",
    "instructions.jsonl",
    read_jsonl,
    item,
    is_shipped=True,
    shares="instructions kept to the letter",
)
TASKS: Final = (_ALL, replace(_ALL, name="instructions_quick", first=64))
