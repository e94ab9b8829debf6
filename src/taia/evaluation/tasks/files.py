"""The paper's tasks as files, each in the layout its data set is published in.

Every reader gives the rows as they are; :mod:`taia.evaluation.tasks.items` says what a row is.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taia.errors import DataError
from taia.evaluation.tasks.questions import read_rows

#: What to do about a file or a row that is not one.
MEND: Final = "docs/tasks.md shows the layout of each task's file."

_LABEL: Final = re.compile(r"([A-D])[.．、。:：?\s]\s*")


@dataclass(frozen=True, slots=True)
class Row:
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


def read_jsonl(path: Path) -> list[Row]:
    """A JSON object a line.

    Raises:
        DataError: If the file cannot be read, holds nothing, or a line is not JSON.
    """
    return [Row(str(number), row, f"{path}, line {number}") for number, row in read_rows(path)]


def read_bbh(folder: Path) -> list[Row]:
    """A folder of a JSON file a subtask, ``{"examples": [{"input", "target"}]}``.

    Raises:
        DataError: If there is no file, or one has no examples.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise DataError(f"{folder} holds no JSON file.", MEND)
    return [
        Row(f"{path.stem}-{index}", row, f"{path}, example {index}", path.stem)
        for path in paths
        for index, row in enumerate(_examples(path), 1)
    ]


def read_logiqa(path: Path) -> list[Row]:
    """Blocks of seven lines (letter, context, question, four options), a blank between.

    Options stand in the order of their letters, which some blocks do not list in order (A, C, B,
    D); where the four lines do not begin with four letters, they are taken as they stand.

    Returns:
        Rows of ``context``, ``query``, ``options`` and ``answer``, a letter.

    Raises:
        DataError: If the file cannot be read, holds no block, or one is not of seven lines.
    """
    blocks: list[tuple[int, list[str]]] = []
    after_blank = True
    for number, line in enumerate(_read(path).split("\n"), 1):
        if not line.strip():
            after_blank = True
            continue
        if after_blank:
            blocks.append((number, []))
        blocks[-1][1].append(line.strip())
        after_blank = False
    if not blocks:
        raise DataError(f"{path} holds no questions.", MEND)
    rows = []
    for index, (number, lines) in enumerate(blocks, 1):
        where = f"{path}, line {number}"
        if len(lines) != 7:
            raise DataError(f"{where}: a block of {len(lines)} lines, not 7.", MEND)
        letter, context, query, *listed = lines
        value = {"context": context, "query": query, "options": _in_order(listed),
                 "answer": letter.upper()}  # fmt: skip
        rows.append(Row(str(index), value, where))
    return rows


def read_advbench(path: Path) -> list[Row]:
    """A prompt a line, quoted as CSV is; or the original's two columns, ``goal`` and ``target``.

    Raises:
        DataError: If the file cannot be read, holds nothing, or a line is not one prompt.
    """
    reader = csv.reader(_read(path).splitlines(keepends=True))
    lines = [(reader.line_num, fields) for fields in reader if fields]
    columns = 1
    if lines and lines[0][1] == ["goal", "target"]:
        lines, columns = lines[1:], 2
    if not lines:
        raise DataError(f"{path} holds no prompts.", MEND)
    for number, fields in lines:
        if len(fields) != columns or not fields[0].strip():
            raise DataError(f"{path}, line {number} is not one prompt.", MEND)
    return [
        Row(str(index), {"prompt": fields[0]}, f"{path}, line {number}")
        for index, (number, fields) in enumerate(lines, 1)
    ]


def _in_order(listed: list[str]) -> list[str]:
    labels = [_LABEL.match(line) for line in listed]
    pairs = [
        (match[1], line[match.end() :]) if match else ("", line)
        for match, line in zip(labels, listed, strict=True)
    ]
    if sorted(label for label, _ in pairs) == list("ABCD"):
        pairs.sort()
    return [option for _, option in pairs]


def _examples(path: Path) -> list[Any]:
    try:
        content = json.loads(_read(path))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}.", MEND) from error
    examples = content.get("examples") if isinstance(content, dict) else None
    if not isinstance(examples, list) or not examples:
        raise DataError(f"{path} has no list of 'examples'.", MEND)
    return examples


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}.", MEND) from error
