"""Where a task's rows come from: a file of the data folder, or a data set on the hub.

Every reader gives the rows as they are; a task's module says what a row is, and one whose file has
another layout brings its own reader. Data sets with loading scripts no longer load; the tasks' are
Parquet or JSON, or the hub's own conversion of a script's (:data:`CONVERTED`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from taia.errors import DataError, DownloadError, InputError, first_line

#: What to do about a file or a row that is not one.
MEND: Final = "docs/tasks.md shows the layout of each task's file."
#: The revision with the hub's own conversion to Parquet.
CONVERTED: Final = "refs/convert/parquet"

_NAME: Final = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)


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


def read_rows(path: Path) -> list[tuple[int, Any]]:
    """Read a JSONL file, skipping empty lines.

    Args:
        path: The file.

    Returns:
        Each line's number, from 1, with its value; at least one.

    Raises:
        DataError: If the file cannot be read, holds nothing, or a line is not JSON.
    """
    text = read_text(path, "Give a JSONL file.")
    rows = []
    # Not splitlines(): JSON allows U+2028 and its kin inside strings.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append((number, json.loads(line)))
        except ValueError as error:
            raise DataError(
                f"{path}, line {number} is not JSON: {error}.", "Write one JSON object a line."
            ) from error
    if not rows:
        raise DataError(f"{path} holds no rows.", "Give a JSONL file with one JSON object a line.")
    return rows


def read_text(path: Path, mend: str = MEND) -> str:
    """A file as text.

    Args:
        path: The file.
        mend: What to do where there is none.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}.", mend) from error


def _as_it_is(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(row)


@dataclass(frozen=True, slots=True)
class HubData:
    """A data set on the hub.

    Attributes:
        name: ``org/name``.
        splits: The splits that make up the task, one after the other.
        configs: The configurations that make it up; None is the only one.
        revision: A branch, tag or commit; None is the newest.
        as_file: Brings a row into the layout of the task's file.
    """

    name: str
    splits: tuple[str, ...] = ("test",)
    configs: tuple[str | None, ...] = (None,)
    revision: str | None = None
    as_file: Callable[[Mapping[str, Any]], dict[str, Any]] = _as_it_is

    def at(self, given: str) -> HubData:
        """The same under another name, or at another revision.

        Args:
            given: ``org/name`` or ``org/name@revision``.

        Raises:
            InputError: If it is no such name.
        """
        match = _NAME.fullmatch(given)
        if match is None:
            raise InputError(
                f"{given!r} is no name of a data set on the hub.", "Write org/name[@revision]."
            )
        return replace(self, name=match["name"], revision=match["revision"])


def read_hub(data: HubData) -> list[DataRow]:
    """Download a data set, or read it from the cache; ``HF_HOME`` and ``HF_HUB_OFFLINE`` count.

    Raises:
        InputError: If the library ``datasets`` is not installed.
        DownloadError: If the hub cannot be reached, or has no such data set.
    """
    rows: list[DataRow] = []
    for config in data.configs:
        before = len(rows)
        for split in data.splits:
            for value in _load(data, config, split):
                number = len(rows) - before + 1
                name = f"{config}-{number}" if len(data.configs) > 1 else str(number)
                where = f"{data.name}, {config or 'row'} {number}"
                rows.append(DataRow(name, data.as_file(value), where, config or ""))
    return rows


def _load(data: HubData, config: str | None, split: str) -> list[Mapping[str, Any]]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InputError(
            f"{data.name} is read from the hub by the library datasets, which is missing.",
            'Install it: pip install "taia[eval]"; or give the files\' folder with --data-dir.',
        ) from error
    try:
        return list(load_dataset(data.name, config, split=split, revision=data.revision))
    except Exception as error:  # the clients' errors have no common class
        raise DownloadError(
            f"{data.name} cannot be had from the hub: {first_line(error)}.",
            "Give the files' folder with --data-dir (docs/tasks.md), or check the connection.",
        ) from error
