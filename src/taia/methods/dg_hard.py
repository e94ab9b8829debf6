"""DG-Hard: the singular values of the update that noise alone would not have."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from taia.methods.method import Method, Parameter

if TYPE_CHECKING:
    from taia.methods.given import Array, Given

#: Smaller matrices than this are kept whole, as their singular values say nothing of noise.
_FEWEST: Final = 1024


def spectrum(given: Given, u: Array, s: Array, v: Array, *, scale: float) -> tuple[Array, ...]:
    """Singular values above the threshold of Donoho and Gavish for noise of unknown size."""
    import numpy as np

    rows, columns = len(u), len(v)
    if rows * columns < _FEWEST:
        return u, s, v
    beta = min(rows, columns) / max(rows, columns)
    noise = float(np.median(s)) / noise_median(beta)
    return u, np.where(s > scale * threshold(beta) * noise, s, s.dtype.type(0)), v


def threshold(beta: float) -> float:
    """ω(β) for noise of known size: 4/√3 for a square (Gavish and Donoho, arXiv 1305.5870)."""
    root = math.sqrt(beta**2 + 14 * beta + 1)
    return math.sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + root))


@lru_cache
def noise_median(beta: float) -> float:
    """μ_β, the median singular value of noise: the root of the Marchenko–Pastur law's median.

    With λ = 1 + β + 2√β cos θ its density is 2 sin² θ / (π λ) over θ from 0 to π.
    """
    import numpy as np

    step = math.pi / (1 << 16)
    angles = (np.arange(1 << 16) + 0.5) * step
    values = 1 + beta + 2 * math.sqrt(beta) * np.cos(angles)
    below = np.cumsum(2 * np.sin(angles) ** 2 / (math.pi * values)) * step
    middle = float(np.interp(0.5, below, angles + step / 2))
    return math.sqrt(1 + beta + 2 * math.sqrt(beta) * math.cos(middle))


METHOD = Method(
    name="dg-hard",
    title="DG-Hard",
    source="arXiv 2605.20296, by the threshold of Gavish and Donoho, arXiv 1305.5870",
    formula="Σ σᵢ uᵢ vᵢᵀ over σᵢ > scale · ω(β) · median(σ) / μ_β, β the ratio of the sides",
    basis="the authors' code; experts' matrices one by one is our reading",
    parameters=(Parameter("scale", 1, 0, 100, "what the threshold is multiplied with"),),
    scope="matrices",
    not_on_adapters="a low-rank update has no noise to measure: the median of its singular values "
    "is rounding, and all of it would be kept",
    spectrum=spectrum,
)
