"""The α of one tensor: a number, or a number for each run of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Pieces:
    """An α that changes along one axis of a tensor.

    Attributes:
        axis: The axis along which it changes.
        pieces: ``(start, stop, α)``, consecutive from 0 to the axis's size, neighbours with
            different α (so there are at least two).
    """

    axis: int
    pieces: tuple[tuple[int, int, float], ...]


#: W_infer = W_base + α · (W_tuned − W_base)
Alpha: TypeAlias = float | Pieces


def times(alpha: Alpha, factor: float) -> Alpha:
    """An α, weakened or strengthened."""
    if not isinstance(alpha, Pieces):
        return alpha * factor
    if factor == 0:
        return 0.0
    return Pieces(alpha.axis, tuple((a, b, part * factor) for a, b, part in alpha.pieces))


def shown(alpha: Alpha) -> str:
    """An α in a sentence."""
    return "different for some rows" if isinstance(alpha, Pieces) else f"{alpha:g}"


def plain(alpha: Alpha) -> float | dict[str, object]:
    """An α as JSON values: a number, or ``{"axis": …, "pieces": [[start, stop, α], …]}``."""
    if isinstance(alpha, Pieces):
        return {"axis": alpha.axis, "pieces": [list(piece) for piece in alpha.pieces]}
    return alpha
