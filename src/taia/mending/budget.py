"""How much of everything there is time for."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Final

from taia.errors import InputError

#: Part of the work → its share of the time; what is left of all is for what takes longer.
SHARES: Final = {
    "answers": 0.05,
    "worse": 0.22,
    "search": 0.18,
    "learn": 0.16,
    "select": 0.08,
    "random": 0.05,
    "report": 0.22,
}
#: Examples of a part: never fewer, where there are as many; never more.
FEWEST: Final = 8
MOST: Final = 200
_TIME: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>s|m|h)?")
#: Seconds, where no time is given.
_USUAL: Final = 600.0
_LEAST: Final = 120.0
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float:
    """Seconds from ``90s``, ``5m``, ``1.5h``; a number alone is minutes.

    Raises:
        InputError: If it is no time, or less than ten seconds.
    """
    match = _TIME.fullmatch(text.strip().lower())
    if match is None:
        raise InputError(f"--budget {text!r} is no time.", "Write it as 90s, 5m or 1h.")
    found = float(match["number"]) * _UNITS[match["unit"] or "m"]
    if not 10 <= found <= 30 * 24 * 3600:
        raise InputError(f"--budget {text!r} is {found:g} s.", "Give from 10s to 720h.")
    return found


def usual(trained: float | None) -> float:
    """Seconds where no time is given: ten minutes, or a quarter of what training took if less.

    Args:
        trained: Seconds that the fine-tune took, where that is on record. Below two minutes
            nothing can be told, so that a very short one may take longer to mend than to make.
    """
    return _USUAL if trained is None else min(_USUAL, max(_LEAST, trained / 4))


@dataclass
class Clock:
    """The time that there is, from when it is made.

    Attributes:
        budget: Seconds in all.
    """

    budget: float
    _start: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds that are left; negative when it is over."""
        return self.budget - self.spent

    def share(self, part: str) -> float:
        """Seconds for a part of the work: its share of what is left, among those to come.

        The last one's share is kept for it, whatever took longer before: it is the proof.
        """
        *names, last = SHARES
        if part == last:
            return max(0.0, self.left)
        to_come = names[names.index(part) :]
        left = self.left - self.budget * SHARES[last] / sum(SHARES.values())
        return max(0.0, left) * SHARES[part] / sum(SHARES[name] for name in to_come)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many examples of each kind, learnt and kept alike, a part of the work is done on."""

    search: int
    select: int
    report: int

    @classmethod
    def of(cls, clock: Clock, seconds_an_example: float, candidates: int) -> Sizes:
        """What the time allows.

        Args:
            clock: The time.
            seconds_an_example: For one candidate on one learnt row and one kept prompt.
            candidates: How many are tried: all on a third of the examples, a third of them on all.
        """
        each = max(seconds_an_example, 1e-6)
        whole = clock.left / sum(SHARES.values())
        search = SHARES["search"] * whole / (each * (candidates * 5 / 9 + 2))
        select = SHARES["select"] * whole / (each * 8)
        report = 0.4 * SHARES["report"] * whole / (each * 4)
        return cls(*(int(min(MOST, max(FEWEST, count))) for count in (search, select, report)))
