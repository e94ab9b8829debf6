"""The places of an update that have an α of their own."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taia.anatomy import Label
from taia.errors import InputError
from taia.mending.wording import worded
from taia.selection import Selection

if TYPE_CHECKING:
    from taia.runtime.update import Changed


@dataclass(frozen=True, slots=True)
class Place:
    """A projection of a component in a layer: its weight, its bias, all its experts.

    Attributes:
        layer: Index in its stack of layers; ``None`` outside of one (embedding, last norm, head).
        component: One of anatomy's (``"attention"``, ``"mlp"``, …).
        projection: The name its module has in the architecture (``"q_proj"``, ``"c_attn"``, …).
    """

    layer: int | None
    component: str
    projection: str

    @classmethod
    def of(cls, label: Label) -> Place:
        """Where a tensor belongs."""
        return cls(label.layer, label.component, label.projection)

    def __str__(self) -> str:
        layer = "" if self.layer is None else f"[{self.layer}]"
        return f"{self.component}.{self.projection}{layer}"

    def __lt__(self, other: Place) -> bool:
        """By layer, those outside of layers last."""
        return self._order < other._order

    @property
    def _order(self) -> tuple[float, str, str]:
        layer = math.inf if self.layer is None else self.layer
        return layer, self.component, self.projection


class Places:
    """The places of a live model's update, and which of them may have any α.

    DoRA is not linear in its α, and a module that the adapter has whole (``modules_to_save``) or
    some rows of (trained tokens) is all or nothing in a live model: their places stay tuned. A
    MoLoRA router has the α of its experts.

    Args:
        changed: What the update changes.

    Attributes:
        free: Those with an α of their own, in order.
        fixed: Those that stay tuned, in order.
        at: Name of a part of the update → the place in ``free`` of its α.
    """

    def __init__(self, changed: Sequence[Changed]) -> None:
        leads = {part.name: part for part in changed}
        home = {part.name: Place.of(leads[part.follows or part.name].label) for part in changed}
        bound = {home[part.name] for part in changed if not part.scales}
        self.free = tuple(sorted(set(home.values()) - bound))
        self.fixed = tuple(sorted(bound))
        number = {place: index for index, place in enumerate(self.free)}
        self.at = {name: number[place] for name, place in home.items() if place in number}
        self._labels = {part.name: part.label for part in changed}
        self._home = home

    def selection(self, alphas: Mapping[Place, float]) -> Selection:
        """α by place as a selection; places that are not named are tuned.

        Raises:
            InputError: If an α is negative or no number, or a place is none of the update's.
        """
        if unknown := sorted(set(alphas) - {*self.free, *self.fixed}):
            raise InputError(
                f"{unknown[0]} is no place of the update.", "Name places that the update changes."
            )
        found = {
            Place.of(label): alphas.get(self._home[name], 1.0)
            for name, label in self._labels.items()
        }
        return selection_of(found, self._labels)


def selection_of(alphas: Mapping[Place, float], labels: Mapping[str, Label]) -> Selection:
    """The selection that gives every tensor of an update the α of its place, exactly.

    Its text is short: equal α are joined into components and slices of layers
    (``0.35*mlp[4:12] + 0.6*attention``). A larger α may lie over a smaller one, since ``+`` keeps
    the larger.

    Args:
        alphas: α of each place, none negative.
        labels: Name → label of each tensor that the update changes; of others it does not matter
            which α they get. MoLoRA's parts count as tensors.

    Raises:
        InputError: If an α is negative or no number, or a tensor's place has none.
    """
    tensors: dict[Place, list[str]] = defaultdict(list)
    for name, label in labels.items():
        tensors[Place.of(label)].append(name)
    for place in tensors:
        alpha = alphas.get(place)
        if alpha is None or not 0 <= alpha < math.inf:
            raise InputError(
                f"α of {place} was to be {alpha}.", "Give every place a number of 0 or more."
            )
    return Selection.parse(worded({place: alphas[place] for place in tensors}, tensors, labels))
