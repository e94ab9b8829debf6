"""What a live model's update has to offer so that the model can be switched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from taia.errors import AdapterError
from taia.runtime.caches import Filling
from taia.selection import Alpha, Selection

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Plan:
    """A selection worked out for one model: two are equal when they do the same to it.

    Attributes:
        alphas: α of every part of the update.
        steps: What is to be assigned where; each kind of update has its own.
    """

    alphas: tuple[Alpha, ...]
    steps: Any = field(compare=False)


@dataclass(frozen=True, slots=True)
class State:
    """What a model is in.

    Attributes:
        name: The mode's name; where rows are in modes of their own, all their names.
        plans: One plan for all rows, or one for each.
        rows: Of how many rows a batch has to be, ``None`` for any number.
    """

    name: str
    plans: tuple[Plan, ...]
    rows: int | None = None

    @property
    def filling(self) -> Filling:
        """What caches are filled with."""
        return tuple(plan.alphas for plan in self.plans)


class Update(Protocol):
    """The update of a live model."""

    @property
    def has_update(self) -> bool:
        """Whether there is anything beside the base."""

    @property
    def found_in(self) -> str:
        """The mode that the model is in when it is wrapped: ``"base"`` or ``"tuned"``."""

    @property
    def cannot_mix(self) -> str | None:
        """Why rows of one batch cannot be in different modes; ``None`` where they can."""

    @property
    def replaced(self) -> Mapping[str, torch.Tensor] | None:
        """The base's values of what loading an adapter wrote over; ``None`` if nobody kept them."""

    def plan(self, selection: Selection) -> Plan:
        """Work out what a selection does; refuses whatever cannot be done, and changes nothing."""

    def apply(self, plan: Plan) -> None:
        """Put the model in a mode, whichever it was in."""

    def apply_rows(self, plans: Sequence[Plan]) -> None:
        """Put each row of a batch in a mode of its own."""


class NoUpdate:
    """A base model alone."""

    has_update: Final = False
    found_in: Final = "base"
    cannot_mix: Final = None
    replaced: Final = None

    def plan(self, selection: Selection) -> Plan:
        """The plan of the mode ``base``, which is the only one.

        Raises:
            AdapterError: If the selection is any other.
        """
        if selection != Selection.parse("none") and selection != Selection.parse("base"):
            raise AdapterError(
                f"There is no update to take {str(selection)!r} of: only a base model was given.",
                "Give an adapter or a tuned checkpoint too, or ask for the mode base.",
            )
        return Plan((), ())

    def apply(self, plan: Plan) -> None:
        """Nothing changes."""

    def apply_rows(self, plans: Sequence[Plan]) -> None:
        """Nothing changes."""
