"""Which tensors of a base checkpoint an adapter's update changes.

Usually one, by name. transformers 5 stacks experts that older checkpoints keep one by one; an
update of the stack then changes many tensors, each by its slice of the update.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from taia.checkpoint.adapters.read import Adapter, Update
from taia.checkpoint.header import Entry
from taia.checkpoint.spelling import FUSED, fused, newer
from taia.errors import AdapterError


class Finder:
    """Finds live parameters among a checkpoint's names, through the spellings both may have."""

    def __init__(self, names: Iterable[str]) -> None:
        names = tuple(names)
        self._names = {newer(name): name for name in names} | {name: name for name in names}

    def find(self, parameter: str) -> str | None:
        """The checkpoint's name of a live model's parameter, ``None`` if it has none."""
        return self._names.get(parameter) or self._names.get(newer(parameter))


class Target(NamedTuple):
    """A tensor of the base, and the slice of an update that changes it.

    Attributes:
        entry: The tensor.
        expert: Which expert's factors, ``None`` for an update that has no experts or for all.
        rows: Which outputs, ``None`` for all.
    """

    entry: Entry
    expert: int | None = None
    rows: tuple[int, int] | None = None


def unstacked(parameter: str, tensors: Mapping[str, Entry]) -> tuple[Target, ...]:
    """The per-expert tensors that a stacked parameter is made of; none where there are none.

    Args:
        parameter: The live model's name, as ``model.layers.0.mlp.experts.gate_up_proj``.
        tensors: The checkpoint's.
    """
    stack = fused(newer(parameter))
    if stack is None:
        return ()
    stem, kind = stack
    newest = {newer(name): entry for name, entry in tensors.items() if ".experts." in name}
    found: list[Target] = []
    expert = 0
    while all(f"{stem}.{expert}.{name}.weight" in newest for name in FUSED[kind]):
        row = 0
        for name in FUSED[kind]:
            entry = newest[f"{stem}.{expert}.{name}.weight"]
            found.append(Target(entry, expert, (row, row + entry.shape[0])))
            row += entry.shape[0]
        expert += 1
    return tuple(found)


def token_rows(adapter: Adapter, update: Update, base: Entry) -> list[int]:
    """Which rows of an embedding ``trainable_token_indices`` names.

    Raises:
        AdapterError: If the config does not say so, names another number of rows, or rows that the
            base's embedding does not have.
    """
    indices = adapter.config.get("trainable_token_indices")
    if isinstance(indices, dict):
        indices = next(
            (rows for key, rows in indices.items() if f".{update.module}".endswith(f".{key}")), None
        )
    part = update.parts["tokens"]
    if not isinstance(indices, list) or len(indices) != adapter.shape(part)[0]:
        raise AdapterError(
            f"{part.tensor!r} has {adapter.shape(part)[0]} rows, which trainable_token_indices in "
            "adapter_config.json does not account for",
            "the config and the tensors are not of the same adapter; save it again",
        )
    if max(indices, default=0) >= base.shape[0]:
        raise AdapterError(
            f"trainable_token_indices names token {max(indices)}, and {base.name!r} in {base.file} "
            f"has {base.shape[0]} rows",
            "give the base model that the adapter was trained on, resized as it was then",
        )
    return list(indices)
