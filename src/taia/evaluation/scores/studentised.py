"""How sure one can be of a ratio of sums whose items have no known ends, such as nats per word.

No interval covers for every such distribution, however many items there are (Bahadur and Savage,
"The nonexistence of certain statistical procedures in nonparametric problems", 1956). So there is
none of few items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

from taia.evaluation.scores.bounded import LEVEL

#: Of fewer items there is no interval: they may hold nothing of what weighs most.
FEWEST: Final = 100
#: How often items are drawn.
_DRAWS: Final = 1_999
#: Of numbers drawn at a time.
_BATCH: Final = 1_000_000


def ratio(
    numerators: Sequence[float], sizes: Sequence[float] | None = None
) -> tuple[float, float, float] | None:
    """The 95% interval of Σ numerators / Σ sizes, and the p-value of its being zero.

    Items are drawn with replacement; of each draw, how far its ratio is from the true one in
    standard errors of its own. The normal distribution's 1.96 is the least that is allowed for.
    Efron, "Nonparametric standard errors and confidence intervals" (1981); Hall, "Theoretical
    comparison of bootstrap confidence intervals" (1988). The p-value is of the same draws.

    Args:
        numerators: Of each item: its nats, or its score; of a difference, one mode's minus the
            other's, over the same sizes.
        sizes: Of each item: its words or bytes, more than zero in all; without them the ratio is
            a mean.

    Returns:
        Lower limit, upper limit and p-value; none of fewer than :data:`FEWEST` items, where
        all items agree, which says nothing of others, or where one of them makes the difference.
    """
    import numpy as np

    if len(numerators) < FEWEST:
        return None
    # In one order, so that the items' own plays no part.
    rows = sorted(zip(numerators, sizes or [1.0] * len(numerators), strict=True))
    above, size = np.array(rows, dtype=np.float64).T
    middle = above.sum() / size.sum()
    rest = above - middle * size
    error = float(np.sqrt((rest**2).sum()) / size.sum())
    if error <= 1e-12 * float(np.abs(above).sum() / size.sum()):
        return None

    rng = np.random.default_rng(0)
    at_once = max(1, _BATCH // len(rows))
    apart = []
    for done in range(0, _DRAWS, at_once):
        drawn = rng.integers(len(rows), size=(min(at_once, _DRAWS - done), len(rows)))
        whole = size[drawn].sum(1)
        shift = rest[drawn].sum(1) / whole
        left = rest[drawn] - shift[:, None] * size[drawn]
        own = np.sqrt((left**2).sum(1)) / whole
        with np.errstate(divide="ignore", invalid="ignore"):
            apart.append(np.where(shift == 0, 0.0, shift / own))
    # A draw of items that all agree knows no error: it counts as endlessly far out on its side.
    draws = np.sort(np.concatenate(apart))
    # p < 0.05 where fewer than 2.5% of draws lie beyond: the limits are the draws next inside.
    place = math.ceil(LEVEL / 2 * (1 + _DRAWS)) - 2
    normal = NormalDist()
    least = normal.inv_cdf(1 - LEVEL / 2)
    low = float(middle - max(least, draws[-1 - place]) * error)
    high = float(middle - min(-least, draws[place]) * error)
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    seen = middle / error
    tails = (1 + int((draws >= seen).sum())), (1 + int((draws <= seen).sum()))
    p_value = max(2 * min(tails) / (1 + _DRAWS), 2 * normal.cdf(-abs(seen)))
    return low, high, min(1.0, float(p_value))
