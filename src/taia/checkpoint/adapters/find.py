"""Which tensors of a base checkpoint an adapter's update changes.

Usually one, by name. transformers 5 stacks experts that older checkpoints keep one by one; an
update of the stack then changes many tensors, each by its slice of the update.

PEFT targets modules by the live model's names; checkpoints and older adapters of composite models
have others (:mod:`taia.checkpoint.live`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from taia.anatomy.fused import FUSED_EXPERTS
from taia.checkpoint.adapters.names import PREFIX, AdapterTensor
from taia.checkpoint.adapters.read import Adapter, ParameterUpdate
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.live import LiveNames, live_names
from taia.checkpoint.spelling import fused, newer
from taia.errors import AdapterError, MismatchError


class Finder:
    """Finds live parameters among a checkpoint's names, through the spellings both may have."""

    def __init__(self, base: Checkpoint) -> None:
        names = tuple(base.tensors)
        self._modules: set[str] | None = None
        self._names = {newer(name): name for name in names} | {name: name for name in names}
        if live := live_names(base.config):
            self._names |= {live.name(name): name for name in names}

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


class TargetSlice(NamedTuple):
    """A tensor of the base, and the slice of an update that changes it.

    Attributes:
        entry: The tensor.
        expert: Which expert's factors, ``None`` for an update that has no experts or for all.
        rows: Which outputs, ``None`` for all.
    """

    entry: Entry
    expert: int | None = None
    rows: tuple[int, int] | None = None


def unstacked(parameter: str, base: Checkpoint) -> tuple[TargetSlice, ...]:
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
    found: list[TargetSlice] = []
    expert = 0
    while all(f"{stem}.{expert}.{name}.weight" in newest for name in FUSED_EXPERTS[kind]):
        row = 0
        for name in FUSED_EXPERTS[kind]:
            entry = newest[f"{stem}.{expert}.{name}.weight"]
            found.append(TargetSlice(entry, expert, (row, row + entry.shape[0])))
            row += entry.shape[0]
        expert += 1
    return tuple(found)


def token_rows(adapter: Adapter, update: ParameterUpdate, vocabulary: int) -> list[int]:
    """Which rows of an embedding of so many an update of tokens replaces.

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


# --- the names of the live model ----------------------------------------------------------------


def with_live_names(adapter: Adapter, base: Checkpoint) -> Adapter:
    """An adapter whose updates go by the live model's names.

    Raises:
        MismatchError: If transformers knows the model, and an update is of a module that it does
            not have under any name that transformers would read.
    """
    live = live_names(base.config)
    if live is None:
        return adapter
    updates = tuple(_renamed(update, live) for update in adapter.updates)
    for update in updates:
        # A head of its own (a classifier's) may be of another class of the same model.
        if "." in update.module and not live.has_module(update.module):
            tensor = next(iter(update.parts.values())).tensor
            raise MismatchError(
                f"{tensor!r} in {adapter.folder} has no place in the model of {base.folder}: PEFT "
                "would leave it out",
                "give the base model that the adapter was trained on, or save the adapter again "
                "with the transformers and PEFT of today",
            )
    routed = frozenset(live.module(module) for module in adapter.routed)
    return replace(adapter, updates=updates, routed=routed)


def _renamed(update: ParameterUpdate, live: LiveNames) -> ParameterUpdate:
    module = live.module(update.module)
    if module == update.module:
        return update
    leaf = update.parameter.removeprefix(update.module)
    wrapper = update.wrapper
    if wrapper is not None:
        inside = update.module.removeprefix(wrapper)
        wrapper = module.removesuffix(inside)
    parts = {kind: _part(part, module) for kind, part in update.parts.items()}
    return replace(update, module=module, parameter=f"{module}{leaf}", parts=parts, wrapper=wrapper)


def _part(part: AdapterTensor, module: str) -> AdapterTensor:
    tail = part.name.removeprefix(f"{PREFIX}{part.module}")
    return replace(part, module=module, name=f"{PREFIX}{module}{tail}")
