"""Texts that end an answer, found while it is written."""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Lets text through until one of some texts is complete.

    What may still become a stop is held back. The stop that is complete first ends the text, the
    longer one of two that are complete at once, so that it does not matter in what pieces the text
    arrives.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = sorted(stops, key=len, reverse=True)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Take more text; return what will not change any more, and whether a stop ended it."""
        if not self._stops:
            return text, False
        self._held += text
        found = [
            (start + len(stop), start)
            for stop in self._stops
            if (start := self._held.find(stop)) >= 0
        ]
        if found:
            free, self._held = self._held[: min(found)[1]], ""
            return free, True
        size = len(self._held) - self._beginning()
        free, self._held = self._held[:size], self._held[size:]
        return free, False

    def flush(self) -> str:
        """What is held back, once no more text will come."""
        held, self._held = self._held, ""
        return held

    def _beginning(self) -> int:
        """Length of the longest end of the text that a stop begins with."""
        longest = min(len(self._held), len(self._stops[0]) - 1)
        return next(
            (
                size
                for size in range(longest, 0, -1)
                if any(stop.startswith(self._held[-size:]) for stop in self._stops)
            ),
            0,
        )
