"""Magnitude keep: the largest entries of the update, which is TIES of a single update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taia.methods.largest import largest
from taia.methods.method import Method, Parameter

if TYPE_CHECKING:
    from taia.methods.given import Array, Given


def entries(given: Given, *, keep: float) -> Array:
    """Δ where it is among the largest, 0 elsewhere."""
    import numpy as np

    update = given.update
    return np.where(largest(update, int(keep * update.size)), update, update.dtype.type(0))


METHOD = Method(
    name="magnitude",
    title="Magnitude keep",
    source="the trimming of TIES, Yadav et al., NeurIPS 2023, arXiv 2306.01708",
    formula="Δ where |Δ| is among the largest keep of the tensor, else 0",
    basis="PEFT's code: tensor by tensor, where the paper trims all tensors together",
    parameters=(Parameter("keep", 0.2, 0, 1, "the share of entries that is kept"),),
    entries=entries,
)
