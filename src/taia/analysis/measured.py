"""One measurement of an update."""

from __future__ import annotations

from dataclasses import dataclass

from taia.anatomy.labels import Label


@dataclass(frozen=True, slots=True)
class Measured:
    """One tensor, or what one of several updates does to it.

    Attributes:
        label: What it is.
        update: ‖ΔW‖.
        weight: ‖W‖ of the base's.
        ranks: The effective rank of each matrix of the update, where that was asked for.
    """

    label: Label
    update: float
    weight: float
    ranks: tuple[float, ...] = ()
