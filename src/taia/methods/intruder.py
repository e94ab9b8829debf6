"""Intruder dimensions: directions of the tuned weights that the base has nothing like, weakened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taia.methods.method import Method, Parameter

if TYPE_CHECKING:
    from taia.methods.given import Array, Given


def spectrum(
    given: Given, u: Array, s: Array, v: Array, *, top_k: int, threshold: float, scale: float
) -> tuple[Array, ...]:
    """Δ + (scale − 1) Σ σᵢ uᵢ vᵢᵀ over the intruders among the first singular vectors of W + Δ."""
    import numpy as np

    base = given.weight
    tuned = base + ((u * s) @ v.T).astype(base.dtype, copy=False)
    known = np.linalg.svd(base, full_matrices=False)[0]
    left, sizes, right = np.linalg.svd(tuned, full_matrices=False)
    alike = np.abs(left[:, :top_k].T @ known).max(axis=1)
    found = np.flatnonzero(alike < threshold)
    if scale == 1 or not found.size:
        return u, s, v
    return (
        np.hstack([u, left[:, found]]),
        np.concatenate([s, (scale - 1) * sizes[found]]),
        np.hstack([v, right[found].T]),
    )


METHOD = Method(
    name="intruder",
    title="Intruder reduction",
    source="Shuttleworth et al., NeurIPS 2025, arXiv 2410.21228",
    formula="Δ + (scale − 1) Σ σᵢ uᵢ vᵢᵀ over the first top_k singular vectors of W + Δ with "
    "max |cos(uᵢ, U_base)| < threshold",
    basis="PEFT's code (reduce_intruder_dimension); of a LoRA, cut to its rank again",
    parameters=(
        Parameter("top_k", 10, 1, 2**31 - 1, "how many directions are looked at", whole=True),
        Parameter("threshold", 0.5, 0, 1, "the cosine below which one is an intruder"),
        Parameter("scale", 0.75, 0, 1, "how much of an intruder is left"),
    ),
    scope="matrices",
    reads_base=True,
    spectrum=spectrum,
)
