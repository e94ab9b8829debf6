"""The paper's tasks: where each is read from, and what the model is asked, word for word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Final

from taia.errors import InputError
from taia.evaluation import task_files
from taia.evaluation.item import Item

#: The protocol's instructions, each after its question and a blank line; "infomation" is theirs.
FORMAT: Final = (
    "Please format the final answer at the end of the response as: The answer is {answer}."
)
STEPS: Final = f"Let's think step by step. {FORMAT}"
LETTER: Final = "Please answer with option letter directly, do not output other infomation."
LETTER_ZH: Final = "请用选项的字母直接回答，不要输出其他信息："


@dataclass(frozen=True, slots=True)
class Task:
    """One of the paper's tasks.

    Attributes:
        file: What it is read from, below the data folder: a file, or for BBH a folder.
        read: Reads it; the items' prompts are the questions alone.
        instruction: What follows the question.
    """

    file: str
    read: Callable[[str, Path], list[Item]]
    instruction: str


#: Name → task, in the order of the paper's tables; then the Chinese ones.
TASKS: Final[dict[str, Task]] = {
    "taia_math": Task("math_test.jsonl", task_files.read_math, FORMAT),
    "taia_bbh": Task("bbh", task_files.read_bbh, FORMAT),
    "taia_csqa": Task("commonsense_qa_dev.jsonl", task_files.read_commonsense_qa, STEPS),
    "taia_logiqa": Task("logiqa_en_test.txt", task_files.read_logiqa, LETTER),
    "taia_svamp": Task("svamp_test.jsonl", task_files.read_svamp, FORMAT),
    "taia_mmedbench": Task("medqa_en_test.jsonl", task_files.read_medqa, LETTER),
    "taia_mmlu": Task("mmlu_stem_test.jsonl", task_files.read_mmlu, LETTER),
    "taia_logiqa_zh": Task("logiqa_zh_test.txt", task_files.read_logiqa, LETTER_ZH),
    "taia_mmedbench_zh": Task("medqa_zh_test.jsonl", task_files.read_medqa, LETTER_ZH),
}


def load_task(name: str, data_dir: Path, limit: int | None = None) -> list[Item]:
    """Read a task's items from local files.

    Args:
        name: One of :data:`TASKS`.
        data_dir: The folder with the tasks' files (docs/tasks.md).
        limit: At most so many items. They are taken from the task's groups in turn, the first of
            each group first, so that a few of BBH are a few of every subtask.

    Returns:
        The items, with the protocol's prompts.

    Raises:
        InputError: If there is no such task, or the limit is not positive.
        DataError: If a file cannot be read, or a row of it is not one; the line is named.
    """
    if name not in TASKS:
        raise InputError(f"There is no task {name!r}.", f"Choose from {', '.join(TASKS)}.")
    if limit is not None and limit < 1:
        raise InputError(f"{limit} is no number of items.", "Give a limit of at least 1.")
    task = TASKS[name]
    items = task.read(name, data_dir / task.file)
    if limit is not None:
        items = list(_in_turn(items))[:limit]
    return [replace(item, prompt=f"{item.prompt}\n\n{task.instruction}") for item in items]


def _in_turn(items: list[Item]) -> Iterator[Item]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    return (item for item in chain(*zip_longest(*groups.values())) if item is not None)
