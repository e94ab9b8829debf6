"""A run's folder: each result is there whole as soon as it is known, under the key it counts for.

A folder is for one pair of weights and one set of settings. What differs is refused, not mixed: a
table whose columns were measured differently would compare nothing. A task may change, as its file
is edited: what counts for its last form lies in ``results``, what counted for another is set aside
under its key and comes back when it counts again. Nothing is deleted but by ``--overwrite``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from taia.checkpoint.output.destination import check_output, check_writable, resolved, translated
from taia.checkpoint.output.staging import sweep_files, write_file
from taia.errors import DataError, DestinationError
from taia.evaluation.scores.results import (
    ASIDE,
    RESULTS,
    RUN_FILE,
    SCHEMA,
    TaskResult,
    aside_path,
    read_result,
    read_run,
    result_path,
    write_row,
)

#: Where the update lives, which the command line adds; it goes with the run.
_UPDATE_FILE: Final = "update.json"


def check_folder(folder: Path, inputs: list[Path], overwrite: bool) -> Path:
    """A run's folder, absolute.

    Raises:
        DestinationError: If something else is there.
        OutputError: If results cannot be put in it.
    """
    there = (folder / RUN_FILE).is_file()
    folder = check_output(folder, inputs, overwrite or there, (RUN_FILE,))
    kept = (folder / name for name in (RESULTS, ASIDE))
    check_writable(folder, *kept, *folder.glob(f"{RESULTS}/*"), *folder.glob(f"{ASIDE}/*"))
    return folder


class Store:
    """The folder of a run, which the process has claimed. Nothing is written before a result.

    Args:
        folder: Where.
        facts: What ``run.json`` shall hold; see :mod:`taia.evaluation.scores.results`.
        overwrite: Whether another run's results that are there go.
        inputs: Folders that are read, in which nothing is written.

    Raises:
        DestinationError: If the folder is another run's, or not one.
    """

    def __init__(
        self, folder: Path, facts: Mapping[str, Any], *, overwrite: bool, inputs: list[Path]
    ) -> None:
        folder = resolved(folder)
        there = (folder / RUN_FILE).is_file()
        self.folder = check_folder(folder, inputs, overwrite)
        before = _before(self.folder) if there else None
        why = [] if before is None else _differences(before, facts)
        if why and not overwrite:
            raise DestinationError(
                f"{folder} holds results of another run: {'; '.join(why)}.",
                "Choose another --output, or add --overwrite to start again.",
            )
        self._replaces, self._begun = bool(why), False
        self._facts = {"schema": SCHEMA, **_joined(None if why else before, facts)}

    def find(self, mode: str, task: str, key: str) -> TaskResult | None:
        """A mode's result of a task, if it is there or set aside and counts for the key."""
        if self._replaces:
            return None
        places = (result_path, partial(aside_path, key=key))
        for path in (place(self.folder, mode, task) for place in places):
            try:
                result = read_result(path) if path.is_file() else None
            except DataError:
                continue  # it is computed again and replaced
            if result is not None and result.key == key:
                return result
        return None

    def take(self, result: TaskResult) -> None:
        """Let a result that was found be the one that counts, if it was set aside.

        Raises:
            OutputError: If it cannot be written.
        """
        if aside_path(self.folder, result.mode, result.task, result.key).is_file():
            self.put(result)

    def put(self, result: TaskResult) -> None:
        """Keep a result, there whole or not at all.

        What lies in its place for another key is set aside, and so are other modes' results of the
        task from before its file or its data changed.

        Raises:
            OutputError: If it cannot be written.
        """
        self.begin()
        mode, task = result.mode, result.task
        here = result_path(self.folder, mode, task)
        self._set_aside(here, mode, task, unless=("key", result.key))
        write_row(here, result.to_json())
        with translated(self.folder):
            aside_path(self.folder, mode, task, result.key).unlink(missing_ok=True)
            for path in self._of_task(task):
                if path != here:
                    mode = unquote(path.parent.name)
                    same = ("task", result.identity.get("task"))
                    self._set_aside(path, mode, task, unless=same, leave=False)

    def begin(self) -> None:
        """Write the run's facts; of another run's results, remove what is replaced.

        Raises:
            OutputError: If they cannot be written.
        """
        if self._replaces:
            with translated(self.folder):
                for name in (RUN_FILE, _UPDATE_FILE):
                    (self.folder / name).unlink(missing_ok=True)
                for name in (RESULTS, ASIDE):
                    shutil.rmtree(self.folder / name, ignore_errors=True)
            self._replaces = False
        if not self._begun:
            sweep_files(self.folder)
            write_row(self.folder / RUN_FILE, self._facts)
            self._begun = True

    def _of_task(self, task: str) -> Iterator[Path]:
        name = result_path(self.folder, "", task).name
        return (path for path in (self.folder / RESULTS).glob("*/*.json") if path.name == name)

    def _set_aside(
        self, path: Path, mode: str, task: str, *, unless: tuple[str, object], leave: bool = True
    ) -> None:
        """Keep a file elsewhere under its key, unless it has a value: of its own, or its identity.

        Args:
            path: The file.
            mode: Whose result it is.
            task: Of which task.
            unless: Name and value.
            leave: Whether it stays in its place too, where it is about to be replaced.
        """
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return
        try:
            row = json.loads(content)
            key, found = str(row["key"]), {**row["identity"], "key": row["key"]}
        except (ValueError, KeyError, TypeError, RecursionError):  # damaged: under its bytes' hash
            key, found = hashlib.sha256(content).hexdigest(), {}
        if unless[0] in found and found[unless[0]] == unless[1]:
            return
        write_file(aside_path(self.folder, mode, task, key), content.decode("utf-8", "replace"))
        if not leave:
            path.unlink()


def _before(folder: Path) -> dict[str, Any] | None:
    """The facts of the run that is there; ``None`` where they cannot be read."""
    try:
        return read_run(folder)
    except DataError:
        return {}


def _differences(before: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """In words, what a run that is there does not share with this one."""
    if before.get("schema") != SCHEMA:
        return ["its run.json is not one of this version of taia"]
    told = []
    for side in ("base", "tuned"):
        if before["hashes"].get(side) != facts["hashes"].get(side):
            told.append(f"{side} was {before.get(side)}, with other weights than {facts.get(side)}")
    if before["hashes"].get("tokenizer") != facts["hashes"].get("tokenizer"):
        told.append("the tokenizer was another")
    old, new = before["settings"], facts["settings"]
    told += [
        f"{name} was {old.get(name)}, now {new.get(name)}"
        for name in sorted(set(old) | set(new))
        if old.get(name) != new.get(name)
    ]
    told += [
        f"the mode {mode!r} was {selection!r}, now {facts['modes'][mode]!r}"
        for mode, selection in before["modes"].items()
        if facts["modes"].get(mode, selection) != selection
    ]
    return told


def _joined(before: Mapping[str, Any] | None, facts: Mapping[str, Any]) -> dict[str, Any]:
    """This run's facts, with the modes, tasks and groups that were there already."""
    if not before:
        return dict(facts)
    return {
        **facts,
        "modes": {**before["modes"], **facts["modes"]},
        "tasks": list(dict.fromkeys([*before["tasks"], *facts["tasks"]])),
        "groups": {**before["groups"], **facts["groups"]},
        "left_out": {**before.get("left_out", {}), **facts.get("left_out", {})},
        "asked": list(dict.fromkeys([*before["asked"], *facts["asked"]])),
        "created": before.get("created", facts["created"]),
    }
