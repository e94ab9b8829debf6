"""Selections drawn at random: what the choice must be better than."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from taia.mending.bench import Bench, Examples
from taia.mending.candidates import Candidate
from taia.mending.choice import Measures
from taia.mending.places import Place, Places

if TYPE_CHECKING:
    from taia.runtime.switchable import SwitchableModel

#: Parts of the layers in which a projection has one α.
_BANDS: Final = 3
#: Fewer are drawn of nothing but a lack of places.
_FEWEST: Final = 2


def random_selections(model: SwitchableModel, seed: int) -> Iterator[Candidate]:
    """Selections with an α from 0 to 1 for each projection in each third of the layers."""
    random = np.random.default_rng((seed, 0x7A1A))
    places = Places(model.changed)
    layers = max((one.layer for one in places.free if one.layer is not None), default=0) + 1
    while places.free:
        values: dict[object, float] = {}
        alphas: dict[Place, float] = {}
        for one in places.free:
            band = None if one.layer is None else one.layer * _BANDS // layers
            group = one.component, one.projection, band
            if group not in values:
                values[group] = round(float(random.random()), 2)
            alphas[one] = values[group]
        yield Candidate("random", str(places.selection(alphas)), "a random selection")


def by_chance(
    bench: Bench,
    examples: Examples,
    *,
    seed: int,
    wanted: int,
    may_go_on: Callable[[], bool],
    told: Callable[[int, int], None],
) -> list[Measures]:
    """Measure random selections; they do not count as evaluations of the search.

    Args:
        bench: Measures.
        examples: What on.
        seed: Of the draws.
        wanted: How many.
        may_go_on: Whether there is time for another one.
        told: Told how many of how many are done.
    """
    found: list[Measures] = []
    before = bench.evaluations
    for candidate in random_selections(bench.model, seed):
        if len(found) >= wanted or (len(found) >= _FEWEST and not may_go_on()):
            break
        told(len(found), wanted)
        found.append(bench.measure(candidate, examples))
    bench.evaluations = before
    return found
