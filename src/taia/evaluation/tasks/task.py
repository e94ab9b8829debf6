"""A task of taia's own: what its module declares, and the items that it makes of rows.

What is no row of the task is refused with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from taia.errors import DataError
from taia.evaluation.tasks.answers import authors
from taia.evaluation.tasks.rows import MEND, DataRow, HubData

#: The paper's instructions, each after its question and a blank line; "infomation" is theirs.
FORMAT: Final = (
    "Please format the final answer at the end of the response as: The answer is {answer}."
)
STEPS: Final = f"Let's think step by step. {FORMAT}"
LETTER: Final = "Please answer with option letter directly, do not output other infomation."
LETTER_ZH: Final = "请用选项的字母直接回答，不要输出其他信息："

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

#: How an answer is compared: as mathematics, as a number, as the choice of an option, as text; or
#: by rules, which are JSON.
AnswerKind: TypeAlias = Literal["math", "number", "option", "text", "rules"]


@dataclass(frozen=True, slots=True)
class Item:
    r"""An item of a task.

    Attributes:
        id: Unique within its task.
        task: The task's name.
        prompt: What the user says, its instruction included.
        kind: How an answer is compared with ``gold``.
        gold: The right answer as the data set writes it: ``\frac{1}{2}``, ``145.0``, ``B``,
            ``(B)``, ``valid``.
        options: The texts of the options in the order of their letters; none if there are none.
        group: The part of the task it belongs to (BBH's subtask, MMLU's subject), or nothing.
        solution: MATH's worked solution, which the authors' matching looks into; else nothing.
    """

    id: str
    task: str
    prompt: str
    kind: AnswerKind
    gold: str
    options: tuple[str, ...] = ()
    group: str = ""
    solution: str = ""


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
        by_authors: Whether the authors' program takes a response for right, with nothing around it.
        needs: Packages that its scoring imports, beside those of ``taia[eval]`` that all need.
        shares: What its score is the share of, in plain words; nothing where it is no share.
        measures: What it is otherwise, in plain words.
    """

    name: str
    file: str
    rows: Callable[[Path], list[DataRow]]
    item: Callable[[str, DataRow], Item]
    instruction: str = ""
    hub: HubData | None = None
    part: str = ""
    is_shipped: bool = False
    is_finished: bool = False
    first: int | None = None
    by_authors: Callable[[Item, str], bool] = authors.letter
    needs: tuple[str, ...] = ()
    shares: str = ""
    measures: str = ""


def choice(
    task: str, row: DataRow, listed: tuple[str, ...], gold: str, question: str, group: str = "",
    name: str = "",
) -> Item:  # fmt: skip
    """An item of a question with options, which stand below it as ``A. text``.

    Args:
        task: The task's name.
        row: The row that it is made of.
        listed: The options.
        gold: The letter of the right one.
        question: What is asked.
        group: The part of the task that it belongs to.
        name: Its id; by default the row's.

    Raises:
        DataError: If ``gold`` is the letter of no option.
    """
    if gold not in list(LETTERS[: len(listed)]):
        raise DataError(f"{row.where}: the answer {gold!r} is not an option's letter.", MEND)
    lines = [f"{key}. {option}" for key, option in zip(LETTERS, listed, strict=False)]
    asked = "\n".join([question, *lines])
    return Item(name or row.id, task, asked, "option", gold, listed, group)


def field(row: DataRow, key: str) -> object:
    """A row's value of a key; None where there is none.

    Raises:
        DataError: If the row is not an object.
    """
    if not isinstance(row.value, dict):
        raise DataError(f"{row.where} is not a JSON object.", MEND)
    return row.value.get(key)


def text(row: DataRow, key: str) -> str:
    """A row's text of a key.

    Raises:
        DataError: If it is missing, is not a text, or is blank.
    """
    value = field(row, key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{row.where}: {key!r} is missing or is not text.", MEND)
    return value


def options(given: object, row: DataRow) -> tuple[str, ...]:
    """A row's options, as a list gives them.

    Raises:
        DataError: If it is not a list of at least two texts.
    """
    texts: Sequence[object] = given if isinstance(given, list) else ()
    if len(texts) < 2 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(f"{row.where}: the options are not a list of at least two texts.", MEND)
    return tuple(str(text) for text in texts)
