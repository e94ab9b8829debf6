"""An adapter folder as values: its config, its tensors, and which parameter each update changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from taia.anatomy.fused import REGISTERED
from taia.checkpoint.adapters.config import read_adapter_config
from taia.checkpoint.adapters.match import (
    parameters_of,
    rank_and_alpha,
    scaling,
    targets,
    wrapper_of,
)
from taia.checkpoint.adapters.names import BESIDE, LOW_RANK, PEFT_TYPE, AdapterTensor, parts_of
from taia.checkpoint.adapters.patterns import check_patterns
from taia.checkpoint.folders import ADAPTER_CONFIG
from taia.checkpoint.header import Entry, Shard, read_shard
from taia.checkpoint.reading import is_file
from taia.errors import AdapterError

FILE: Final = "adapter_model.safetensors"

#: An update's tensors by their kind.
_Parts: TypeAlias = Mapping[str, AdapterTensor]

#: Kind of an update that is a product → its two sides.
SIDES: Final[Mapping[str, tuple[str, str]]] = {
    "low rank": ("lora_A", "lora_B"),
    "embedding": ("embedding_A", "embedding_B"),
    "experts": ("experts_A", "experts_B"),
}

#: Kind of a part → the kind of the update that it belongs to, where several share one.
_OF: Final = {
    **dict.fromkeys(LOW_RANK, "low rank"),
    "experts_A": "experts",
    "experts_B": "experts",
    "router": "router",
}


@dataclass(frozen=True, slots=True)
class ParameterUpdate:
    """What an adapter does to one parameter of the base model.

    Attributes:
        parameter: The parameter's name in the live base model.
        module: Path of the module that holds it.
        kind: ``"low rank"``, ``"embedding"`` (low rank, of an embedding), ``"experts"`` and
            ``"router"`` (MoLoRA's), ``"tokens"`` (some rows replaced), ``"whole"`` (replaced),
            ``"bias"`` (replaced, by PEFT's ``bias`` option), or ``"unused"`` (saved beside it).
        parts: Its tensors by :attr:`AdapterTensor.kind`.
        through_parameter: Whether ``target_parameters`` put it there.
        wrapper: For ``"whole"``: the module listed in ``modules_to_save``, ``None`` when it is
            saved without being listed (a resized embedding, what lies below an update).
    """

    parameter: str
    module: str
    kind: str
    parts: _Parts
    through_parameter: bool = False
    wrapper: str | None = None


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter folder.

    Attributes:
        folder: Where it lies.
        config: ``adapter_config.json``.
        shards: ``adapter_model.safetensors`` alone.
        entries: Tensor name → where its bytes are, in the file's order.
        updates: What it does, parameter by parameter.
        routed: Paths of the modules with a router and experts; none but for MoLoRA.
    """

    folder: Path
    config: Mapping[str, Any]
    shards: tuple[Shard, ...]
    entries: Mapping[str, Entry]
    updates: tuple[ParameterUpdate, ...]
    routed: frozenset[str]

    def shape(self, part: AdapterTensor) -> tuple[int, ...]:
        """Sizes of one of its tensors."""
        return self.entries[part.tensor].shape

    def scaling(self, update: ParameterUpdate) -> float:
        """What PEFT multiplies B·A with."""
        return scaling(self.config, _sized(update), self._times(update))

    def rank(self, update: ParameterUpdate) -> int:
        """The rank of a low-rank update, per expert where it has experts."""
        return self._times(update) * rank_and_alpha(self.config, _sized(update))[0]

    def _times(self, update: ParameterUpdate) -> int:
        """How many times the config's rank it has: a shared expert has that of several."""
        shared = update.kind == "low rank" and update.module in self.routed
        return self.config.get("shared_expert") or 0 if shared else 1


def _sized(update: ParameterUpdate) -> str:
    """What the config's patterns are matched against."""
    return update.parameter if update.through_parameter else update.module


def read_adapter(folder: Path) -> Adapter:
    """Reads an adapter's config and header; no tensor is loaded.

    Raises:
        AdapterError: If something is missing or taia cannot filter it faithfully.
        CheckpointError: If the safetensors file is damaged.
    """
    config = read_adapter_config(folder)
    path = folder / FILE
    if not is_file(path):
        if (folder / "adapter_model.bin").exists():
            raise AdapterError(
                f"{folder} holds adapter_model.bin, a pickle, which taia does not open",
                "load it with PEFT and call save_pretrained(folder, safe_serialization=True)",
            )
        raise AdapterError(f"{folder} has no {FILE}", "give a folder that PEFT saved")
    shard = read_shard(path)
    entries = {entry.name: entry for entry in shard.entries}
    if not entries:
        raise AdapterError(f"{path} holds no tensors", "save the adapter again")
    parts = tuple(parts_of(entries))
    config = _with_targets(config, parts)
    check_patterns(
        config,
        (n for part in parts for n in (part.module, part.parameter)),
        folder / ADAPTER_CONFIG,
    )
    updates = _updates(config, parts)
    routed = frozenset(update.module for update in updates if update.kind == "experts")
    adapter = Adapter(folder, config, (shard,), entries, updates, routed)
    _check_shapes(adapter)
    _check_experts(adapter)
    return adapter


def _with_targets(config: dict[str, Any], parts: Iterable[AdapterTensor]) -> dict[str, Any]:
    """The config, with the modules that have an update named where it names none.

    PEFT would take the architecture's usual ones, and leave the others' updates out unsaid.
    """
    if config.get("target_modules") or config.get("target_parameters"):
        return config
    modules = sorted({part.module for part in parts if part.kind in LOW_RANK})
    return config | {"target_modules": modules} if modules else config


def _updates(
    config: Mapping[str, Any], parts: Iterable[AdapterTensor]
) -> tuple[ParameterUpdate, ...]:
    groups: dict[tuple[str, str, int], dict[str, AdapterTensor]] = defaultdict(dict)
    for part in parts:
        kind = _OF.get(part.kind, f"{part.kind} {part.leaf}")
        if kind in ("experts", "router") and config["peft_type"] != PEFT_TYPE:
            raise AdapterError(
                f"adapter tensor {part.tensor!r} is MoLoRA's, and adapter_config.json says "
                f"{config['peft_type']}",
                "the config and the tensors are not of the same adapter; save it again",
            )
        group = groups[part.module, part.tensor if part.kind == "unused" else kind, part.depth]
        if part.kind in group:
            raise AdapterError(
                f"adapter tensors {group[part.kind].tensor!r} and {part.tensor!r} say the same",
                "save the adapter again with PEFT",
            )
        group[part.kind] = part
    depths: dict[str, int] = defaultdict(int)
    for module, kind, depth in groups:
        if kind == "low rank":
            depths[module] = max(depths[module], depth + 1)
    return tuple(
        _low_rank(config, module, group, depth, depths[module])
        if kind == "low rank"
        else ParameterUpdate(f"{module}.weight", module, kind, group)
        if kind in ("experts", "router")
        else _replacement(config, module, group)
        for (module, kind, depth), group in groups.items()
    )


def _replacement(config: Mapping[str, Any], module: str, group: _Parts) -> ParameterUpdate:
    ((kind, part),) = group.items()
    if kind in ("tokens", "unused"):
        return ParameterUpdate(part.parameter, module, kind, group)
    wrapper = wrapper_of(config, module)
    if wrapper is None and part.leaf == "bias":
        return ParameterUpdate(part.parameter, module, "bias", group)
    return ParameterUpdate(part.parameter, module, "whole", group, wrapper=wrapper)


def _low_rank(
    config: Mapping[str, Any], module: str, group: _Parts, depth: int, wrappers: int
) -> ParameterUpdate:
    kind = "embedding" if "embedding_A" in group else "low rank"
    for side in SIDES[kind]:
        if side not in group:
            some = next(iter(group.values())).tensor
            raise AdapterError(
                f"adapter tensor {some!r} has no {side.replace('embedding', 'lora_embedding')} "
                "beside it",
                "the adapter is incomplete; save it again",
            )
    if wrappers == 1 and targets(config, module):
        return ParameterUpdate(f"{module}.weight", module, kind, group)
    names = parameters_of(config, module, wrappers)
    if not names and wrappers == 1:
        _check_named(config, module, group)
        return ParameterUpdate(f"{module}.weight", module, kind, group)
    if len(names) != wrappers or (wrappers > 1 and any(n not in REGISTERED for n in names)):
        raise AdapterError(
            f"cannot tell which parameters the {wrappers} update(s) of {module!r} belong to: "
            f"target_parameters names {', '.join(names) or 'none'}",
            "list in target_parameters exactly the parameters that were trained",
        )
    names.sort(key=lambda n: REGISTERED.index(n) if n in REGISTERED else 0)
    leaf = names[wrappers - 1 - depth]
    group = {k: replace(part, leaf=leaf) for k, part in group.items()}
    return ParameterUpdate(f"{module}.{leaf}", module, kind, group, through_parameter=True)


def _check_named(config: Mapping[str, Any], module: str, group: _Parts) -> None:
    """Refuse an update that PEFT leaves out without a word, as the config does not name it.

    Regular expressions may be of the live model's names where the file's are older ones; what is
    tied to a module that the config names needs no name.
    """
    if isinstance(config.get("target_modules"), list) and not config.get("ensure_weight_tying"):
        raise AdapterError(
            f"the file holds an update of {module!r} ({next(iter(group.values())).tensor}), which "
            f"{ADAPTER_CONFIG} does not name: PEFT would leave it out",
            "name it in target_modules if it belongs to the adapter; else take its tensors out",
        )


def _check_shapes(adapter: Adapter) -> None:
    for update in adapter.updates:
        if update.kind not in ("low rank", "embedding"):
            continue
        a, b = (update.parts[side] for side in SIDES[update.kind])
        shape_a, shape_b = adapter.shape(a), adapter.shape(b)
        if len(shape_a) != 2 or len(shape_b) != 2:
            raise AdapterError(
                f"{a.tensor!r} is {list(shape_a)} and {b.tensor!r} is {list(shape_b)}; taia reads "
                "updates of matrices (a one-dimensional one was saved without gathering its "
                "shards)",
                "save the adapter again, gathered; or merge it with PEFT and compose checkpoints",
            )
        rank = adapter.rank(update)
        if shape_a[0] != shape_b[1] or shape_a[0] % rank:
            raise AdapterError(
                f"{a.tensor!r} is {list(shape_a)} and {b.tensor!r} is {list(shape_b)}, but "
                f"adapter_config.json says rank {rank}",
                "the config and the tensors are not of the same adapter; save it again",
            )


def _check_experts(adapter: Adapter) -> None:
    """Checks routers and experts against each other and the config.

    Raises:
        AdapterError: If one of them is missing or does not fit.
    """
    parts: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for update in adapter.updates:
        if update.kind in BESIDE:
            for kind, part in update.parts.items():
                parts[update.module][kind] = adapter.shape(part)
    count = adapter.config.get("num_experts")
    for module, shapes in parts.items():
        rank = rank_and_alpha(adapter.config, module)[0]
        missing = [kind for kind in ("router", "experts_A", "experts_B") if kind not in shapes]
        if missing:
            raise AdapterError(
                f"{module!r} has no {missing[0]} in {adapter.folder}",
                "the adapter is incomplete; save it again",
            )
        router, a, b = shapes["router"], shapes["experts_A"], shapes["experts_B"]
        fits = len(a) == len(b) == 3 and a[:2] == b[:2] == (count, rank)
        if not fits or router != (count, a[2]):
            raise AdapterError(
                f"the router of {module!r} is {list(router)} and its experts are {list(a)} and "
                f"{list(b)}, but adapter_config.json says {count} experts of rank {rank}",
                "the config and the tensors are not of the same adapter; save it again",
            )
