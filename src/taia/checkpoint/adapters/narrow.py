"""``adapter_config.json`` narrowed to what was kept: PEFT matches exactly that with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from taia.anatomy.label import number
from taia.checkpoint.adapters.match import (
    by_ending,
    excluded,
    matching,
    targets,
    with_shared,
)
from taia.checkpoint.adapters.patterns import check_patterns
from taia.checkpoint.adapters.place import Placed
from taia.checkpoint.adapters.read import SIDES, Adapter
from taia.checkpoint.folders import ADAPTER_CONFIG
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.spelling import newer
from taia.errors import AdapterError

#: PEFT's own word for "no module": it loads an adapter that consists of whole modules only.
NO_MODULES: Final = "dummy-target-modules"

#: What MoLoRA's config has and LoRA's has not.
_MOLORA_KEYS: Final = (
    "expert_modules",
    "num_experts",
    "top_k",
    "shared_expert",
    "routing",
    "router_aux_loss_coef",
)


@dataclass(frozen=True, slots=True)
class Kept:
    """What remains of an adapter.

    Attributes:
        modules: Paths of the modules that keep a low-rank update of their weight, or experts.
        parameters: Names of the parameters that keep one through ``target_parameters``.
        wholes: Paths of the modules kept whole (``modules_to_save``).
        tokens: Paths of the embeddings that keep trained tokens.
        biases: Whether any trained bias remains.
        low_rank: Paths of the modules that keep a low-rank update.
        experts: Paths of the modules that keep MoLoRA's experts.
    """

    modules: frozenset[str]
    parameters: frozenset[str]
    wholes: frozenset[str]
    tokens: frozenset[str]
    biases: bool
    low_rank: frozenset[str] = frozenset()
    experts: frozenset[str] = frozenset()


def narrowed(
    adapter: Adapter, placed: tuple[Placed, ...], base: Checkpoint | None
) -> dict[str, Any]:
    """The config for what is kept of an adapter's updates, of which all are given.

    Raises:
        AdapterError: If one config cannot say it.
    """
    before = _kept(placed, lambda item: True)
    after = _kept(placed, lambda item: not item.dropped)
    freed = {
        module
        for item in placed
        if item.update.wrapper is not None and item.update.wrapper not in after.wholes
        for module in (item.update.wrapper, item.update.module)
    }
    rest = None if base is None else _rest(base, placed, after)
    check_patterns(adapter.config, rest or (), adapter.folder / ADAPTER_CONFIG)
    return narrow(adapter.config, before, after, freed, rest)


def _kept(placed: Iterable[Placed], select: Callable[[Placed], bool]) -> Kept:
    """The modules, parameters and so on of those updates that are selected."""
    groups: dict[str, set[str]] = defaultdict(set)
    for item in placed:
        if not select(item):
            continue
        update = item.update
        if update.kind == "router":
            continue  # goes where its experts go
        if update.kind in SIDES:
            groups[update.kind].add(update.module)
            if update.through_parameter:
                groups["parameters"].add(update.parameter)
            else:
                groups["modules"].add(update.module)
        elif update.kind == "whole" and update.wrapper is not None:
            groups["wholes"].add(update.wrapper)
        else:
            groups[update.kind].add(update.module)
    return Kept(
        modules=frozenset(groups["modules"]),
        parameters=frozenset(groups["parameters"]),
        wholes=frozenset(groups["wholes"]),
        tokens=frozenset(groups["tokens"]),
        biases=bool(groups["bias"]),
        low_rank=frozenset(groups["low rank"]),
        experts=frozenset(groups["experts"]),
    )


def _rest(base: Checkpoint, placed: Iterable[Placed], after: Kept) -> Collection[str]:
    """Paths of the base's modules that get no low-rank update."""
    with_update = {
        item.update.module if item.base is None else item.base.name.rpartition(".")[0]
        for item in placed
        if item.update.module in after.modules
    }
    modules: set[str] = set()
    for name in base.tensors:
        parts = name.split(".")[:-1]
        modules |= {".".join(parts[:stop]) for stop in range(1, len(parts) + 1)}
    return modules - with_update


