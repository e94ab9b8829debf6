"""BIG-Bench Hard (Suzgun et al. 2022, arXiv 2210.09261): 27 subtasks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from taia.errors import DataError
from taia.evaluation.tasks.answers import authors
from taia.evaluation.tasks.rows import MEND, DataRow, HubData, read_text
from taia.evaluation.tasks.task import FORMAT, LETTERS, AnswerKind, Item, Task, text


def read(folder: Path) -> list[DataRow]:
    """A folder of a JSON file a subtask, ``{"examples": [{"input", "target"}]}``.

    Raises:
        DataError: If there is no file, or one has no examples.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise DataError(f"{folder} holds no JSON file.", MEND)
    return [
        DataRow(f"{path.stem}-{index}", row, f"{path}, example {index}", path.stem)
        for path in paths
        for index, row in enumerate(_examples(path), 1)
    ]


def item(task: str, row: DataRow) -> Item:
    """``input``, ``target``; the row's group is the subtask.

    A target that is an option's letter is compared as an option, a number as a number, anything
    else as text.
    """
    question, target = text(row, "input"), text(row, "target")
    options: tuple[str, ...] = ()
    kind: AnswerKind = "text"
    if re.fullmatch(r"\([A-Z]\)", target):
        kind, options = "option", tuple(re.findall(r"(?m)^\([A-Z]\) (.*)$", question))
        if LETTERS.index(target[1]) >= len(options):
            raise DataError(f"{row.where}: there is no option {target}.", MEND)
    elif re.fullmatch(r"-?\d+", target):
        kind = "number"
    return Item(row.id, task, question, kind, target, options, row.group)


def _examples(path: Path) -> list[Any]:
    try:
        content = json.loads(read_text(path))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}.", MEND) from error
    examples = content.get("examples") if isinstance(content, dict) else None
    if not isinstance(examples, list) or not examples:
        raise DataError(f"{path} has no list of 'examples'.", MEND)
    return examples


_SUBTASKS: Final = (
    "boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa",
    "dyck_languages", "formal_fallacies", "geometric_shapes", "hyperbaton",
    "logical_deduction_five_objects", "logical_deduction_seven_objects",
    "logical_deduction_three_objects", "movie_recommendation", "multistep_arithmetic_two",
    "navigate", "object_counting", "penguins_in_a_table", "reasoning_about_colored_objects",
    "ruin_names", "salient_translation_error_detection", "snarks", "sports_understanding",
    "temporal_sequences", "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects",
    "web_of_lies", "word_sorting",
)  # fmt: skip

TASKS: Final = (
    Task(
        "taia_bbh",
        "bbh",
        read,
        item,
        FORMAT,
        HubData("SaylorTwift/bbh", configs=_SUBTASKS),
        by_authors=authors.inside,
    ),
)
