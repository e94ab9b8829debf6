"""Files of rows, as several tasks read them; a task of another layout brings its own reader.

Every reader gives the rows as they are; a task's module says what a row is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taia.errors import DataError
from taia.evaluation.tasks.questions import read_rows

#: What to do about a file or a row that is not one.
MEND: Final = "docs/tasks.md shows the layout of each task's file."


@dataclass(frozen=True, slots=True)
class DataRow:
    """A row of a data set.

    Attributes:
        id: Unique within its task.
        value: What stands there.
        where: The place, for an error's message.
        group: The part of the task that its place tells, such as BBH's subtask; or nothing.
    """

    id: str
    value: Any
    where: str
    group: str = ""


def read_jsonl(path: Path) -> list[DataRow]:
    """A JSON object a line.

    Raises:
        DataError: If the file cannot be read, holds nothing, or a line is not JSON.
    """
    return [DataRow(str(number), row, f"{path}, line {number}") for number, row in read_rows(path)]


def read_text(path: Path) -> str:
    """A file as text.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}.", MEND) from error
