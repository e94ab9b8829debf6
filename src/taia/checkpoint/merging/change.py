"""Which tensors of the base an adapter's updates change, and the changed tensors' values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from taia.checkpoint.adapters.place import Finder, Placed, Placement, experts
from taia.checkpoint.adapters.plan import is_nothing, token_rows
from taia.checkpoint.adapters.read import SIDES, Adapter
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.merging.place import Target, unstacked
from taia.checkpoint.merging.tied import Untied
from taia.errors import AdapterError, MismatchError
from taia.selection import Alpha

if TYPE_CHECKING:
    import torch

_FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True, slots=True)
class Change:
    """An update, a tensor of the base that it changes, and how much of it is kept.

    Attributes:
        placed: The update.
        target: The tensor, and which slice of the update is for it.
        alpha: How much of it.
        bias: Whether it is the update's own bias (``lora_bias``) that is added.
    """

    placed: Placed
    target: Target
    alpha: Alpha
    bias: bool = False


def changes_of(
    base: Checkpoint, adapter: Adapter, placement: Placement, untied: Untied | None
) -> dict[str, tuple[Change, ...]]:
    """Name of each changed tensor of the output → what changes it, in order.

    Raises:
        AdapterError: If a tensor is not of a dtype to calculate with.
        MismatchError: If the base lacks a tensor that the adapter changes.
    """
    changes: dict[str, list[Change]] = defaultdict(list)
    finder = Finder(base.tensors)
    on_head = () if untied is None else untied.updates
    for item in placement.items:
        if untied is not None and item in on_head:
            changes[untied.head].append(Change(item, Target(untied.source), item.alpha))
            continue
        for target in _targets(base, item):
            # A base stored expert by expert has an α for each; else it is the update's own.
            alpha = placement.alphas[target.entry.name] if item.base is None else item.alpha
            if not is_nothing(alpha):
                changes[target.entry.name].append(Change(item, target, alpha))
        if "lora_B_bias" in item.update.parts and not is_nothing(item.alpha):
            name = finder.find(f"{item.update.module}.bias")
            if name is None:
                raise AdapterError(
                    f"the update of {item.update.module!r} has a bias (lora_bias), and the base's "
                    "module has none to add it to",
                    "compose without --merge",
                )
            changes[name].append(Change(item, Target(base.tensors[name]), item.alpha, bias=True))
    for some in changes.values():
        _check_dtype(some[0].target.entry)
    return {name: tuple(some) for name, some in changes.items()}


def _targets(base: Checkpoint, item: Placed) -> tuple[Target, ...]:
    if item.base is not None:
        return (Target(item.base),)
    targets = unstacked(item.update.parameter, base.tensors)
    if not targets and not is_nothing(item.alpha):
        raise MismatchError(
            f"the adapter changes {item.update.parameter!r}, for which {base.folder} has no tensor",
            "give the base model that the adapter was trained on; if it is, compose without "
            "--merge, or merge with PEFT and compose the checkpoints",
        )
    return targets


def _check_dtype(entry: Entry) -> None:
    if entry.dtype not in _FLOATS:
        raise AdapterError(
            f"{entry.name!r} in {entry.file} is {entry.dtype}: merging into it would round the "
            "update away",
            "compose without --merge, or give the unquantised base model",
        )


def merged(adapter: Adapter, changes: Iterable[Change]) -> bytes:
    """A changed tensor's bytes, in the base's dtype."""
    from taia.checkpoint.adapters.fold import dump

    base, weight = changed(adapter, changes)
    return dump(weight.to(base.dtype))


def changed(adapter: Adapter, changes: Iterable[Change]) -> tuple[torch.Tensor, torch.Tensor]:
    """A tensor as the base has it, and changed: not yet rounded to the base's dtype."""
    import torch

    from taia.checkpoint.adapters.fold import load

    changes = tuple(changes)
    base = load(changes[0].target.entry)
    weight = base.to(torch.float64 if base.dtype == torch.float64 else torch.float32)
    for change in changes:
        weight = _apply(adapter, change, weight)
    return base, weight


def _apply(adapter: Adapter, change: Change, weight: torch.Tensor) -> torch.Tensor:
    from taia.checkpoint.adapters.fold import load
    from taia.checkpoint.merging.arithmetic import mix

    update = change.placed.update
    parts = {kind: adapter.entries[part.tensor] for kind, part in update.parts.items()}
    if change.bias:
        tuned = weight + load(parts["lora_B_bias"]).to(weight.dtype) * adapter.scaling(update)
    elif update.kind == "tokens":
        tuned = weight.clone()
        tuned[token_rows(adapter, update, change.target.entry)] = load(parts["tokens"]).to(
            weight.dtype
        )
    elif update.kind in ("whole", "bias"):
        tuned = load(parts["whole"]).to(weight.dtype)
    else:
        tuned = _low_rank(adapter, change, weight)
    return mix(weight, tuned, change.alpha)


def _low_rank(adapter: Adapter, change: Change, weight: torch.Tensor) -> torch.Tensor:
    import torch

    from taia.checkpoint.adapters.fold import load
    from taia.checkpoint.merging.arithmetic import LowRank, expert

    update, target = change.placed.update, change.target
    a, b = (load(adapter.entries[update.parts[side].tensor]) for side in SIDES[update.kind])
    magnitude = update.parts.get("magnitude")
    count = experts(adapter, update)
    whole = LowRank(
        a,
        b,
        adapter.scaling(update),
        None if magnitude is None else load(adapter.entries[magnitude.tensor]),
        change.placed.transposed,
    )
    if count == 1 and target.rows is None:
        return whole.tuned(weight)
    pick = range(count) if target.expert is None else [target.expert]
    rows = slice(None) if target.rows is None else slice(*target.rows)
    stacked = weight if target.expert is None else weight.unsqueeze(0)
    tuned = []
    for slot, index in enumerate(pick):
        one = LowRank(
            expert(a, "A", index, count),
            expert(b, "B", index, count)[rows],
            whole.scaling,
            None,
            whole.inputs_first,
        )
        tuned.append(one.tuned(stacked[slot]))
    return torch.stack(tuned) if target.expert is None else tuned[0]
