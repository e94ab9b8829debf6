"""Which mode a live model is in: its modes by name, and the blocks that hold it in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from taia.errors import AdapterError, InputError, RunError, SelectionError
from taia.runtime.caches import caches_in, mark
from taia.runtime.turns import Turns
from taia.runtime.update import Changed, Plan, State, Update
from taia.selection import MODES, Selection

if TYPE_CHECKING:
    from transformers import Cache

    from taia.anatomy import Label
    from taia.methods import Applied

#: The modes that every model has, and whose names no other selection may take.
_ENDS: Final = {name: MODES[name] for name in ("base", "tuned")}
#: The further modes that it has where none are asked for.
_USUAL: Final = ("taia", "taif")


class Switch:
    """What a model's update can be put in, and what it is in.

    Args:
        update: The update.
        modes: Name → selection; None for the usual ones.
    """

    def __init__(self, update: Update, modes: Mapping[str, str] | None) -> None:
        self._update = update
        self._turns = Turns()
        self._selections: dict[str, str] = {}
        self._plans: dict[str, Plan] = {}
        self._name_modes(modes)
        found = update.found_in
        self._state = self._found = State(found, (self._plans[found],))
        self._before: list[State] = []  # of the blocks that it is in, the outermost first
        self._ends: list[Callable[[], None]] = []  # what releases the model; none once it is

    @property
    def labels(self) -> Mapping[str, Label]:
        """Name → label of every tensor that a selection gives an α to."""
        return self._update.labels

    @property
    def changed(self) -> Sequence[Changed]:
        """The tensors that the update changes, or parts of their updates."""
        return self._update.changed

    @property
    def modes(self) -> Mapping[str, str]:
        """Name → selection of each mode, in the order in which they were named."""
        return MappingProxyType(self._selections)

    @property
    def current(self) -> str:
        """The mode it is in; while rows are in modes of their own, their names with commas."""
        return self._state.name

    @property
    def can_mix(self) -> bool:
        """Whether rows of one batch can be in different modes.

        True for LoRA and MoLoRA on dense models; false for checkpoints, for DoRA, and for models
        whose experts see the tokens of all rows together.
        """
        return self._update.cannot_mix is None

    def add_mode(self, name: str, selection: str, *, method: Applied | None = None) -> None:
        """Name a selection, and work out what it does, so that switching to it is quick.

        What a method calculates is kept until the mode is forgotten: the tensors of a checkpoint,
        or of an adapter its factors or the weights that it has in their place.

        Args:
            name: What the mode is called.
            selection: What is kept.
            method: What is done to the update before the selection; None for nothing.

        Raises:
            SelectionError: If it cannot be read or matches nothing, or the name is taken.
            AdapterError: If the update cannot be cut so, or the method means nothing on it.
            MethodError: If the method needs what a live model has not.
        """
        plan = self._update.plan(Selection.parse(selection), method)
        if self._plans.setdefault(name, plan) != plan:
            raise SelectionError(
                f"The mode {name!r} is {self._selections[name]!r} already.",
                f"Give {selection!r} another name.",
            )
        self._selections.setdefault(name, selection)

    def forget_mode(self, name: str) -> None:
        """Forget a mode by its name, and free what it alone held.

        Raises:
            SelectionError: If there is none of that name, or it is ``base`` or ``tuned``.
            RunError: If the model is in it, or goes back to it when a block ends.
        """
        if name in _ENDS or name not in self._plans:
            raise SelectionError(
                f"There is no mode {name!r} to forget."
                if name not in self._plans
                else f"The mode {name!r} is every model's.",
                f"Name another: {', '.join(other for other in self._plans if other not in _ENDS)}.",
            )
        plan = self._plans[name]
        if any(plan is other for state in (*self._before, self._state) for other in state.plans):
            raise RunError(
                f"The mode {name!r} was to be forgotten while the model is in it.",
                "Leave it first.",
            )
        del self._plans[name], self._selections[name]

    def set_mode(self, mode: str) -> None:
        """Put the model in a mode, until it is put in another.

        Args:
            mode: A mode's name, or a selection.

        Raises:
            SelectionError: If it is neither.
            RunError: If the model is running, or another thread holds it in a mode.
        """
        with self._turns.switching():
            self._switch(State(mode, (self._plan(mode),)))

    @contextmanager
    def mode(self, mode: str) -> Iterator[None]:
        """Put the model in a mode for the length of a block.

        When the block ends, by an exception too, the model is bit for bit what it was before.

        Raises:
            SelectionError: As :meth:`set_mode` does.
            RunError: As :meth:`set_mode` does.
        """
        with self._block(State(mode, (self._plan(mode),))):
            yield

    @contextmanager
    def rows(self, modes: Sequence[str]) -> Iterator[None]:
        """Put each row of the batches that run in a block in a mode of its own.

        Args:
            modes: A mode for each row.

        Raises:
            AdapterError: If modes differ and cannot be mixed (:attr:`can_mix`).
            SelectionError: As :meth:`set_mode` does.
            RunError: As :meth:`set_mode` does.
        """
        with self._block(self._of_rows(modes)):
            yield

    def filled(self, cache: Cache, modes: Sequence[str]) -> None:
        """Say in which modes the rows of a cache were filled.

        Only for who cuts and joins the rows of caches; else the model keeps account itself.
        """
        filling = self._of_rows(modes).filling
        for part in caches_in(cache):
            mark(part, filling)

    def _plan(self, mode: str) -> Plan:
        if mode in self._plans:
            return self._plans[mode]
        try:
            return self._update.plan(Selection.parse(mode))
        except SelectionError as error:
            raise SelectionError(
                error.problem, f"{error.mend}; or name a mode: {', '.join(self._plans)}"
            ) from error

    def _of_rows(self, modes: Sequence[str]) -> State:
        plans = tuple(self._plan(mode) for mode in modes)
        if not plans:
            raise InputError("There are no modes for the rows.", "Give one mode for each row.")
        if all(plan == plans[0] for plan in plans):
            return State(modes[0], plans[:1], len(plans))
        made = next((plan.method for plan in plans if plan.method), None)
        why = self._update.cannot_mix or (made and f"what {made} made is one for all rows")
        if why:
            raise AdapterError(
                f"Rows of this model cannot be in different modes: {why}.",
                "Run one batch in each mode.",
            )
        return State(", ".join(modes), plans, len(plans))

    def _switch(self, state: State) -> None:
        if not self._ends:
            raise RunError(
                "The model has been made switchable anew, and is no longer this one's to switch.",
                "Use the SwitchableModel that wraps it now.",
            )
        if len(state.plans) == 1:
            self._update.apply(state.plans[0])
        else:
            self._update.apply_rows(state.plans)
        self._state = state

    @contextmanager
    def _block(self, state: State) -> Iterator[None]:
        with self._turns.switching():
            self._before.append(self._state)
            self._turns.enter()
        try:
            with self._turns.switching():
                self._switch(state)
            yield
        finally:
            with self._turns.alone():
                self._turns.leave()
                self._switch(self._before.pop())

    def _rows_or_not(self, modes: Sequence[str] | None) -> AbstractContextManager[None]:
        return nullcontext() if modes is None else self.rows(modes)

    def _name_modes(self, modes: Mapping[str, str] | None) -> None:
        ends = _ENDS if self._update.has_update else {"base": MODES["base"]}
        for name, selection in (*ends.items(), *(modes or {}).items()):
            self.add_mode(name, selection)
        if modes is None and self._update.has_update:
            for name in _USUAL:
                # A model without a feed-forward block has no taif.
                with suppress(SelectionError, AdapterError):
                    self.add_mode(name, MODES[name])
