"""Which tensors of the base an adapter's updates change, and the changed tensors' values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from taia.checkpoint.adapters.factors import factored, on_factors
from taia.checkpoint.adapters.find import Finder, TargetSlice, token_rows, unstacked
from taia.checkpoint.adapters.method import Work
from taia.checkpoint.adapters.place import Placed, Placement
from taia.checkpoint.adapters.read import SIDES, Adapter
from taia.checkpoint.adapters.tied import Untied
from taia.checkpoint.header import Entry
from taia.checkpoint.heads import Vocab
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.sources import FLOATS, Sources, runs_of
from taia.errors import AdapterError, MismatchError
from taia.selection import Alpha

if TYPE_CHECKING:
    from taia.checkpoint.adapters.low_rank import LowRank
    from taia.methods.given import Array

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
    target: TargetSlice
    alpha: Alpha
    bias: bool = False

    @property
    def order(self) -> int:
        """Its place among the changes of one tensor."""
        return len(_ORDER) if self.bias else _ORDER.index(self.placed.update.kind)


def changes_of(
    base: Checkpoint,
    adapter: Adapter,
    placement: Placement,
    untied: Untied | None,
    vocab: Vocab | None = None,
) -> dict[str, tuple[Change, ...]]:
    """Name of each changed tensor of the output → what changes it, in PEFT's order.

    Raises:
        AdapterError: If a tensor is not of a dtype to calculate with.
        MismatchError: If the base lacks a tensor that the adapter changes.
    """
    changes: dict[str, list[Change]] = defaultdict(list)
    finder = Finder(base)
    on_head = () if untied is None else untied.updates
    # Rows that the base does not have are kept whatever α.
    kept_whole = {
        item.update.parameter
        for item in placement.items
        if vocab == "tuned" and resized_to(adapter, item) is not None
    }
    for item in placement.items:
        if item.update.kind == "unused":
            continue
        if untied is not None and item in on_head:
            changes[untied.head].append(Change(item, TargetSlice(untied.source), item.alpha))
            continue
        for target in _targets(base, item):
            # A base stored expert by expert has an α for each; else it is the update's own.
            alpha = placement.alphas[target.entry.name] if item.base is None else item.alpha
            if alpha != 0.0 or item.update.parameter in kept_whole:
                changes[target.entry.name].append(Change(item, target, alpha))
        if "lora_B_bias" in item.update.parts and not item.dropped:
            name = finder.find(f"{item.update.module}.bias")
            if name is None:
                raise AdapterError(
                    f"the update of {item.update.module!r} has a bias (lora_bias), and the base's "
                    "module has none to add it to",
                    "compose without --merge",
                )
            changes[name].append(
                Change(item, TargetSlice(base.tensors[name]), item.alpha, bias=True)
            )
    for some in changes.values():
        _check_dtype(some[0].target.entry)
    return {
        name: tuple(sorted(some, key=lambda change: change.order)) for name, some in changes.items()
    }


def resized_to(adapter: Adapter, item: Placed, base: Entry | None = None) -> int | None:
    """How many rows a vocabulary has that an update replaces by a longer or shorter one.

    Args:
        adapter: The adapter.
        item: Its update.
        base: What it changes, where that is not the update's own (a tied head).
    """
    entry = base or item.base
    if item.update.kind != "whole" or entry is None:
        return None
    shape = adapter.shape(item.update.parts["whole"])
    return shape[0] if shape[:1] != entry.shape[:1] else None


def changed(
    adapter: Adapter,
    changes: Sequence[Change],
    sources: Sources,
    vocab: Vocab | None = None,
    method: Work | None = None,
) -> Array:
    """A changed tensor, not yet rounded to the base's dtype.

    Args:
        adapter: The adapter.
        changes: What changes the tensor, in order.
        sources: What to read with.
        vocab: Whose rows it has where the adapter resizes the vocabulary; rows that only one side
            has are that side's, whatever α.
        method: What a method does to it, ``None`` without one.
    """
    import numpy as np

    from taia.checkpoint.arithmetic import load, mix

    base = weight = load(changes[0].target.entry, sources)
    for alpha, together in groupby(changes, key=lambda change: change.alpha):
        tuned = weight
        several = tuple(together)
        for change in several:
            tuned = _apply(adapter, change, tuned, sources, method)
        if tuned.shape != weight.shape:
            rows = len(base if vocab == "base" else tuned)
            weight, tuned = _with_rows(weight, tuned, rows), _with_rows(tuned, weight, rows)
        if method is None or method.tensor is None:
            weight = mix(weight, tuned, alpha)
            continue
        update: Array = tuned - weight
        if all(_is_product(change) for change in several):
            # not what is left of it after it was added to the weight
            update = np.zeros_like(weight)
            for change in several:
                update = _apply(adapter, change, update, sources, method)
        weight = method.tensor.moved(weight, tuned, update, alpha, sources)
    return weight


def _is_product(change: Change) -> bool:
    return change.placed.update.kind in SIDES and "magnitude" not in change.placed.update.parts


def _with_rows(own: Array, other: Array, wants: int) -> Array:
    """So many rows: its own, and past their end the other side's."""
    import numpy as np

    return own if len(own) == wants else np.concatenate([own[:wants], other[len(own) : wants]])


