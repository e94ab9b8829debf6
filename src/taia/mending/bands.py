"""Few numbers for many: places joined to bands of layers, so that the α change least.

What joining costs is Σ w·(α − c)² over the places, with w how much each matters and c the number
that a band's places share, their weighted mean. For a group of places (a component, a projection)
the best bands of layers are found by dynamic programming (Bellman, Comm. ACM 4(6), 1961); which
group has one band more is decided by what that saves.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from taia.mending.places import Place

#: How places are grouped before they are cut into bands, the fewest groups first.
GROUPINGS: Final[Mapping[str, Callable[[Place], str]]] = {
    "everything": lambda place: "all",
    "components": lambda place: place.component,
    "projections": lambda place: f"{place.component}.{place.projection}",
}


#: What part of the cost has to be saved for a number more: less is rounding.
_LESS: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Bands:
    """Places joined.

    Attributes:
        grouping: One of :data:`GROUPINGS`.
        groups: Place → which number is its α.
        values: ``[numbers]``, each the weighted mean of its places' α.
        cost: Σ w·(α − value)².
    """

    grouping: str
    groups: dict[Place, int]
    values: tuple[float, ...]
    cost: float


def joined(
    alphas: Mapping[Place, float], weights: Mapping[Place, float], most: int
) -> Iterator[Bands]:
    """The best bands of 1, 2, 3, … numbers, each cheaper than those before it.

    Args:
        alphas: The α of each place.
        weights: How much each place matters; none negative.
        most: At most so many numbers.
    """
    best: dict[int, Bands] = {}
    for grouping in GROUPINGS:
        for bands in _grouped(grouping, alphas, weights, most):
            size = len(bands.values)
            if size not in best or bands.cost < best[size].cost:
                best[size] = bands
    cost = math.inf
    for size in sorted(best):
        if best[size].cost < cost - _LESS * best[min(best)].cost:
            cost = best[size].cost
            yield best[size]


def _grouped(
    grouping: str, alphas: Mapping[Place, float], weights: Mapping[Place, float], most: int
) -> Iterator[Bands]:
    """One band for each group, and then one more at a time where it saves most."""
    name = GROUPINGS[grouping]
    members: dict[str, list[Place]] = defaultdict(list)
    for place in sorted(alphas):
        # What lies outside of layers is in no band of them.
        outside = place.layer is None and name(place) != "all"
        members[name(place) + ("()" if outside else "")].append(place)
    groups = [_Group(places, alphas, weights) for places in members.values()]
    cuts = [1 for _ in groups]
    while sum(cuts) <= most:
        yield _bands(grouping, groups, cuts)
        saved = [group.cost(n) - group.cost(n + 1) for group, n in zip(groups, cuts, strict=True)]
        if max(saved) <= _LESS * sum(group.cost(1) for group in groups):
            break
        cuts[saved.index(max(saved))] += 1


def _bands(grouping: str, groups: Sequence[_Group], cuts: Sequence[int]) -> Bands:
    numbers: dict[Place, int] = {}
    values: list[float] = []
    cost = 0.0
    for group, count in zip(groups, cuts, strict=True):
        cost += group.cost(count)
        for places, value in group.bands(count):
            numbers |= dict.fromkeys(places, len(values))
            values.append(value)
    return Bands(grouping, dict(sorted(numbers.items())), tuple(values), cost)


class _Group:
    """Places that are cut into bands together; those outside of layers are the last."""

    def __init__(
        self,
        places: Iterable[Place],
        alphas: Mapping[Place, float],
        weights: Mapping[Place, float],
    ) -> None:
        self._layers: dict[int | None, list[Place]] = defaultdict(list)
        for place in places:
            self._layers[place.layer].append(place)
        rows = [[(weights[place], alphas[place]) for place in row] for row in self._layers.values()]
        least = _least(sum(w for row in rows for w, _ in row))
        sums = [
            (
                sum(w + least for w, _ in row),
                sum((w + least) * a for w, a in row),
                sum((w + least) * a * a for w, a in row),
            )
            for row in rows
        ]
        self._sums = np.concatenate([np.zeros((1, 3)), np.cumsum(sums, axis=0)])
        self._costs: list[np.ndarray] = []
        self._starts: list[np.ndarray] = []

    def cost(self, count: int) -> float:
        """Of the best so many bands; of as many as there are layers, where those are fewer."""
        self._solve(count)
        return float(self._costs[min(count, self._size) - 1][-1])

    def bands(self, count: int) -> Iterator[tuple[list[Place], float]]:
        """The best so many bands and what their places share, the last band first."""
        self._solve(count)
        rows = [*self._layers.values()]
        end = self._size
        for number in range(min(count, self._size) - 1, -1, -1):
            start = int(self._starts[number][end])
            weight, first, _ = self._sums[end] - self._sums[start]
            yield [place for row in rows[start:end] for place in row], float(first / weight)
            end = start

    @property
    def _size(self) -> int:
        return len(self._layers)

    def _solve(self, count: int) -> None:
        """The costs of the first n layers in 1, 2, …, count bands."""
        while len(self._costs) < min(count, self._size):
            before = self._costs[-1] if self._costs else None
            costs = np.full(self._size + 1, math.inf)
            starts = np.zeros(self._size + 1, dtype=int)
            for end in range(1, self._size + 1):
                weight, first, second = (self._sums[end] - self._sums[:end]).T
                each = np.maximum(second - first**2 / weight, 0.0)
                if before is not None:
                    each = each + before[:end]
                else:
                    each[1:] = math.inf
                starts[end] = int(each.argmin())
                costs[end] = each[starts[end]]
            self._costs.append(costs)
            self._starts.append(starts)


def _least(whole: float) -> float:
    """Added to every weight, so that places that do not matter have a mean, too."""
    return 1e-6 * whole or 1.0
