"""Spectral Surgery: singular values re-weighted by what they do to the loss of calibration rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taia.methods.method import Method, Parameter

if TYPE_CHECKING:
    from taia.methods.given import Array, Given


def spectrum(given: Given, u: Array, s: Array, v: Array, *, strength: float) -> tuple[Array, ...]:
    """The same directions; their singular values weighed, with the same sum.

    To first order, leaving out σᵢ changes the loss by −σᵢ gᵢ, where g is the tensor's
    ``sensitivity``: a direction with σᵢ gᵢ < 0 helps.
    """
    import numpy as np

    effects = s * given.statistic("sensitivity", s.shape)
    most = np.abs(effects).max(initial=0)
    if strength == 0 or most == 0:
        return u, s, v
    weighed = s * (1 - strength * effects / most)
    total = weighed.sum()
    return u, weighed * (s.sum() / total) if total > 0 else s, v


METHOD = Method(
    name="spectral-surgery",
    title="Spectral Surgery",
    source="Tian et al., arXiv 2603.03995",
    formula="Σ c·wᵢ σᵢ uᵢ vᵢᵀ, wᵢ = 1 − strength · σᵢgᵢ / max |σg|, gᵢ = uᵢᵀ (∂L/∂W) vᵢ, "
    "c such that Σσ stays",
    basis="the abstract only: sensitivity by gradients, fixed directions and a constraint on the "
    "size are its; the weights and the constraint are ours",
    parameters=(Parameter("strength", 0.5, 0, 1, "how far the weights may be from 1"),),
    scope="layers",
    needs=("sensitivity",),
    spectrum=spectrum,
)