def merged(
    adapter: Adapter,
    changes: tuple[Change, ...],
    vocab: Vocab | None,
    method: Work | None,
    sources: Sources,
) -> Iterator[memoryview]:
    """A changed tensor's bytes, rounded once to the base's dtype.

    A single low-rank update of a matrix is applied to some rows after others, in little memory.
    """
    from taia.checkpoint.arithmetic import CHUNK, Room, dump, mix, of_rows, read

    entry = changes[0].target.entry
    update = None
    if method is None or method.tensor is None:
        update = _one_product(adapter, changes, sources, method)
    if update is None:
        yield dump(changed(adapter, changes, sources, vocab, method), entry.dtype)
        return
    count, width = entry.shape
    step = max(1, CHUNK // width)
    (run,) = runs_of(entry, "base")
    room = Room()
    for first in range(0, count, step):
        last = min(first + step, count)
        rows = read((run.cut(first * width, last * width),), sources, room).reshape(-1, width)
        product = room.array("product", rows.shape, rows.dtype.type)
        tuned = update.rows(first, last).tuned(rows, product)
        yield dump(mix(rows, tuned, of_rows(changes[0].alpha, first, last)), entry.dtype, room)


def _one_product(
    adapter: Adapter, changes: Sequence[Change], sources: Sources, method: Work | None
) -> LowRank | None:
    """The only update of a matrix, where each row of the result depends on that row alone."""
    (change, *more) = changes
    if more or change.bias or change.placed.update.kind not in SIDES:
        return None
    if len(change.target.entry.shape) != 2 or not change.target.entry.nbytes:
        return None
    (update,) = _products(adapter, change, sources, method)
    return update if update.by_rows else None


def _apply(
    adapter: Adapter, change: Change, weight: Array, sources: Sources, method: Work | None
) -> Array:
    """A weight with a whole update."""
    import numpy as np

    from taia.checkpoint.arithmetic import load

    update = change.placed.update
    parts = {kind: adapter.entries[part.tensor] for kind, part in update.parts.items()}
    if change.bias:
        bias = load(parts["lora_B_bias"], sources).astype(weight.dtype)
        return weight + bias * adapter.scaling(update)
    if update.kind == "tokens":
        tuned = weight.copy()
        tuned[token_rows(adapter, update, len(tuned))] = load(parts["tokens"], sources)
        return tuned
    if update.kind in ("whole", "bias"):
        return load(parts["whole"], sources).astype(weight.dtype)
    each = _products(adapter, change, sources, method)
    if weight.ndim == 2:
        return each[0].tuned(weight)
    return np.stack([one.tuned(matrix) for one, matrix in zip(each, weight, strict=True)])


def _products(
    adapter: Adapter, change: Change, sources: Sources, method: Work | None
) -> tuple[LowRank, ...]:
    """A low-rank update of a matrix, or of each expert of a stack; of one, where that is asked."""
    target = change.target
    one = None
    if method is not None:
        one = on_factors(adapter, change.placed, method.formula)
    if target.expert is None:
        return factored(adapter, change.placed, sources, one, target.entry)
    # A base may keep experts apart that the adapter stacks: its stack is read once for all of them.
    key = adapter.folder, change.placed.update.parameter
    every = sources.remembered(key, lambda: factored(adapter, change.placed, sources, one))
    expert, rows = every[target.expert], target.rows
    return (expert if rows is None else replace(expert, b=expert.b[slice(*rows)]),)


def _targets(base: Checkpoint, item: Placed) -> tuple[TargetSlice, ...]:
    if item.base is not None:
        return (TargetSlice(item.base),)
    targets = unstacked(item.update.parameter, base)
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
