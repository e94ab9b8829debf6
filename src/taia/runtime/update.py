"""What a live model's update has to offer so that the model can be switched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from taia.anatomy import Label
from taia.errors import AdapterError, InputError
from taia.runtime.caches import Filling
from taia.selection import Alpha, Selection

if TYPE_CHECKING:
    import torch

    from taia.methods import Applied
    from taia.runtime.alphas import Alphas, Slot


@dataclass(frozen=True, slots=True)
class Plan:
    """A selection worked out for one model: two are equal when they do the same to it.

    Attributes:
        alphas: α of every part of the update.
        steps: What is to be assigned where; each kind of update has its own.
        slots: What holds something else in this mode alone.
        method: What made tensors or factors of the mode's own, with its values; empty where
            nothing did.
    """

    alphas: tuple[Alpha, ...]
    steps: Any = field(compare=False)
    slots: tuple[Slot, ...] = field(default=(), compare=False)
    method: str = ""

    @property
    def filling(self) -> tuple[Alpha | str, ...]:
        """What a cache is filled with."""
        return (*self.alphas, self.method) if self.method else self.alphas


def changing() -> tuple[Alpha, ...]:
    """The α of a plan whose numbers may change while it holds, so that it equals no other."""
    return (float("nan"),)


@dataclass(frozen=True, slots=True)
class Changed:
    """A tensor that an update changes, or one of several parts of its update.

    Attributes:
        label: What it is; a selection's α for it goes by the name there.
        scales: Whether its α may be any number, in a live model. Not that of DoRA, which is not
            linear in α, nor of a module that stands in for the base's.
        follows: The name of the part whose α it has to have: MoLoRA's router decides nothing
            without its experts. ``None`` for all others.
    """

    label: Label
    scales: bool = True
    follows: str | None = None

    @property
    def name(self) -> str:
        """What a selection's α for it goes by."""
        return self.label.tensor.name


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
        return tuple(plan.filling for plan in self.plans)


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

    @property
    def labels(self) -> Mapping[str, Label]:
        """What a selection's α are worked out for: every tensor by name."""

    @property
    def changed(self) -> Sequence[Changed]:
        """What the update changes."""

    def plan(self, selection: Selection, method: Applied | None = None) -> Plan:
        """Work out what a selection does, and a method before it.

        Refuses whatever cannot be done, and changes nothing.
        """

    def plan_at(self, alphas: Alphas) -> Plan:
        """Work out what α do that a gradient reaches; as :meth:`plan` does."""

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
    labels: Final[Mapping[str, Label]] = MappingProxyType({})
    changed: Final[Sequence[Changed]] = ()

    def plan(self, selection: Selection, method: Applied | None = None) -> Plan:
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

    def plan_at(self, alphas: Alphas) -> Plan:
        """The plan of the mode ``base``: there are no parts to give an α to."""
        check_scales((), alphas)
        return Plan((), ())

    def apply(self, plan: Plan) -> None:
        """Nothing changes."""

    def apply_rows(self, plans: Sequence[Plan]) -> None:
        """Nothing changes."""


def check_scales(changed: Sequence[Changed], alphas: Alphas) -> None:
    """Check that parts take any number as their α.

    Raises:
        InputError: If one is no part of the update, does not, or is parted from the one it follows.
    """
    known = {part.name: part for part in changed}
    for name in alphas.at:
        if name not in known or not known[name].scales:
            why = "is scaled in no live model" if name in known else "is no part of the update"
            raise InputError(
                f"{name} was to have an α with a gradient, and {why}.",
                "Leave it out: it stays as it is in the tuned model.",
            )
    for part in changed:
        if part.follows and alphas.at.get(part.name) != alphas.at.get(part.follows):
            raise InputError(
                f"{part.name} was to have another α than {part.follows}: one is nothing without "
                "the other.",
                "Give both the same place.",
            )
