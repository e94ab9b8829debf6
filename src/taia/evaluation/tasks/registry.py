"""Which tasks taia has of its own, found by their files, and what each of them asks.

A task is a YAML file here and a module of the same name, whose ``TASKS`` declares it; a module may
declare a twin in another language, too, which has a YAML file of its own. Groups are YAML files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import chain, zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any

from taia.errors import DataError, InputError
from taia.evaluation.tasks import FOLDER
from taia.evaluation.tasks.rows import DataRow, read_hub
from taia.evaluation.tasks.task import Item, Task


@cache
def own_tasks() -> Mapping[str, Task]:
    """Name → task, of all that modules beside a YAML file of their name declare."""
    modules = [path.stem for path in _files() if path.with_suffix(".py").is_file()]
    declared = (import_module(f"taia.evaluation.tasks.{name}").TASKS for name in modules)
    return MappingProxyType({task.name: task for tasks in declared for task in tasks})


def find(name: str) -> Task:
    """A task by its name.

    Raises:
        InputError: If there is none.
    """
    if name not in own_tasks():
        raise InputError(f"There is no task {name!r}.", f"Choose from {', '.join(own_tasks())}.")
    return own_tasks()[name]


def known_names() -> list[str]:
    """What can be asked for: groups and tags first, then tasks."""
    return [*_groups(), *own_tasks()]


def paper_tasks(names: Iterable[str]) -> list[str]:
    """Those of some names that :func:`load_task` reads; a group or tag stands for its tasks."""
    single = (one for name in names for one in _groups().get(name, [name]))
    return list(dict.fromkeys(name for name in single if name in own_tasks()))


def load_task(
    name: str, data_dir: Path | None = None, limit: int | None = None, hub: str = ""
) -> list[Item]:
    """Read a task's items from local files, from the hub, or from what taia ships.

    Args:
        name: One of :func:`own_tasks`.
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
    task = find(name)
    end = f"\n\n{task.instruction}" if task.instruction else ""
    items = [task.item(name, row) for row in _rows(task, data_dir, hub)]
    asked = [replace(item, prompt=f"{item.prompt}{end}") for item in items]
    return list(_in_turn(asked))[: task.first][:limit]


def _rows(task: Task, data_dir: Path | None, hub: str) -> list[DataRow]:
    if task.is_shipped:
        return task.rows(FOLDER / "data" / task.file)
    if data_dir is not None:
        whole, part = data_dir / task.file, data_dir / task.part
        return task.rows(part if task.part and not whole.exists() and part.exists() else whole)
    if task.hub is None:
        raise DataError(
            f"{task.name} is on the hub in no form that can be read.",
            f"Give a folder that holds {task.file} with --data-dir (docs/tasks.md).",
        )
    return read_hub(task.hub.at(hub) if hub else task.hub)


def _in_turn(items: list[Item]) -> Iterator[Item]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    return (item for item in chain(*zip_longest(*groups.values())) if item is not None)


@cache
def _groups() -> Mapping[str, list[str]]:
    """Group or tag → its tasks, in their order."""
    found: dict[str, list[str]] = {}
    for content in map(_content, _files()):
        if "group" in content:
            found[content["group"]] = list(content["task"])
        elif "tag" in content:
            found.setdefault(content["tag"], []).append(content["task"])
    return MappingProxyType(found)


def _files() -> list[Path]:
    return sorted(FOLDER.glob("*.yaml"))


def _content(path: Path) -> dict[str, Any]:
    """What a task file says, without its functions; with what it includes."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
        """Leaves functions as they are written."""

    Loader.add_constructor("!function", lambda _, node: node.value)
    said = yaml.load(path.read_text(encoding="utf-8"), Loader)
    return {**(_content(path.parent / said["include"]) if "include" in said else {}), **said}
