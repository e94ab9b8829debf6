"""A task of taia's own: what its module declares, and where its rows come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taia.evaluation.tasks.files import Row
from taia.evaluation.tasks.hub import HubData
from taia.evaluation.tasks.item import Item

#: The paper's instructions, each after its question and a blank line; "infomation" is theirs.
FORMAT: Final = (
    "Please format the final answer at the end of the response as: The answer is {answer}."
)
STEPS: Final = f"Let's think step by step. {FORMAT}"
LETTER: Final = "Please answer with option letter directly, do not output other infomation."
LETTER_ZH: Final = "请用选项的字母直接回答，不要输出其他信息："


@dataclass(frozen=True, slots=True)
class Task:
    """A task, declared in a module's ``TASKS``; what is asked how stands in its YAML file.

    Attributes:
        name: Its name, which is its YAML file's, too.
        file: What it is read from, below the data folder: a file, or for BBH a folder.
        rows: Reads it.
        item: Makes an item of the task's name and a row; its prompt is the question alone.
        instruction: What follows the question, or nothing.
        hub: The data set to read where no data folder is given; None if there is none.
        part: A file with a part of the task, read where ``file`` is not there; or nothing.
        is_shipped: Whether ``file`` is part of taia, in the folder ``data`` beside this module.
        is_finished: Whether a second stage finishes the answer (``second_stage`` of the YAML file),
            so that it ends in no full stop.
        first: Where not all of its items are asked: so many, of its groups in turn.
        needs: Packages that its scoring imports, beside those of ``taia[eval]`` that all need.
    """

    name: str
    file: str
    rows: Callable[[Path], list[Row]]
    item: Callable[[str, Row], Item]
    instruction: str = ""
    hub: HubData | None = None
    part: str = ""
    is_shipped: bool = False
    is_finished: bool = False
    first: int | None = None
    needs: tuple[str, ...] = ()
