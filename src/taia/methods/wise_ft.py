"""WiSE-FT: the whole update, weakened."""

from __future__ import annotations

from taia.anatomy.labels import Label
from taia.methods.method import Method, Parameter


def scale(label: Label, depth: int, *, alpha: float) -> float:
    """The same α everywhere."""
    return alpha


METHOD = Method(
    name="wise-ft",
    title="WiSE-FT",
    source="Wortsman et al., CVPR 2022, arXiv 2109.01903",
    formula="alpha · Δ",
    basis="the paper's formula",
    parameters=(Parameter("alpha", 0.5, 0, 1, "how much of the update is kept"),),
    scale=scale,
)
