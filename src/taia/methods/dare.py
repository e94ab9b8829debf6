"""DARE: entries dropped at random, and the rest enlarged, so that the mean stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taia.methods.method import Method, Parameter

if TYPE_CHECKING:
    from taia.methods.given import Array, Given

#: Entries drawn for at once: a draw takes eight bytes.
_DRAWN: Final = 1 << 20


def entries(given: Given, *, keep: float, seed: int) -> Array:
    """Δ/p where a draw of chance p says so, 0 elsewhere."""
    import numpy as np

    update, random = given.update, given.random(seed)
    kept = np.empty(update.size, np.bool_)
    for start in range(0, kept.size, _DRAWN):
        some = kept[start : start + _DRAWN]
        some[:] = random.random(some.size) < keep
    made = update / update.dtype.type(keep)
    made[~kept.reshape(update.shape)] = 0
    return made


METHOD = Method(
    name="dare",
    title="DARE",
    source="Yu et al., ICML 2024, arXiv 2311.03099",
    formula="m ⊙ Δ / keep, each entry of m being 1 with chance keep, else 0",
    basis="PEFT's code",
    parameters=(
        Parameter("keep", 0.5, 0, 1, "the chance of an entry to be kept", above=True),
        Parameter("seed", 0, 0, 2**32 - 1, "which draw, the same for every tensor", whole=True),
    ),
    entries=entries,
)
