"""Which task names there are, told without lm-evaluation-harness's index of thousands of files.

The index parses every file, which takes half a minute; here their text is only searched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from taia.errors import InputError
from taia.evaluation.tasks import FOLDER
from taia.text import closest

#: A line that may name a task, group or tag: ``task: x``, ``- x``.
_NAMED: Final = re.compile(
    r"^[ \t]*(?:-[ \t]+)?(?:(?:task|group|tag)[ \t]*:[ \t]*|-[ \t]+)[\"']?([\w.+/-]+)[\"']?[ \t]*$",
    re.MULTILINE,
)

_HUB_DATA: Final = re.compile(
    r"^dataset_path:[ \t]*[\"']?([\w-]+/[\w.-]+)[\"']?[ \t]*$", re.MULTILINE
)
_INCLUDE: Final = re.compile(r"^include:[ \t]*[\"']?([^\s\"']+)", re.MULTILINE)


def check_tasks(names: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse names that no file of tasks mentions.

    Args:
        names: Of tasks, groups or tags.
        folders: With task files of the user's.

    Raises:
        InputError: If a folder is none, or a name is unknown; with what it may be instead.
    """
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder of tasks.", "Check --include-path.")
    own = dict(_texts([FOLDER, *folders]))
    if all(any(_mentions(text, name) for text in own.values()) for name in names):
        return
    texts = {**dict(_texts(_installed())), **own}
    for name in names:
        if not any(_mentions(text, name) for text in texts.values()):
            first, known = (
                sorted({found for text in of.values() for found in _NAMED.findall(text)})
                for of in (own, texts)
            )
            near = closest(name, known, first)
            raise InputError(
                f"There is no task {name!r}.",
                f"Did you mean {near}?"
                if near
                else "Check the name, or give your own task files with --include-path.",
            )


def single_tasks(names: Iterable[str], folders: Sequence[Path]) -> set[str]:
    """Those of some names that files in some folders give to one task, not a group or a tag."""
    sought = set(names)
    texts = (text for _, text in _texts(folders))
    return {name for text in texts for name in sought if _defines(text, name, "task")}


def installed() -> list[Path]:
    """The folders of task files that are there without the user's: taia's and the harness's."""
    return [FOLDER, *_installed()]


def is_own(task: Any) -> bool:  # noqa: ANN401 - lm_eval has no types
    """Whether a task is one of taia's, whose matching depends on the protocol."""
    source = (task.get_config("metadata") or {}).get("config_source", "")
    return Path(source).parent == FOLDER


def family(names: Sequence[str]) -> list[Path] | None:
    """The folders of lm-evaluation-harness that define names, where each is defined in only one.

    Args:
        names: Of tasks or groups.

    Returns:
        Folders that hold them and what belongs to them, or ``None`` if that cannot be told.
    """
    roots = _installed()
    found: dict[str, set[Path]] = {name: set() for name in names}
    for path, text in _texts(roots):
        for name in names:
            if _defines(text, name):
                parts = path.relative_to(roots[0]).parts
                found[name].add(roots[0] / parts[0] if len(parts) > 1 else roots[0])
    folders = [folder for of in found.values() for folder in of]
    if roots[:1] == folders[:1] or any(len(of) != 1 for of in found.values()):
        return None
    return list(dict.fromkeys(folders))


def data_sets(names: Sequence[str]) -> Iterator[str]:
    """The data sets on the hub that lm-evaluation-harness's tasks read, as far as files tell."""
    for path, text in _texts(_installed()):
        if any(_defines(text, name) for name in names):
            yield from _read_by(path, text)


def _read_by(path: Path, text: str, depth: int = 0) -> Iterator[str]:
    if found := _HUB_DATA.search(text):
        yield found[1]
    elif (base := _INCLUDE.search(text)) and depth < 10:
        file = path.parent / base[1]
        if file.is_file():
            yield from _read_by(file, file.read_text(encoding="utf-8", errors="replace"), depth + 1)


def _installed() -> list[Path]:
    spec = find_spec("lm_eval")
    return [Path(place) / "tasks" for place in (spec and spec.submodule_search_locations) or ()]


def _texts(roots: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Every task file below some folders, and those that they include."""
    for root in roots:
        for folder, inner, files in os.walk(root):
            inner[:] = [name for name in inner if name != "__pycache__"]
            for name in files:
                if name.endswith("yaml") or "." not in name:
                    path = Path(folder) / name
                    yield path, path.read_text(encoding="utf-8", errors="replace")


def _mentions(text: str, name: str) -> bool:
    return name in text and bool(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text))


def _defines(text: str, name: str, kinds: str = "task|group") -> bool:
    line = rf"^(?:{kinds})[ \t]*:[ \t]*[\"']?{re.escape(name)}[\"']?[ \t]*(?:#.*)?$"
    return name in text and bool(re.search(line, text, re.MULTILINE))
