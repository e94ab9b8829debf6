"""Signals that end the work: the first unwinds the stack, and cleanup is then left in peace."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

#: Seconds that cleanup has. Later a signal raises again: a library may have swallowed the first.
GRACE: Final = 10.0


class Interrupted(KeyboardInterrupt):
    """A signal; Python ends as if killed where one of KeyboardInterrupt itself leaves an exec()."""


def hear(handler: Callable[[int, Any], None]) -> None:
    """Let a handler have SIGTERM, and SIGINT unless it is ignored, as under nohup."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)


class Stop:
    """A handler that raises, but not again while what it raised unwinds the stack.

    Whoever presses Ctrl-C twice, or a manager of processes that sends SIGTERM after SIGINT, would
    cut short what removes a half-written output.

    Args:
        error: What to raise for a signal's number.
    """

    def __init__(self, error: Callable[[int], BaseException]) -> None:
        self._error = error
        self._peace = -math.inf

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Hear a signal.

        Raises:
            BaseException: What was asked for.
        """
        now = time.monotonic()
        if now >= self._peace:
            self._peace = now + GRACE
            raise self._error(number)
