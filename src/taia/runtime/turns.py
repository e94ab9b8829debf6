"""Who may run a model and who may switch it, when there are several threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock, get_ident

from taia.errors import RunError


class Turns:
    """One thread at a time runs the model or switches it; the others wait.

    A thread inside a block keeps the mode: other threads may run the model in it, as streaming
    from ``generate`` in a second thread does, but are refused a switch. They do not wait for the
    block, as its thread may well be waiting for them.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._running = 0
        self._owners: list[int] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """The model runs."""
        with self._lock:
            self._running += 1
            try:
                yield
            finally:
                self._running -= 1

    @contextmanager
    def switching(self) -> Iterator[None]:
        """The mode changes.

        Raises:
            RunError: If another thread is inside a block, or the model is in the middle of running.
        """
        with self._lock:
            if self._running:
                raise RunError(
                    "The mode was to change in the middle of a forward pass or generation.",
                    "Change it before or after.",
                )
            if self._owners and self._owners[-1] != get_ident():
                raise RunError(
                    "The mode was to change while another thread holds the model in one.",
                    "Leave the `with model.mode(...)` of that thread first.",
                )
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Other threads wait, whatever they want to do."""
        with self._lock:
            yield

    @property
    def in_block(self) -> bool:
        """Whether some thread is inside a block."""
        return bool(self._owners)

    def enter(self) -> None:
        """A block begins; while switching."""
        self._owners.append(get_ident())

    def leave(self) -> None:
        """A block ends; while switching."""
        self._owners.pop()
