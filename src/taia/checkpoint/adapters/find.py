"""Which tensors of a base checkpoint an adapter's update changes.

Usually one, by name. transformers 5 stacks experts that older checkpoints keep one by one; an
update of the stack then changes many tensors, each by its slice of the update.
"""

from __future__ import annotations

from typing import NamedTuple

from taia.anatomy.fused import FUSED_EXPERTS
from taia.checkpoint.adapters.live import is_composite, live_name
from taia.checkpoint.adapters.read import Adapter, Update
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.spelling import fused, newer
from taia.errors import AdapterError


class Finder:
    """Finds live parameters among a checkpoint's names, through the spellings both may have.

    Args:
        base: The checkpoint.
    """

    def __init__(self, base: Checkpoint) -> None:
        names = tuple(base.tensors)
        self._modules: set[str] | None = None
        self._names = {newer(name): name for name in names} | {name: name for name in names}
        #: A live parameter's name from its name in a file.
        self.rename = live_name(base.config if is_composite(base.config) else None)
        self._names |= {self.rename(name): name for name in names}

    def find(self, parameter: str) -> str | None:
        """The checkpoint's name of a live model's parameter, ``None`` if it has none."""
        return self._names.get(parameter) or self._names.get(newer(parameter))

    def has_module(self, module: str) -> bool:
        """Whether any of the checkpoint's tensors is a live module's, whatever its name there."""
        if self._modules is None:
            self._modules = {
                name[:end] for name in self._names for end, at in enumerate(name) if at == "."
            }
        return bool({module, newer(f"{module}.").removesuffix(".")} & self._modules)


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


def unstacked(parameter: str, base: Checkpoint) -> tuple[Target, ...]:
    """The per-expert tensors that a stacked parameter is made of; none where there are none.

    Args:
        parameter: The live model's name, as ``model.layers.0.mlp.experts.gate_up_proj``.
        base: The checkpoint.
    """
    stack = fused(newer(parameter))
    if stack is None:
        return ()
    stem, kind = stack
    newest = base.experts
    found: list[Target] = []
    expert = 0
    while all(f"{stem}.{expert}.{name}.weight" in newest for name in FUSED_EXPERTS[kind]):
        row = 0
        for name in FUSED_EXPERTS[kind]:
            entry = newest[f"{stem}.{expert}.{name}.weight"]
            found.append(Target(entry, expert, (row, row + entry.shape[0])))
            row += entry.shape[0]
        expert += 1
    return tuple(found)


def token_rows(adapter: Adapter, update: Update, vocabulary: int) -> list[int]:
    """Which rows of an embedding ``trainable_token_indices`` names.

    Args:
        adapter: The adapter.
        update: Its update of tokens.
        vocabulary: How many rows the embedding has.

    Raises:
        AdapterError: If the config does not say so, names another number of rows, or rows that the
            embedding does not have.
    """
    indices = adapter.config.get("trainable_token_indices")
    if isinstance(indices, dict):
        # A tied head has no indices of its own: it follows the embedding.
        indices = next(
            (rows for key, rows in indices.items() if f".{update.module}".endswith(f".{key}")),
            next(iter(indices.values()), None),
        )
    part = update.parts["tokens"]
    if not isinstance(indices, list) or len(indices) != adapter.shape(part)[0]:
        raise AdapterError(
            f"{part.tensor!r} has {adapter.shape(part)[0]} rows, which trainable_token_indices in "
            "adapter_config.json does not account for",
            "the config and the tensors are not of the same adapter; save it again",
        )
    if max(indices, default=0) >= vocabulary:
        raise AdapterError(
            f"trainable_token_indices names token {max(indices)}, and {update.parameter!r} has "
            f"{vocabulary} rows",
            "give the base model that the adapter was trained on, resized as it was then",
        )
    return list(indices)
