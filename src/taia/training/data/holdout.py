"""Rows held out from training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from taia.errors import DataError
from taia.training.data.mixing import apportion
from taia.training.data.row import Row

#: Told apart from the other uses of the seed.
_STREAM: Final = 0x7E57


def hold_out(
    sources: Sequence[Sequence[Row]], validation: float | int, seed: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Choose rows of each source to hold out, by its size.

    Args:
        sources: The rows of each source.
        validation: A share of all rows, or how many.
        seed: Of the choice.

    Returns:
        Per source the indices to train on and those held out, both in order. Rows equal to one
        held out are in neither.

    Raises:
        DataError: If nothing is left on one side.
    """
    import numpy as np

    total = sum(map(len, sources))
    count = round(validation * total) if isinstance(validation, float) else validation
    if not 0 < count < total:
        raise DataError(
            f"Holding out {validation} of {total} rows leaves "
            f"{'nothing to train on' if count else 'nothing to validate on'}.",
            "Give another validation.",
        )
    held = []
    for number, (rows, share) in enumerate(
        zip(sources, apportion(count, list(map(len, sources))), strict=True)
    ):
        shuffled = np.random.default_rng((seed, _STREAM, number)).permutation(len(rows))
        held.append(sorted(shuffled[:share].tolist()))
    chosen = {rows[index] for rows, indices in zip(sources, held, strict=True) for index in indices}
    return [without(rows, chosen) for rows in sources], held


def without(rows: Sequence[Row], others: set[Row]) -> list[int]:
    """Indices of the rows that are not among others."""
    return [index for index, row in enumerate(rows) if row not in others]
