"""LiNeS: less of the update in early layers than in late ones."""

from __future__ import annotations

from taia.anatomy.labels import Label
from taia.methods.method import Method, Parameter


def scale(label: Label, depth: int, *, alpha: float) -> float:
    """From α in the first layer to 1 in the last; α outside of all layers."""
    if label.layer is None or depth < 2:
        return alpha
    return alpha + (1 - alpha) * (label.layer / (depth - 1))


METHOD = Method(
    name="lines",
    title="LiNeS",
    source="Wang et al., ICLR 2025, arXiv 2410.17146",
    formula="(alpha + (1 − alpha) · ℓ/(L − 1)) · Δ in layer ℓ of L, alpha · Δ outside of them",
    basis="the authors' code, for one task (β = 1 − α)",
    parameters=(Parameter("alpha", 0.5, 0, 1, "how much of the first layer's update is kept"),),
    scale=scale,
)
