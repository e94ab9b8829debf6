"""What is measured: tokens, and the places among them that count."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from taia.errors import DataError


@dataclass(frozen=True, slots=True)
class Example:
    """A row or a prompt, in tokens.

    Attributes:
        key: A hash of what it says; the split into parts goes by it.
        ids: Its tokens.
        counted: Places in ``ids`` whose token counts, ascending, each at least 1, as nothing
            predicts the first: the answers of a row that was learnt; base's own answer to a prompt
            that is kept.
    """

    key: str
    ids: tuple[int, ...]
    counted: tuple[int, ...]

    def __post_init__(self) -> None:
        places = self.counted
        if (
            not places
            or not 1 <= places[0] <= places[-1] < len(self.ids)
            or any(later <= before for before, later in pairwise(places))
        ):
            raise DataError(
                f"The example {self.key} counts the places {list(places[:8])} of "
                f"{len(self.ids)} tokens.",
                "Count at least one place, in ascending order, and not the first.",
            )
