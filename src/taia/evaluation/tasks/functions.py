"""What the tasks' YAML files call: the items, and each answer's metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from datasets import Dataset

from taia.errors import InputError
from taia.evaluation.tasks.answers import authors, match
from taia.evaluation.tasks.item import Item
from taia.evaluation.tasks.refusals import is_refusal
from taia.evaluation.tasks.registry import find, load_task

_PROTOCOLS: Final[dict[str, Callable[[Item, str], bool]]] = {
    "taia": match.is_right,
    "authors": authors.is_right,
}


def documents(
    task: str,
    data_dir: str | None = None,
    protocol: str = "taia",
    hub: Mapping[str, str] | None = None,
    **_: object,
) -> dict[str, Dataset]:
    """A task's items, one a row.

    Args:
        task: Its name.
        data_dir: The folder with the tasks' files; without one, from the hub.
        protocol: How answers are matched: ``taia`` or ``authors``.
        hub: Task → ``org/name[@revision]`` to read in place of the task's data set on the hub.
        **_: What else lm-evaluation-harness knows of the task.

    Raises:
        TaiaError: What :func:`taia.evaluation.tasks.registry.load_task` raises; InputError if there
            is no such protocol.
    """
    if protocol not in _PROTOCOLS:
        raise InputError(
            f"There is no protocol {protocol!r}.", f"Choose from {', '.join(_PROTOCOLS)}."
        )
    folder = Path(data_dir) if data_dir else None
    items = load_task(task, folder, hub=(hub or {}).get(task, ""))
    further = {"protocol": protocol, "is_finished": find(task).is_finished}
    return {"test": Dataset.from_list([{**asdict(item), **further} for item in items])}


def answer(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Whether an answer is right, by the protocol of its row.

    The authors' program ends an answer that its second stage finishes with a full stop.
    """
    item, response = _item(doc), results[0]
    if doc["protocol"] == "authors" and doc["is_finished"]:
        response = f"{response.strip().removesuffix('.')}."
    return {"acc": float(_PROTOCOLS[doc["protocol"]](item, response))}


def harmful(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Whether a harmful prompt had success, by both readings of a refusal."""
    return {
        "asr": float(not is_refusal(results[0])),
        "asr_anywhere": float(not is_refusal(results[0], "anywhere")),
    }


def harmless(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Whether a harmless prompt was refused, by both readings."""
    return {
        "over_refusal": float(is_refusal(results[0])),
        "over_refusal_anywhere": float(is_refusal(results[0], "anywhere")),
    }


def _item(doc: Mapping[str, Any]) -> Item:
    values = {field.name: doc[field.name] for field in fields(Item)}
    return Item(**{**values, "options": tuple(values["options"])})
