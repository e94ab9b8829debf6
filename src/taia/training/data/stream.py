"""Tokens of one source, as many as are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from taia.training.data.reading import refusal
from taia.training.data.row import BadRow, Rows
from taia.training.data.template import UnrenderedError
from taia.training.data.tokens import RowEncoder, Tokens

#: Told how many rows of how many are done.
RowProgress: TypeAlias = Callable[[int, int], None]

#: Rows tokenised at once.
_BATCH: Final = 1000


class Counter:
    """Counts rows done, and tells."""

    def __init__(self, total: int, progress: RowProgress | None) -> None:
        self._done = 0
        self._total = total
        self._progress = progress

    def add(self, count: int) -> None:
        """So many rows more are done."""
        self._done += count
        if self._progress:
            self._progress(min(self._done, self._total), self._total)


class Stream:
    """Tokenises rows of a source in a given order, skipping those that nothing is left of.

    Attributes:
        bad: Rows that the chat template refused.
        dropped: How many were too long, or without an answer once cut.
    """

    def __init__(
        self, rows: Rows, encoder: RowEncoder, on_bad_row: Literal["stop", "skip"], counter: Counter
    ) -> None:
        self.bad: list[BadRow] = []
        self.dropped = 0
        self._rows = rows
        self._encoder = encoder
        self._on_bad_row = on_bad_row
        self._counter = counter

    def take(self, order: Sequence[int], wanted: int) -> list[Tokens]:
        """Tokenise rows, in order, until there are as many as wanted or no more.

        Raises:
            DataError: If the template refuses a row and bad rows stop; or if the tokenizer is not
                fit for masks.
        """
        taken: list[Tokens] = []
        place = 0
        while len(taken) < wanted and place < len(order):
            batch = order[place : place + min(_BATCH, wanted - len(taken))]
            place += len(batch)
            refused = []
            for index, coded in zip(
                batch, self._encoder.encode([self._rows.rows[i] for i in batch]), strict=True
            ):
                if isinstance(coded, Tokens):
                    taken.append(coded)
                elif isinstance(coded, UnrenderedError):
                    where = self._rows.places[index]
                    number = int(where.rpartition(" ")[2])
                    refused.append(BadRow(number, str(coded), where))
                else:
                    self.dropped += 1
            self.bad += sorted(refused, key=lambda row: row.place)
            if self.bad and self._on_bad_row == "stop":
                raise refusal(self._rows.name, self.bad, len(batch))
            self._counter.add(len(batch))
        return taken
