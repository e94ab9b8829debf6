"""One item of a task: what a model is asked and what is right, and how it is made of a row.

What is no row of the task is refused with its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from taia.errors import DataError
from taia.evaluation.tasks.rows import MEND, DataRow

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
