"""Some items of a task, as if it had no others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from taia.evaluation.harness.tasks import LmTask, Tasks


def only(tasks: Tasks, places: Mapping[str, Collection[int]]) -> Tasks:
    """The same tasks with some of their items; those with none are left out, groups are no more.

    Args:
        tasks: Tasks, which are changed: load them again to have all items.
        places: Task → the places of its items, from 0, as they stand in the task.
    """
    some = {name: task for name, task in tasks.tasks.items() if places.get(name)}
    for name, task in some.items():
        _restrict(task, frozenset(places[name]))
    return replace(tasks, names=tuple(some), tasks=some, groups={})


def _restrict(task: LmTask, places: frozenset[int]) -> None:
    def some(*, rank: int = 0, world_size: int = 1, **_: object) -> Iterator[tuple[int, Any]]:
        docs = [doc for place, doc in enumerate(task.eval_docs) if place in places]
        return ((place, doc) for place, doc in enumerate(docs) if place % world_size == rank)

    task.doc_iterator = some
