"""How much of what was learnt, and of the distance from base, each place of an update makes.

Integrated gradients (Sundararajan et al., arXiv 1703.01365) along the line on which everything is
kept at α, from 0 to 1: what place t makes of a measure L is ∫ ∂L/∂α_t dα. All places together make
L(tuned) − L(base), but for the error of the quadrature, which is Simpson's rule on a grid of α and
is reported. The line's points are those of WiSE-FT (arXiv 2109.01903), so that its loss and KL come
with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from taia.errors import InputError
from taia.mending.measures import Meter
from taia.mending.places import Place
from taia.mending.tuning import Slope, Tuning


@dataclass(frozen=True, slots=True)
class LinePoint:
    """Everything kept at one α.

    Attributes:
        alpha: The α.
        loss: Nats a token on learnt rows.
        divergence: KL from base in nats a token on kept examples.
    """

    alpha: float
    loss: float
    divergence: float


@dataclass(frozen=True, slots=True)
class Shares:
    """What each place makes of a measure.

    Attributes:
        by_place: In nats a token; those of the loss are negative where a place has learnt.
        whole: The measure at α = 1 less that at 0.
        error: ``whole`` less the sum over places: what the quadrature misses.
    """

    by_place: dict[Place, float]
    whole: float
    error: float


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where the learning is and where the distance is.

    Attributes:
        loss: Of learnt rows.
        divergence: Of kept examples.
        line: Loss and KL along the line, by ascending α, both ends with it.
    """

    loss: Shares
    divergence: Shares
    line: tuple[LinePoint, ...]


def attribute(
    meter: Meter, *, points: int = 11, progress: Callable[[LinePoint], None] | None = None
) -> Attribution:
    """What each place of a live model's update makes of loss and KL, on all of a meter's examples.

    A forward and a backward pass over all examples for each point. Places that cannot be scaled
    (:class:`~taia.mending.places.Places`) stay tuned all along the line and make nothing of it.

    Args:
        meter: What measures.
        points: How many α from 0 to 1, an odd number from 3 on; 11 are 0, 0.1, …, 1.
        progress: Told of each point.

    Raises:
        InputError: If the number of points is another.
    """
    if points < 3 or points % 2 == 0:
        raise InputError(
            f"Integrals over {points} points were asked for.", "Ask for an odd number from 3 on."
        )
    tuning = Tuning(meter)
    grid = np.linspace(0.0, 1.0, points)
    losses: list[Slope] = []
    divergences: list[Slope] = []
    line: list[LinePoint] = []
    for alpha in grid:
        values = np.full(tuning.size, alpha)
        losses.append(tuning.loss(values))
        divergences.append(tuning.divergence(values))
        line.append(LinePoint(float(alpha), losses[-1].mean, divergences[-1].mean))
        if progress:
            progress(line[-1])
    return Attribution(_shares(tuning, losses), _shares(tuning, divergences), tuple(line))


def _shares(tuning: Tuning, slopes: list[Slope]) -> Shares:
    gradients = np.stack([slope.gradient for slope in slopes])
    weights = np.full(len(slopes), 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    parts = weights @ gradients / (3 * (len(slopes) - 1))
    whole = slopes[-1].mean - slopes[0].mean
    shares = {place: float(parts[group]) for place, group in tuning.groups.items()}
    return Shares(shares, whole, whole - float(parts.sum()))
