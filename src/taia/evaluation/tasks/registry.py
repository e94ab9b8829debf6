"""The paper's tasks: where each is read from, and what the model is asked, word for word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Final

from taia.errors import DataError, InputError
from taia.evaluation.tasks import files as task_files
from taia.evaluation.tasks import items as task_items
from taia.evaluation.tasks.files import Row
from taia.evaluation.tasks.hub import HUB, read_hub
from taia.evaluation.tasks.item import Item
from taia.evaluation.tasks.refusals import read_lookalikes

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
        rows: Reads it.
        item: Makes an item of a row; its prompt is the question alone.
        instruction: What follows the question, or nothing.
        part: A file with a part of the task, read where ``file`` is not there; or nothing.
    """

    file: str
    rows: Callable[[Path], list[Row]]
    item: Callable[[str, Row], Item]
    instruction: str
    part: str = ""


_jsonl, _logiqa = task_files.read_jsonl, task_files.read_logiqa

#: Name → task, in the order of the paper's tables; then the Chinese ones.
TASKS: Final[dict[str, Task]] = {
    "taia_math": Task("math_test.jsonl", _jsonl, task_items.math, FORMAT),
    "taia_bbh": Task("bbh", task_files.read_bbh, task_items.bbh, FORMAT),
    "taia_csqa": Task("commonsense_qa_dev.jsonl", _jsonl, task_items.commonsense_qa, STEPS),
    "taia_logiqa": Task("logiqa_en_test.txt", _logiqa, task_items.logiqa, LETTER),
    "taia_svamp": Task("svamp_test.jsonl", _jsonl, task_items.svamp, FORMAT),
    "taia_mmedbench": Task("medqa_en_test.jsonl", _jsonl, task_items.medqa, LETTER),
    "taia_mmlu": Task("mmlu_test.jsonl", _jsonl, task_items.mmlu, LETTER, "mmlu_stem_test.jsonl"),
    "taia_logiqa_zh": Task("logiqa_zh_test.txt", _logiqa, task_items.logiqa, LETTER_ZH),
    "taia_mmedbench_zh": Task("medqa_zh_test.jsonl", _jsonl, task_items.medqa, LETTER_ZH),
}

#: The paper's harmful prompts; how answers are judged: :mod:`taia.evaluation.tasks.refusals`.
ADVBENCH: Final = Task(
    "advbench_harmful_behaviors.csv", task_files.read_advbench, task_items.harmful, ""
)

_ALL: Final = {**TASKS, "advbench": ADVBENCH}


def load_task(
    name: str, data_dir: Path | None = None, limit: int | None = None, hub: str = ""
) -> list[Item]:
    """Read a task's items from local files, or from the hub.

    Args:
        name: One of :data:`TASKS`, ``advbench`` or ``lookalikes``; the last is part of taia.
        data_dir: The folder with the tasks' files (docs/tasks.md); None reads from the hub.
        limit: At most so many items, the first ones.
        hub: ``org/name[@revision]`` to read in place of the task's data set on the hub.

    Returns:
        The items, with the protocol's prompts. They come from the task's groups in turn, the first
        of each group first, so that the first few of BBH are a few of every subtask.

    Raises:
        InputError: If there is no such task, or the limit is not positive.
        DataError: If a file cannot be read, or a row of it is not one; its place is named.
        DownloadError: If the hub cannot be reached.
    """
    if limit is not None and limit < 1:
        raise InputError(f"{limit} is no number of items.", "Give a limit of at least 1.")
    items = read_lookalikes() if name == "lookalikes" else _read(name, data_dir, hub)
    return list(_in_turn(items))[:limit]


def paper_tasks(names: Iterable[str]) -> list[str]:
    """Those of some names that :func:`load_task` reads; ``taia`` stands for the English ones."""
    suite = [name for name in TASKS if not name.endswith("_zh")]
    known = [*_ALL, "lookalikes"]
    single = (one for name in names for one in (suite if name == "taia" else [name]))
    return list(dict.fromkeys(name for name in single if name in known))


def _read(name: str, data_dir: Path | None, hub: str) -> list[Item]:
    if name not in _ALL:
        known = ", ".join([*_ALL, "lookalikes"])
        raise InputError(f"There is no task {name!r}.", f"Choose from {known}.")
    task = _ALL[name]
    rows = _hub_rows(name, hub) if data_dir is None else task.rows(_path(task, data_dir))
    end = f"\n\n{task.instruction}" if task.instruction else ""
    items = [task.item(name, row) for row in rows]
    return [replace(item, prompt=f"{item.prompt}{end}") for item in items]


def _hub_rows(name: str, hub: str) -> list[Row]:
    if name not in HUB:
        raise DataError(
            f"{name} is on the hub in no form that can be read.",
            f"Give a folder that holds {_ALL[name].file} with --data-dir (docs/tasks.md).",
        )
    return read_hub(HUB[name].at(hub) if hub else HUB[name])


def _path(task: Task, data_dir: Path) -> Path:
    whole, part = data_dir / task.file, data_dir / task.part
    return part if task.part and not whole.exists() and part.exists() else whole


def _in_turn(items: list[Item]) -> Iterator[Item]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    return (item for item in chain(*zip_longest(*groups.values())) if item is not None)
