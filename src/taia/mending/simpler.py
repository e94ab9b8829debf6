"""The simplest form of learned α that is as good as they are.

Learned α are a number for each place, some of it noise. They are joined to fewer and fewer numbers
(:mod:`taia.mending.bands`), rounded to 0.05, and measured; of those that are within one standard
error of the learned ones the one with the fewest numbers is the best guess (the rule of Breiman et
al., Classification and Regression Trees, 1984, 3.4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from taia.mending.bands import Bands, joined
from taia.mending.learned import Learned
from taia.mending.measures import Meter, Nats
from taia.mending.places import Place, Places
from taia.mending.tuning import Tuning
from taia.selection import Selection

#: To what numbers are rounded.
_STEP: Final = 0.05
#: A part of the KL that is no reason for a number more.
_ALIKE: Final = 0.02
#: How many numbers are tried.
_SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True, slots=True)
class Simpler:
    """Learned α in fewer numbers, measured on the same examples.

    Attributes:
        numbers: How many different α it has.
        grouping: What its numbers are of: everything, components or projections, or bands of their
            layers.
        alphas: α of every place.
        selection: The same as a selection.
        loss: Of learnt rows.
        divergence: KL from base on kept examples.
        is_as_good: Whether its KL is not more than one standard error (of the difference, paired
            by example) or 2 % above the learned α's, and its loss not more than one above the
            ceiling. Where two modes are alike the paired error is too small to be a reason.
    """

    numbers: int
    grouping: str
    alphas: dict[Place, float]
    selection: Selection
    loss: Nats
    divergence: Nats
    is_as_good: bool


def simpler(
    meter: Meter,
    learned: Learned,
    *,
    progress: Callable[[Simpler], None] | None = None,
) -> list[Simpler]:
    """Simpler forms of learned α, from one number upwards, until one is as good.

    Args:
        meter: What measures: the examples that the α were learned on, or others.
        learned: The α.
        progress: Told of each form.

    Returns:
        What was measured, in the order of its numbers. Only the last can be as good; where it is
        not, no simpler form is.
    """
    with meter.model.mode(str(learned.selection)):
        loss, divergence = meter.loss(), meter.divergence()
    found: list[Simpler] = []
    seen: set[tuple[float, ...]] = set()
    for bands in _tried(learned, Places(meter.model.changed)):
        rounded = tuple(_rounded(np.array(bands.values), np.round)[[*bands.groups.values()]])
        if rounded in seen:  # as one before it, which was measured
            continue
        seen.add(rounded)
        form = _measured(meter, bands, learned.ceiling, loss, divergence)
        found.append(form)
        if progress:
            progress(form)
        if form.is_as_good:
            break
    return found


def _tried(learned: Learned, places: Places) -> Iterator[Bands]:
    """Bands of a few sizes whose rounded numbers differ from those before them."""
    free = {place: learned.alphas[place] for place in places.free}
    sizes = iter(_SIZES)
    size = next(sizes)
    for bands in joined(free, learned.weights, _SIZES[-1]):
        if len(bands.values) < size:
            continue
        yield bands
        while size <= len(bands.values):
            if (size := next(sizes, 0)) == 0:
                return


def _measured(meter: Meter, bands: Bands, ceiling: float, loss: Nats, divergence: Nats) -> Simpler:
    tuning = Tuning(meter, bands.groups)
    for rounding in (np.round, np.ceil):  # up, where the loss is too large else
        values = _rounded(np.array(bands.values), rounding)
        own, far = tuning.measured(values)
        enough = own.mean <= ceiling + own.minus(loss).error
        if enough:
            break
    alphas = tuning.alphas(values)
    more = far.minus(divergence)
    return Simpler(
        len({*values.tolist()}),
        bands.grouping,
        alphas,
        tuning.places.selection(alphas),
        own,
        far,
        enough and more.mean <= max(more.error, _ALIKE * divergence.mean),
    )


def _rounded(values: np.ndarray, rounding: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """α that are written with two digits, from 0 to 1."""
    # what lies a little above a step is not raised by a whole one
    return np.round(np.clip(rounding(values / _STEP - 1e-6) * _STEP, 0.0, 1.0), 2)
