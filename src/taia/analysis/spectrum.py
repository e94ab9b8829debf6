"""How many directions an update has: its effective rank."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from taia.methods.calculate import of_factors
from taia.methods.given import Array


def effective_rank(singular: Array) -> float:
    """exp(H), H the entropy of the singular values' shares of their sum.

    As large as the rank where all are alike, near one where one towers above the others (Roy and
    Vetterli, EUSIPCO 2007). 0 where there is nothing.

    Args:
        singular: Singular values, in any order.
    """
    values = singular[singular > 0].astype(np.float64)
    if not values.size:
        return 0.0
    shares = values / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def of_matrices(update: Array) -> Iterator[float]:
    """The effective rank of a matrix, or of each matrix of a stack; of a vector none.

    Args:
        update: [.., rows, columns].
    """
    if update.ndim >= 2:
        for matrix in update.reshape(-1, *update.shape[-2:]):
            wide = matrix.astype(np.float64)
            wide = wide if len(wide) <= wide.shape[1] else wide.T
            # The smaller Gram matrix's eigenvalues: a tenth of a decomposition's time.
            squares = np.linalg.eigvalsh(wide @ wide.T)
            # What rounding makes of a direction that is not there is none.
            squares[squares < squares.max(initial=0.0) * len(wide) * np.finfo(float).eps] = 0.0
            yield effective_rank(np.sqrt(squares))


def of_product(a: Array, b: Array) -> float:
    """The effective rank of B·A, which is never formed.

    Args:
        a: [r, inputs].
        b: [outputs, r].
    """
    _, singular, _ = of_factors(a, b, 1.0)
    noise = singular.max(initial=0.0) * max(len(b), a.shape[1]) * np.finfo(float).eps
    return effective_rank(singular[singular > noise])
