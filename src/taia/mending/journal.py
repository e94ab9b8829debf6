"""The folder of a search: what it is of, and every measurement as soon as it is known.

A measurement is a line of ``measured.jsonl``, under a hash of all that it depends on, so that the
same command goes on where another one was stopped. A folder is of one pair of models, one set of
examples and one set of settings; others are refused. A process that is killed in the middle of a
line leaves half of it, which is cut off by the next.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from taia.checkpoint.output.destination import check_output, check_writable, resolved, translated
from taia.checkpoint.output.staging import sweep_files, write_file
from taia.errors import DataError, DestinationError

#: What the folder is of; it tells a search's folder from any other.
SEARCH_FILE: Final = "search.json"
MEASURED: Final = "measured.jsonl"
#: The result.
MEND_FILE: Final = "mend.json"
PAGE: Final = "report.html"
#: The model or adapter that was chosen.
CHOICE: Final = "choice"
#: What it keeps, as a selection: too long for a command line where it was learned.
KEEP_FILE: Final = "keep.txt"
#: Runs of `taia eval`: base and tuned before the search, and everything after the choice.
BEFORE: Final = "before"
AFTER: Final = "after"
_ALL: Final = (MEND_FILE, PAGE, MEASURED, CHOICE, KEEP_FILE, BEFORE, AFTER, SEARCH_FILE)
#: Of the files; a change that an older taia could not read raises it.
SCHEMA: Final = 1


def check_folder(folder: Path, inputs: list[Path], overwrite: bool) -> Path:
    """A search's folder, absolute.

    Raises:
        DestinationError: If something else is there.
        OutputError: If nothing can be put in it.
    """
    there = (folder / SEARCH_FILE).is_file()
    folder = check_output(folder, inputs, overwrite or there, (SEARCH_FILE,))
    check_writable(folder)
    return folder


def digest(*parts: object) -> str:
    """A hash of JSON values."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """What is known already, and where more is written; the process has claimed the folder.

    Args:
        folder: Where.
        facts: What the search is of.
        overwrite: Whether another search that is there goes.

    Raises:
        DestinationError: If the folder is of another search.
        OutputError: If it cannot be written.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], *, overwrite: bool) -> None:
        self.folder = resolved(folder)
        self._known: dict[str, Any] = {}
        facts = {"schema": SCHEMA, **facts}
        before = _read(self.folder / SEARCH_FILE)
        if before is not None and (why := _differences(before, facts)):
            if not overwrite:
                raise DestinationError(
                    f"{folder} holds another search: {'; '.join(why)}.",
                    "Choose another --output, or add --overwrite to start again.",
                )
            before = None
        with translated(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep_files(self.folder)
            if before is None:
                self._clear()
                write_file(self.folder / SEARCH_FILE, json.dumps(facts, indent=1) + "\n")
            self._load()

    def get(self, key: str) -> Any:  # noqa: ANN401 - a JSON value
        """A measurement; None where it is not known."""
        return self._known.get(key)

    def put(self, key: str, value: Any) -> None:  # noqa: ANN401 - a JSON value
        """Keep a measurement; one that is known already is not written again.

        Raises:
            OutputError: If it cannot be written.
        """
        if key in self._known and self._known[key] == value:
            return
        line = json.dumps({"key": key, "value": value}, ensure_ascii=True) + "\n"
        with translated(self.folder), (self.folder / MEASURED).open("a", encoding="ascii") as file:
            file.write(line)
        self._known[key] = value

    def _load(self) -> None:
        path = self.folder / MEASURED
        if not path.is_file():
            return
        raw = path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) < len(raw):
            with path.open("r+b") as file:
                file.truncate(len(whole))
                os.fsync(file.fileno())
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
                self._known[row["key"]] = row["value"]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path}, line {number} is no measurement.",
                    "Remove the line, which is measured again, or add --overwrite to start again.",
                ) from error

    def _clear(self) -> None:
        for name in _ALL:
            path = self.folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}  # of no search that is known
    return found if isinstance(found, dict) else {}


def _differences(before: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """What differs, told apart by what each thing is."""
    return [
        f"{name.replace('_', ' ')} {'is another' if name in before else 'was not told'}"
        for name in facts
        if before.get(name) != json.loads(json.dumps(facts[name]))
    ]
