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

    base = given.weight.astype(np.float64)
    tuned = base + (u * s) @ v.T
    first = directions(tuned)[:, :top_k]
    alike = np.abs(first.T @ directions(base)).max(axis=1, initial=0)
    found = first[:, alike < threshold]
    if scale == 1 or not found.size:
        return u, s, v
    # σᵢ vᵢᵀ = uᵢᵀ (W + Δ)
    weight = np.full(found.shape[1], scale - 1)
    return np.hstack([u, found]), np.concatenate([s, weight]), np.hstack([v, tuned.T @ found])


def directions(matrix: Array) -> Array:
    """Left singular vectors, those of the largest values first, without those of none.

    By the smaller of the two squares of the matrix, which takes a third of the time of its singular
    value decomposition; in float64, so that what squaring loses lies below float32.
    """
    import numpy as np

    tall = matrix.shape[0] > matrix.shape[1]
    squares, vectors = np.linalg.eigh(matrix.T @ matrix if tall else matrix @ matrix.T)
    squares, vectors = squares[::-1], vectors[:, ::-1]
    left: Array = vectors
    if tall:
        there = squares > squares[0] * np.finfo(np.float64).eps * len(matrix)
        left = matrix @ vectors[:, there] / np.sqrt(squares[there])
    return left


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
