"""Safe LoRA: updates that point away from alignment, projected onto it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taia.methods.method import Method, Parameter

if TYPE_CHECKING:
    from taia.methods.given import Array, Given


def spectrum(given: Given, u: Array, s: Array, v: Array, *, threshold: float) -> tuple[Array, ...]:
    """CΔ where it is not alike Δ, else Δ; C = VVᵀ/‖V‖ with V = W_aligned − W_unaligned."""
    import numpy as np

    aligning = given.weight - given.statistic("unaligned", given.weight.shape)
    outputs = v if given.inputs_first else u
    aligning = aligning.T if given.inputs_first else aligning
    size = np.linalg.norm(aligning)
    if size == 0:
        return u, s, v
    projected = (aligning @ (aligning.T @ outputs) / size).astype(s.dtype, copy=False)
    # Of both products the other side is orthonormal, and drops out of their cosine.
    one, other = projected * s, outputs * s
    sizes = np.linalg.norm(one) * np.linalg.norm(other)
    if sizes == 0 or np.sum(one * other) / sizes > threshold:
        return u, s, v
    return (u, s, projected) if given.inputs_first else (projected, s, v)


METHOD = Method(
    name="safe-lora",
    title="Safe LoRA",
    source="Hsu et al., NeurIPS 2024, arXiv 2405.16833",
    formula="CΔ where cos(CΔ, Δ) ≤ threshold, else Δ; C = VVᵀ/‖V‖, V = W_base − W_unaligned",
    basis="the authors' code, by threshold; that it may take the ten least alike is not built",
    parameters=(Parameter("threshold", 0.5, -1, 1, "the cosine up to which one is projected"),),
    scope="layers",
    needs=("unaligned",),
    reads_base=True,
    spectrum=spectrum,
)
