"""How sure one can be of a metric of all items together: a perplexity, an F1, BLEU.

Such a metric is no mean of its items', so it is computed again over items drawn with replacement.
The same items are drawn for every mode: the draws of two modes belong together pair by pair, and
their differences tell how sure the difference is. Draws are kept with a result, as whoever reads it
later has neither the items nor the task's function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import stdev
from typing import Any, Final

from taia.errors import out_of_memory
from taia.evaluation.scores.studentised import FEWEST

#: Below this share of draws that gave a number, nothing is said either.
_USABLE: Final = 0.95


def redraw(
    aggregate: Callable[[list[Any]], Any], items: Sequence[Any], draws: int
) -> tuple[float, ...]:
    """A metric over items drawn with replacement, so many times.

    Args:
        aggregate: From items to the metric.
        items: Each item's part, whatever the metric is made of.
        draws: How often items are drawn; which ones depends on how many there are, and not on
            what they are.

    Returns:
        The metric each time; nan where it has none. Empty of fewer than :data:`FEWEST` items, of
        which draws cover too little: of documents whose differences are lognormal with σ = 1, 100
        cover 92% and 20 only 89%.
    """
    import numpy as np

    if len(items) < FEWEST:
        return ()
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        drawn = [items[place] for place in rng.integers(len(items), size=len(items))]
        try:
            found.append(float(aggregate(drawn)))
        except Exception as error:  # a task's function raises what it likes
            if out_of_memory(error):
                raise
            found.append(math.nan)
    return tuple(found)


def spread(drawn: Sequence[float]) -> float:
    """The metric's standard error: its draws' standard deviation; nan of no draws."""
    usable = [value for value in drawn if math.isfinite(value)]
    return stdev(usable) if len(usable) > 1 else math.nan


def drawn_limits(
    value: float, drawn: Sequence[float], items: int
) -> tuple[float, float, float] | None:
    """The 95% interval of a metric, or of a difference of two, and the p-value of its being zero.

    The interval lies between quantiles of the draws, the p-value says how many are beyond zero. A
    bootstrap is too narrow of few items, so its draws are moved away from the value as far as
    Student's distribution is wider than the normal one, and by √(n / (n − 1)): Hesterberg, "What
    teachers should know about the bootstrap", The American Statistician 69 (2015), section 5.2.

    Args:
        value: The metric of all items, or the difference.
        drawn: Its draws; of a difference, the difference of both modes' draws, one by one.
        items: How many they were drawn from.

    Returns:
        Lower limit, upper limit and p-value; none where the draws do not tell them.
    """
    usable = [one for one in drawn if math.isfinite(one)]
    if items < FEWEST or not usable or len(usable) < _USABLE * len(drawn):
        return None
    import numpy as np

    z2, free = 1.96**2, items - 1
    factor = math.sqrt(items / free) * (1 + (z2 + 1) / (4 * free))
    wide = value + factor * (np.array(usable) - value)
    low, high = np.quantile(wide, [0.025, 0.975])
    beyond = min(int((wide <= 0).sum()), int((wide >= 0).sum()))
    return float(low), float(high), min(1.0, 2 * (1 + beyond) / (1 + len(wide)))
