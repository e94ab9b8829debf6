"""Which tensors of a base checkpoint an adapter's update changes.

Usually one, by name. transformers 5 stacks experts that older checkpoints keep one by one; an
update of the stack then changes many tensors, each by its slice of the update.

PEFT targets modules by the live model's names. Checkpoints and older adapters of composite models
(an image encoder beside a language model) have others; transformers renames them on loading by a
map of its own, which is asked here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from taia.anatomy.fused import FUSED_EXPERTS
from taia.checkpoint.adapters.names import PREFIX, Part
from taia.checkpoint.adapters.read import Adapter, Update
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.spelling import fused, newer
from taia.errors import AdapterError

_Rename = Callable[[str], str]


class Finder:
    """Finds live parameters among a checkpoint's names, through the spellings both may have."""

    def __init__(self, base: Checkpoint) -> None:
        names = tuple(base.tensors)
        self._modules: set[str] | None = None
        self._names = {newer(name): name for name in names} | {name: name for name in names}
        rename = _live_name(base.config)
        self._names |= {rename(name): name for name in names}

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
    while all(f"{stem}.{expert}.{name}.weight" in newest for name in FUSED_EXPERTS[kind]):
        row = 0
        for name in FUSED_EXPERTS[kind]:
            entry = newest[f"{stem}.{expert}.{name}.weight"]
            found.append(Target(entry, expert, (row, row + entry.shape[0])))
            row += entry.shape[0]
        expert += 1
    return tuple(found)


def token_rows(adapter: Adapter, update: Update, vocabulary: int) -> list[int]:
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
    """An adapter whose updates go by the live model's names."""
    rename = _live_name(base.config)
    updates = tuple(_renamed(update, rename) for update in adapter.updates)
    routed = frozenset(_module(module, rename) for module in adapter.routed)
    return replace(adapter, updates=updates, routed=routed)


def _live_name(config: Mapping[str, Any] | None) -> _Rename:
    """What gives a live parameter's name, from its name in a file.

    Names stay as they are where the model is not composite, the config does not say which
    architecture it is, or transformers does not know that or is not installed.
    """
    if not config or not isinstance(config.get("text_config"), Mapping):
        return _same
    return _asked(json.dumps(config, sort_keys=True)) if config.get("architectures") else _same


def _same(name: str) -> str:
    return name


@lru_cache(maxsize=4)
def _asked(text: str) -> _Rename:
    try:
        import torch
        import transformers
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming, rename_source_key
    except ImportError:
        return _same
    config = json.loads(text)
    kind: Any = getattr(transformers, str(config["architectures"][0]), None)
    try:
        with torch.device("meta"):
            model = kind._from_config(transformers.AutoConfig.for_model(**config))
    except Exception:
        return _same
    known = model.state_dict()
    renamings = [
        each for each in get_model_conversion_mapping(model) if isinstance(each, WeightRenaming)
    ]
    prefix = model.base_model_prefix

    def rename(name: str) -> str:
        if name in known:
            return name
        found, _ = rename_source_key(name, renamings, [], prefix, known)
        return str(found)

    return rename


def _module(module: str, rename: _Rename) -> str:
    return rename(f"{module}.weight").removesuffix(".weight")


def _renamed(update: Update, rename: _Rename) -> Update:
    module = _module(update.module, rename)
    if module == update.module:
        return update
    leaf = update.parameter.removeprefix(update.module)
    wrapper = update.wrapper
    if wrapper is not None:
        inside = update.module.removeprefix(wrapper)
        wrapper = module.removesuffix(inside)
    parts = {kind: _part(part, module) for kind, part in update.parts.items()}
    return replace(update, module=module, parameter=f"{module}{leaf}", parts=parts, wrapper=wrapper)


def _part(part: Part, module: str) -> Part:
    tail = part.name.removeprefix(f"{PREFIX}{part.module}")
    return replace(part, module=module, name=f"{PREFIX}{module}{tail}")