def narrow(
    config: Mapping[str, Any],
    before: Kept,
    after: Kept,
    freed: Collection[str],
    base_rest: Collection[str] | None,
) -> dict[str, Any]:
    """The config for what was kept.

    Args:
        config: The adapter's config.
        before: What the adapter has.
        after: What is kept of it.
        freed: Paths of modules that were kept whole before and no longer are.
        base_rest: Paths of the base model's modules other than those in ``after.modules``,
            ``None`` when the base is not at hand. Their first parts may be missing (checkpoints
            leave out prefixes): endings are what counts.

    Returns:
        A config with the same keys. PEFT matches exactly ``after`` with it.
    """
    new = dict(config)
    if after.modules != before.modules or any(_would_target(config, m) for m in freed):
        dropped = (before.modules - after.modules) | set(freed)
        new["target_modules"] = _target_modules(config, after.modules, dropped, base_rest)
        new |= {key: None for key in ("layers_to_transform", "layers_pattern") if key in new}
    if not after.modules and not after.parameters:
        new["target_modules"] = NO_MODULES
    if after.parameters != before.parameters:
        new["target_parameters"] = _narrow_list(
            config["target_parameters"], before.parameters, after.parameters, "."
        )
    for key in ("rank_pattern", "alpha_pattern"):
        if new.get(key):
            new[key] = matching(new[key], after.modules | after.parameters)
    if after.wholes != before.wholes:
        # PEFT wraps every module whose path ends with an entry, without asking for a dot before it.
        new["modules_to_save"] = _narrow_list(
            config["modules_to_save"], before.wholes, after.wholes, ""
        )
    if after.tokens != before.tokens:
        new["trainable_token_indices"] = _tokens(config, after.tokens)
    if config.get("bias", "none") != "none" and not after.biases:
        new["bias"] = "none"
    return _without_experts(new, before, after) if before.experts else new


def _would_target(config: Mapping[str, Any], module: str) -> bool:
    # PEFT leaves modules alone that it saves whole. Once they no longer are, it may want them.
    return targets({**config, "modules_to_save": None}, module)


def _target_modules(
    config: Mapping[str, Any],
    kept: Collection[str],
    dropped: Collection[str],
    base_rest: Collection[str] | None,
) -> list[str]:
    """The shortest endings that PEFT matches to the kept modules only, else full names.

    A regular expression is never written: for mixtures of experts PEFT 0.21 reduces one to the last
    parts of the names it matches, which widens it to other layers.
    """
    rest = [m for m in (*dropped, *(base_rest or ())) if m in dropped or not excluded(config, m)]
    taken = {ending for module in rest for ending in _endings(module)}
    whole_universe = base_rest is not None
    wanted = config.get("target_modules")
    listed = [] if wanted is None or isinstance(wanted, str) else list(wanted)
    if config.get("layers_to_transform") not in (None, []):
        listed = []

    def shortest(module: str) -> str:
        for ending in _endings(module):
            if any(number(part) is not None for part in ending.split(".")):
                break
            # Without the base, an ending is safe where the adapter already matched all that has it.
            safe = whole_universe or any(f".{ending}".endswith(f".{known}") for known in listed)
            if safe and ending not in taken:
                return ending
        return module

    found = {shortest(module) for module in kept}
    if base_rest is None:
        # The live model may call it as newer versions do; what matches nothing does no harm.
        found |= {
            newer(f"{m}.").removesuffix(".") for m in found if m.startswith("language_model.")
        }
    return sorted(found)


def _endings(module: str) -> list[str]:
    """``"a.b.c"`` → ``["c", "b.c", "a.b.c"]``."""
    parts = module.split(".")
    return [".".join(parts[i:]) for i in range(len(parts) - 1, -1, -1)]


def _narrow_list(
    entries: Iterable[str], before: Collection[str], after: Collection[str], joint: str
) -> list[str] | None:
    """Keeps entries all of whose matches are kept; writes the others' kept matches out in full."""
    new: list[str] = []
    for entry in entries:
        matches = [m for m in before if m == entry or m.endswith(joint + entry)]
        kept = [m for m in matches if m in after]
        new += [entry] if len(kept) == len(matches) else sorted(kept)
    return list(dict.fromkeys(new)) or None


def _tokens(config: Mapping[str, Any], kept: Collection[str]) -> object:
    indices = config["trainable_token_indices"]
    if not isinstance(indices, dict):
        return indices if kept else None
    new = {m: i for m, i in indices.items() if any(f".{k}".endswith(f".{m}") for k in kept)}
    return new or None


def _without_experts(config: dict[str, Any], before: Kept, after: Kept) -> dict[str, Any]:
    """MoLoRA's part of a config that is narrowed as a LoRA's: without experts it is a LoRA's.

    Raises:
        AdapterError: If shared experts are kept beside some experts and not beside others.
    """
    alone = (before.experts - after.experts) & after.low_rank
    new = with_shared(config, sorted(alone), after.modules - alone) if alone else dict(config)
    if not after.experts:
        return {k: v for k, v in new.items() if k not in _MOLORA_KEYS} | {"peft_type": "LORA"}
    if after.experts != before.experts:
        new["expert_modules"] = sorted(
            by_ending(dict.fromkeys(after.experts, 1.0), after.modules - after.experts)
        )
    shared = after.experts & after.low_rank
    if not shared:
        new["shared_expert"] = 0
    elif shared != after.experts:
        raise AdapterError(
            f"the selection keeps the experts of {min(after.experts - shared)!r} without their "
            f"shared expert, and those of {min(shared)!r} with it, which one config cannot say",
            "keep the shared experts of all modules whose experts are kept, or of none",
        )
    return new
