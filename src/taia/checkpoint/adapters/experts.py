"""MoLoRA on disk: LoRA with a router and experts on some modules.

Beside what LoRA has, a module with experts has ``lora_router`` and ``lora_experts``. Its LoRA, if
it has one, is the shared expert, whose rank is the config's ``shared_expert`` times the experts'.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from taia.anatomy.components import GROUPS
from taia.anatomy.labels import Label
from taia.checkpoint.adapters.match import rank_and_alpha
from taia.errors import AdapterError
from taia.selection import Alpha, Pieces

if TYPE_CHECKING:
    from taia.checkpoint.adapters.config import Kept
    from taia.checkpoint.adapters.place import Placed
    from taia.checkpoint.adapters.read import Adapter, Update

#: Its name in ``adapter_config.json``.
PEFT_TYPE: Final = "MOLORA"

#: What its config has and LoRA's has not.
KEYS: Final = (
    "expert_modules",
    "num_experts",
    "top_k",
    "shared_expert",
    "routing",
    "router_aux_loss_coef",
)

#: Kind of an update → what it is of, on a module of the feed-forward block that has experts.
_COMPONENTS: Final = {"low rank": "shared_experts", "experts": "experts", "router": "router"}

#: Kinds that change the same parameter as the module's LoRA, and need a name of their own.
_BESIDE: Final = frozenset({"experts", "router"})


def with_shared(
    config: Mapping[str, Any], modules: Iterable[str], others: Iterable[str] = ()
) -> dict[str, Any]:
    """The config with the shared experts of some modules written out as LoRAs of their rank.

    Args:
        config: A MoLoRA adapter's.
        modules: Paths of modules whose LoRA is a shared expert.
        others: Paths of the other adapted modules, which the patterns must not match.
    """
    multiple = config.get("shared_expert") or 0
    sizes = {module: rank_and_alpha(config, module) for module in modules}
    new = dict(config)
    for slot, key in enumerate(("rank_pattern", "alpha_pattern")):
        values = {module: multiple * size[slot] for module, size in sizes.items()}
        # PEFT takes the first that matches.
        ours, theirs = _by_ending(values, others), config.get(key) or {}
        new[key] = ours | {name: value for name, value in theirs.items() if name not in ours}
    return new


def _by_ending(values: Mapping[str, float], others: Iterable[str]) -> dict[str, float]:
    """One entry for modules whose paths end alike, where all of those have the same value."""
    endings: dict[str, set[float | None]] = defaultdict(set)
    for module in (*values, *others):
        endings[module.rpartition(".")[2]].add(values.get(module))
    return {
        ending if len(endings[ending]) == 1 else module: value
        for module, value in values.items()
        for ending in [module.rpartition(".")[2]]
    }


def name_of(kind: str, tensor: str) -> str:
    """What an update of a kind goes by, given the base's tensor that it changes."""
    return f"{tensor} ({kind})" if kind in _BESIDE else tensor


def relabelled(label: Label, kind: str) -> Label:
    """The label of an update of a kind, on a module that has experts.

    In the feed-forward block its LoRA is the shared expert. Elsewhere everything is labelled as the
    tensor that it changes.
    """
    component = label.component
    if GROUPS["mlp"](label):
        component = _COMPONENTS.get(kind, component)
    tensor = replace(label.tensor, name=name_of(kind, label.tensor.name))
    return replace(label, component=component, tensor=tensor)


def with_experts(
    adapter: Adapter, labels: Mapping[str, Label], tensor: Callable[[Update], str]
) -> dict[str, Label]:
    """Labels of what an adapter changes, by :func:`name_of`.

    Args:
        adapter: The adapter.
        labels: The labels of the tensors that it changes.
        tensor: The name there of the one that an update changes.
    """
    found = {}
    for update in adapter.updates:
        label = labels[tensor(update)]
        if update.module in adapter.routed:
            label = relabelled(label, update.kind)
        found[label.tensor.name] = label
    return found


def check_together(placed: Iterable[Placed]) -> None:
    """Refuses experts without their router, and a router without its experts.

    Raises:
        AdapterError: As :func:`check_pair` does.
    """
    alphas: dict[str, dict[str, Alpha]] = defaultdict(dict)
    for item in placed:
        if item.update.kind in _BESIDE:
            alphas[item.update.module][item.update.kind] = item.alpha
    for module, of in alphas.items():
        check_pair(module, of["experts"], of["router"])


def check_pair(module: str, experts: Alpha, router: Alpha) -> None:
    """Checks that a selection treats the experts and the router of a module as one.

    Raises:
        AdapterError: If it keeps one of the two, or a fraction of the router that is not its
            experts' own.
    """
    if (experts == 0.0) != (router == 0.0):
        kept, dropped = ("router", "experts") if experts == 0.0 else ("experts", "router")
        raise AdapterError(
            f"the selection keeps the {kept} of {module!r} and drops its {dropped}: one is "
            "nothing without the other",
            "select both (experts + router) or none of the two",
        )
    if router not in (1.0, experts):
        shown = "different for some rows" if isinstance(router, Pieces) else f"{router:g}"
        raise AdapterError(
            f"α of the router of {module!r} is {shown}: it chooses, and has no fraction",
            "give the fraction to its experts: experts and router are scaled as one by "
            "0.5*(experts + router)",
        )


def check_merge(placed: Iterable[Placed]) -> None:
    """Refuses to merge experts.

    Raises:
        AdapterError: If a selection keeps any.
    """
    for item in placed:
        if item.update.kind == "experts" and item.alpha != 0.0:
            raise AdapterError(
                f"the experts of {item.update.module!r} cannot be merged: which of them count "
                "depends on the token",
                "compose without --merge, or leave experts and router out of the selection, as "
                "--keep taia does",
            )


def narrowed(config: dict[str, Any], before: Kept, after: Kept) -> dict[str, Any]:
    """MoLoRA's part of a narrowed config: without experts it is a LoRA's.

    Args:
        config: The adapter's config, narrowed as a LoRA's.
        before: What the adapter has.
        after: What is kept of it.

    Raises:
        AdapterError: If shared experts are kept beside some experts and not beside others.
    """
    alone = (before.experts - after.experts) & after.low_rank
    new = with_shared(config, sorted(alone), after.modules - alone) if alone else dict(config)
    if not after.experts:
        return {k: v for k, v in new.items() if k not in KEYS} | {"peft_type": "LORA"}
    if after.experts != before.experts:
        new["expert_modules"] = _endings(after.experts, after.modules - after.experts)
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


def _endings(modules: Collection[str], others: Collection[str]) -> list[str]:
    return sorted(_by_ending(dict.fromkeys(modules, 1.0), others))


def check_shapes(adapter: Adapter) -> None:
    """Checks routers and experts against each other and the config.

    Raises:
        AdapterError: If one of them is missing or does not fit.
    """
    parts: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for update in adapter.updates:
        if update.kind in _BESIDE:
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
