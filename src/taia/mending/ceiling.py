"""From coefficients that are near a ceiling of the loss to the nearest ones under it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from taia.mending.measures import Nats
from taia.mending.tuning import Tuning

#: How often all learnt rows are measured, and how near is near enough, as a part of the slack.
_TRIES: Final = 4
_NEAR: Final = 0.1
#: α are rounded to so many digits.
_DIGITS: Final = 3


def settle(
    tuning: Tuning,
    center: np.ndarray,
    ceiling: float,
    slack: float,
    toward: np.ndarray,
    at_that: Nats | None,
) -> tuple[np.ndarray, Nats]:
    """Go to the ceiling: towards less loss where that of all rows is over it, else to base.

    Of what is measured, that under the ceiling which is nearest to base is taken; with nothing
    under it, what has the least loss.

    Args:
        tuning: The model.
        center: From where, ``[coefficients]``.
        ceiling: In nats a token.
        slack: The scale of being near it.
        toward: Where the loss is less, ``[coefficients]``, such as the tuned model.
        at_that: The loss there, if it is known.

    Returns:
        Coefficients, rounded, and the loss of all rows there.
    """
    line = _Line(center, toward)
    known = {} if at_that is None else {1.0: at_that}
    t = 0.0
    for _ in range(_TRIES):
        with tuning.at(line(t)):
            known[t] = tuning.meter.loss()
        if ceiling - _NEAR * slack <= known[t].mean <= ceiling:
            break
        t = _next({at: loss.mean for at, loss in known.items()}, ceiling - _NEAR * slack / 2)
        if t in known:
            break
    under = [at for at, loss in known.items() if loss.mean <= ceiling]
    t = min(under) if under else min(known, key=lambda at: known[at].mean)
    return line(t), known[t]


class _Line(NamedTuple):
    """From base (t = −1) through what was found (0) to where the loss is less (1)."""

    center: np.ndarray
    toward: np.ndarray

    def __call__(self, t: float) -> np.ndarray:
        moved = self.center * (1 + t)
        if t > 0:
            moved = self.center + t * (self.toward - self.center)
        return np.round(moved, _DIGITS)


def _next(known: Mapping[float, float], wanted: float) -> float:
    """Where on the line a loss may be, of which some are known and which falls from −1 to 1."""
    under = min((t for t, loss in known.items() if loss <= wanted), default=1.0)
    over = max((t for t, loss in known.items() if t < under and loss > wanted), default=None)
    if over is None:
        return max(-1.0, 2 * under - 0.1)
    if under not in known:
        return under
    part = (known[over] - wanted) / max(known[over] - known[under], 1e-12)
    return over + min(0.9, max(0.1, part)) * (under - over)
