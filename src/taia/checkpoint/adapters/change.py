"""Which tensors of the base an adapter's updates change, and the changed tensors' values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from taia.checkpoint.adapters.find import Finder, Target, token_rows, unstacked
from taia.checkpoint.adapters.place import Placed, Placement, experts, is_nothing
from taia.checkpoint.adapters.read import SIDES, Adapter
from taia.checkpoint.adapters.tied import Untied
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.sources import Sources
from taia.checkpoint.steps import FLOATS
from taia.errors import AdapterError, MismatchError
from taia.selection import Alpha

if TYPE_CHECKING:
    import torch

#: Kinds of updates of one parameter in the order in which PEFT applies them: what replaces the
#: parameter lies innermost, whatever the file's order.
_ORDER: Final = ("whole", "bias", "low rank", "embedding", "tokens")


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

    @property
    def order(self) -> int:
        """Its place among the changes of one tensor."""
        return len(_ORDER) if self.bias else _ORDER.index(self.placed.update.kind)


def changes_of(
    base: Checkpoint, adapter: Adapter, placement: Placement, untied: Untied | None
) -> dict[str, tuple[Change, ...]]:
    """Name of each changed tensor of the output → what changes it, in PEFT's order.

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
        if "lora_B_bias" in item.update.parts and not item.dropped:
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
    return {
        name: tuple(sorted(some, key=lambda change: change.order)) for name, some in changes.items()
    }


def changed(
    adapter: Adapter, changes: Iterable[Change], sources: Sources
) -> tuple[torch.Tensor, torch.Tensor]:
    """A tensor as the base has it, and changed: not yet rounded to the base's dtype."""
    from taia.checkpoint.arithmetic import load, mix, wide

    changes = tuple(changes)
    base = load(changes[0].target.entry, sources)
    weight = base.to(wide(base.dtype))
    for alpha, together in groupby(changes, key=lambda change: change.alpha):
        tuned = weight
        for change in together:
            tuned = _apply(adapter, change, tuned, sources)
        weight = mix(weight, tuned, alpha)
    return base, weight


def merged(adapter: Adapter, changes: Iterable[Change], sources: Sources) -> Iterator[memoryview]:
    """A changed tensor's bytes, rounded once to the base's dtype."""
    from taia.checkpoint.arithmetic import dump

    base, weight = changed(adapter, changes, sources)
    yield dump(weight, base.dtype)


def _apply(
    adapter: Adapter, change: Change, weight: torch.Tensor, sources: Sources
) -> torch.Tensor:
    """A weight with a whole update."""
    from taia.checkpoint.arithmetic import load

    update = change.placed.update
    parts = {kind: adapter.entries[part.tensor] for kind, part in update.parts.items()}
    if change.bias:
        bias = load(parts["lora_B_bias"], sources).to(weight.dtype)
        return weight + bias * adapter.scaling(update)
    if update.kind == "tokens":
        tuned = weight.clone()
        rows = token_rows(adapter, update, change.target.entry)
        tuned[rows] = load(parts["tokens"], sources).to(weight.dtype)
        return tuned
    if update.kind in ("whole", "bias"):
        return load(parts["whole"], sources).to(weight.dtype)
    return _low_rank(adapter, change, weight, sources)


def _low_rank(
    adapter: Adapter, change: Change, weight: torch.Tensor, sources: Sources
) -> torch.Tensor:
    import torch

    from taia.checkpoint.arithmetic import LowRank, factors, load

    update, target = change.placed.update, change.target
    a, b = (
        load(adapter.entries[update.parts[side].tensor], sources) for side in SIDES[update.kind]
    )
    magnitude = update.parts.get("magnitude")
    norms = None if magnitude is None else load(adapter.entries[magnitude.tensor], sources)
    count = experts(adapter, update)
    rows = slice(None) if target.rows is None else slice(*target.rows)
    each = [
        LowRank(one, other[rows], adapter.scaling(update), norms, change.placed.transposed)
        for one, other in factors(a, b, count)
    ]
    if count == 1 and target.expert is None:
        return each[0].tuned(weight)
    if target.expert is not None:
        return each[target.expert].tuned(weight)
    return torch.stack([one.tuned(matrix) for one, matrix in zip(each, weight, strict=True)])


def _targets(base: Checkpoint, item: Placed) -> tuple[Target, ...]:
    if item.base is not None:
        return (Target(item.base),)
    targets = unstacked(item.update.parameter, base.tensors)
    if not targets and not item.dropped:
        raise MismatchError(
            f"the adapter changes {item.update.parameter!r}, for which {base.folder} has no tensor",
            "give the base model that the adapter was trained on; if it is, compose without "
            "--merge, or merge with PEFT and compose the checkpoints",
        )
    return targets


def taken(changes: Iterable[Change]) -> Alpha | None:
    """How much of a tensor is the tuned model's; ``None`` where that is no single α."""
    alphas = {change.alpha for change in changes}
    if not alphas:
        return 0.0
    return alphas.pop() if len(alphas) == 1 else None


def _check_dtype(entry: Entry) -> None:
    if entry.dtype not in FLOATS:
        raise AdapterError(
            f"{entry.name!r} in {entry.file} is {entry.dtype}: merging into it would round the "
            "update away",
            "compose without --merge, or give the unquantised base model",
        )
