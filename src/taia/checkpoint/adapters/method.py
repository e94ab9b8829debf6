"""A method on an adapter: what it works on there, and what it cannot do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from taia.checkpoint.adapters.factors import PRODUCTS, on_factors
from taia.checkpoint.adapters.find import unstacked
from taia.checkpoint.adapters.place import Placed
from taia.checkpoint.adapters.read import Adapter
from taia.checkpoint.adapters.shapes import low_rank_sizes
from taia.checkpoint.formula import Formula, TensorFormula
from taia.checkpoint.sources import FLOATS
from taia.errors import AdapterError
from taia.methods import METHODS


class Work(NamedTuple):
    """What a method does to one tensor that an adapter changes.

    Attributes:
        formula: The method.
        tensor: The method on the tensor's numbers, ``None`` where it works on factors, or keeps
            the tensor whole.
    """

    formula: Formula
    tensor: TensorFormula | None

    def calculates(self, adapter: Adapter, items: Iterable[Placed]) -> bool:
        """Whether anything of the tensor is the formula's, given the updates that change it."""
        if self.tensor is not None:
            return True
        return any(on_factors(adapter, item, self.formula) is not None for item in items)


def check_method(
    adapter: Adapter, placed: Iterable[Placed], formula: Formula, *, merge: bool
) -> tuple[str, ...]:
    """Refuse a method that means nothing on an adapter, or that cannot be one afterwards.

    Args:
        adapter: The adapter.
        placed: Its updates.
        formula: The method.
        merge: Whether a checkpoint comes out.

    Returns:
        What to say of what it does.

    Raises:
        AdapterError: If it is refused.
        MethodError: If what it needs of a tensor is not there.
    """
    method = formula.applied.method
    if method.not_on_adapters:
        raise AdapterError(
            f"{method.title} is for full fine-tuning, and {adapter.folder} is an adapter: "
            f"{method.not_on_adapters}",
            f"use another method, such as {_keeping_adapters()}",
        )
    if method.entries is not None and not merge:
        raise AdapterError(
            f"{method.title} treats every number of B·A by itself: what it makes of "
            f"{adapter.folder} has no low rank, and is no adapter",
            "add --merge, which writes a whole checkpoint; or use a method that leaves an adapter "
            f"one, such as {_keeping_adapters()}",
        )
    if method.spectrum is None:
        return () if method.scale is None else (formula.note({}, {}),)
    kept = [item for item in placed if not item.dropped]
    for item in kept:
        _check_update(adapter, item, formula)
    count = sum(on_factors(adapter, item, formula) is not None for item in kept)
    rest = sum(item.update.kind != "unused" for item in kept) - count
    told = f"{formula.applied} ({method.title}) is calculated for {count} low-rank updates"
    return (f"{told}; {rest} other updates are kept whole." if rest else f"{told}.",)


def _check_update(adapter: Adapter, item: Placed, formula: Formula) -> None:
    update, method = item.update, formula.applied.method
    if update.kind in ("experts", "router"):
        raise AdapterError(
            f"the experts of {update.module!r} are no one update, which {method.title} works on: "
            "which of them count depends on the token",
            "leave experts and router out of the selection, as --keep taia does",
        )
    if update.kind not in PRODUCTS:
        return
    if "magnitude" in update.parts:
        raise AdapterError(
            f"{method.title} works on B·A, and DoRA's update of {update.parameter!r} is more than "
            "that: its magnitude and its norm hang together",
            "merge the adapter (taia compose --keep all --merge), and compose the two checkpoints",
        )
    sizes = low_rank_sizes(adapter, update)
    if item.base is not None:
        fits = item.base.dtype in FLOATS and sorted(item.base.shape[-2:]) == sorted(sizes)
    else:
        slices = () if formula.base is None else unstacked(update.parameter, formula.base)
        fits = bool(slices) and all(part.entry.dtype in FLOATS for part in slices)
    if (method.reads_base and not fits) or item.label.tensor.shape is None:
        raise AdapterError(
            f"{method.title} needs the base's own numbers of {update.parameter!r}, which are "
            "quantised, resized or stored under other names there",
            "give the unquantised base in the spelling of today, or leave the update out of --keep",
        )


def _keeping_adapters() -> str:
    names = (m.name for m in METHODS.values() if m.entries is None and not m.not_on_adapters)
    return ", ".join(names)
