"""Revert the largest entries of the update, which often add nothing to what a model knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taia.methods.largest import largest
from taia.methods.method import Method, Parameter

if TYPE_CHECKING:
    from taia.methods.given import Array, Given


def entries(given: Given, *, revert: float) -> Array:
    """0 where Δ is among the largest, Δ elsewhere."""
    import numpy as np

    update = given.update
    reverted = largest(update, int(revert * update.size))
    return np.where(reverted, update.dtype.type(0), update)


METHOD = Method(
    name="revert-largest",
    title="Revert the largest",
    source="Ye et al., EMNLP 2025, arXiv 2509.16596",
    formula="0 where |Δ| is among the largest revert of the tensor, else Δ",
    basis="the abstract only: largest by |Δ|, tensor by tensor, is our reading",
    parameters=(Parameter("revert", 0.1, 0, 1, "the share of entries taken back to the base"),),
    entries=entries,
)
