"""A low-rank update by its factors, as they are read, and as a method leaves them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from taia.checkpoint.adapters.find import unstacked
from taia.checkpoint.adapters.place import Placed
from taia.checkpoint.adapters.read import SIDES, Adapter
from taia.checkpoint.adapters.shapes import experts
from taia.checkpoint.formula import Formula, TensorFormula
from taia.checkpoint.header import Entry
from taia.checkpoint.sources import Sources
from taia.methods.method import is_stack

if TYPE_CHECKING:
    from taia.checkpoint.adapters.low_rank import LowRank
    from taia.methods.given import Array

#: Kinds of updates that are one product for each matrix.
PRODUCTS: Final = frozenset({"low rank", "embedding"})


def factored(
    adapter: Adapter,
    placed: Placed,
    sources: Sources,
    method: TensorFormula | None = None,
    base: Entry | None = None,
) -> tuple[LowRank, ...]:
    """A low-rank update by its factors, as a method leaves them; one for each expert of a stack.

    Args:
        adapter: The adapter.
        placed: The update.
        sources: What to read with.
        method: What a method does to it, ``None`` where it does nothing.
        base: The base's tensor that it changes, for a method.
    """
    from taia.checkpoint.adapters.low_rank import LowRank, factors
    from taia.checkpoint.arithmetic import load

    update = placed.update
    a, b = (
        load(adapter.entries[update.parts[side].tensor], sources) for side in SIDES[update.kind]
    )
    magnitude = update.parts.get("magnitude")
    norms = None
    if magnitude is not None:
        norms = load(adapter.entries[magnitude.tensor], sources).reshape(-1)
    each = (
        LowRank(one, other, adapter.scaling(update), norms, placed.transposed)
        for one, other in factors(a, b, experts(adapter, update))
    )
    return tuple(each if method is None else _by_spectrum(method, base, each, sources))


def on_factors(adapter: Adapter, item: Placed, formula: Formula | None) -> TensorFormula | None:
    """The method on a low-rank update's factors; ``None`` where it does nothing to them."""
    if formula is None or formula.applied.method.spectrum is None or item.dropped:
        return None
    if item.update.kind not in PRODUCTS:
        return None
    return formula.on(item.label, item.transposed, adapter.rank(item.update))


def _by_spectrum(
    one: TensorFormula, base: Entry | None, factored: Iterable[LowRank], sources: Sources
) -> Iterator[LowRank]:
    """The factors that a method makes of an update's, expert by expert where it has experts."""
    from taia.checkpoint.arithmetic import load
    from taia.methods.calculate import changed_factors

    applied = one.formula.applied
    whole = None
    if applied.method.reads_base and base is not None:
        whole = load(base, sources)
    for index, factors in enumerate(factored):
        expert = index if is_stack(one.label) else None
        weight = whole if whole is None or expert is None else whole[expert]
        if applied.method.reads_base and base is None:
            weight = _matrix(one, index, sources)
        given = one.given(weight, None, sources, expert)
        a, b = changed_factors(applied, given, factors.a, factors.b, factors.scaling)
        yield replace(factors, a=a, b=b)


def _matrix(one: TensorFormula, expert: int, sources: Sources) -> Array:
    """An expert's matrix [outputs, inputs] of a base that keeps experts, or gate and up, apart."""
    import numpy as np

    from taia.checkpoint.arithmetic import load

    assert one.formula.base is not None
    slices = unstacked(one.label.tensor.name, one.formula.base)
    return np.concatenate([load(part.entry, sources) for part in slices if part.expert == expert])
