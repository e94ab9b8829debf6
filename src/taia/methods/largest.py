"""Which entries are the largest: what several methods ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from taia.methods.given import Array


def largest(update: Array, count: int) -> npt.NDArray[np.bool_]:
    """Marks the entries of largest magnitude; of equal ones the first in the tensor's order.

    Args:
        update: Any shape.
        count: How many.

    Returns:
        True for these, in the same shape.
    """
    import numpy as np

    sizes: npt.NDArray[Any] = np.abs(update).reshape(-1)
    if count in (0, sizes.size):
        return np.full(update.shape, bool(count), np.bool_)
    sizes.partition(sizes.size - count)
    bound = sizes[sizes.size - count]
    np.abs(update.reshape(-1), out=sizes)  # in order again: a tensor may be a third of memory
    marked: npt.NDArray[np.bool_] = sizes > bound
    equal = np.flatnonzero(sizes == bound)
    marked[equal[: count - int(marked.sum())]] = True
    return marked.reshape(update.shape)
