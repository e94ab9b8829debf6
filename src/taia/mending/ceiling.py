"""From coefficients that are near a ceiling of the loss to the nearest ones under it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from taia.mending.measures import Nats
from taia.mending.tuning import Tuning

#: How often all learnt rows are measured, and how near is near enough, as a part of the slack.
_TRIES: Final = 4
_NEAR: Final = 0.1
#: α are rounded to so many digits.
_DIGITS: Final = 3


def settle(
    tuning: Tuning, center: np.ndarray, ceiling: float, slack: float, tuned: Nats
) -> tuple[np.ndarray, Nats]:
    """Go to the ceiling: towards tuned where the loss of all rows is over it, else to base.

    Of what is measured, that under the ceiling which is nearest to base is taken; with nothing
    under it, what has the least loss.

    Args:
        tuning: The model.
        center: From where, ``[coefficients]``.
        ceiling: In nats a token.
        slack: What the loss may be over the tuned model's.
        tuned: The tuned model's loss.

    Returns:
        Coefficients, rounded, and the loss of all rows there.
    """
    known = {1.0: tuned}
    t = 0.0
    for _ in range(_TRIES):
        with tuning.at(_moved(center, t)):
            known[t] = tuning.meter.loss()
        if ceiling - _NEAR * slack <= known[t].mean <= ceiling:
            break
        t = _next({at: loss.mean for at, loss in known.items()}, ceiling - _NEAR * slack / 2)
        if t in known:
            break
    under = [at for at, loss in known.items() if loss.mean <= ceiling]
    t = min(under) if under else min(known, key=lambda at: known[at].mean)
    return _moved(center, t), known[t]


def _moved(center: np.ndarray, t: float) -> np.ndarray:
    """On the line from base (t = −1) through what was found (0) to tuned (1)."""
    moved = center + t * (1 - center) if t > 0 else center * (1 + t)
    return np.round(moved, _DIGITS)


def _next(known: Mapping[float, float], wanted: float) -> float:
    """Where on the line a loss may be, of which some are known and which falls from −1 to 1."""
    under = min((t for t, loss in known.items() if loss <= wanted), default=1.0)
    over = max((t for t, loss in known.items() if t < under and loss > wanted), default=None)
    if over is None:
        return max(-1.0, 2 * under - 0.1)
    part = (known[over] - wanted) / max(known[over] - known[under], 1e-12)
    return over + min(0.9, max(0.1, part)) * (under - over)
