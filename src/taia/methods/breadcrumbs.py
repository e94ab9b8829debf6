"""Model Breadcrumbs: the middle of the update, without its largest and its smallest entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taia.methods.largest import largest
from taia.methods.method import Method, Parameter

if TYPE_CHECKING:
    from taia.methods.given import Array, Given


def entries(given: Given, *, keep: float, drop: float) -> Array:
    """Δ where it is among the largest but the very largest, 0 elsewhere."""
    import numpy as np

    update = given.update
    count = int(keep * update.size)
    dropped = min(int(drop * update.size), update.size - count)
    kept = largest(update, dropped + count) & ~largest(update, dropped)
    return np.where(kept, update, update.dtype.type(0))


METHOD = Method(
    name="breadcrumbs",
    title="Model Breadcrumbs",
    source="Davari and Belilovsky, ECCV 2024, arXiv 2312.06795",
    formula="Δ where |Δ| is among the tensor's keep that follow its largest drop, else 0",
    basis="mergekit's account of it: where keep and drop exceed all, drop gives way",
    parameters=(
        Parameter("keep", 0.9, 0, 1, "the share of entries that is kept"),
        Parameter("drop", 0.01, 0, 1, "the share of entries, the largest, that is not"),
    ),
    entries=entries,
)
