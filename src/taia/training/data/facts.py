"""What became of the rows, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from taia.training.data.row import BadRow, Rows
from taia.training.data.tokens import Tokens


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What became of one source.

    Attributes:
        name: As it was given.
        format: Of its rows.
        sha256: Of its contents, or the commit on the hub.
        weight: As it was given.
        rows: How many can be used.
        bad: How many cannot: not of the format, or refused by the chat template.
        bad_shown: The first of them.
        held_out: Rows validated on, and rows equal to such.
        dropped: Rows left out as too long, or because no answer was left of them.
        used: Rows trained on in an epoch.
        cut: Of those, how many were longer than allowed.
        tokens: Of those, how many they have.
        answer_tokens: Of those, how many the loss counts.
    """

    name: str
    format: str
    sha256: str
    weight: float | None
    rows: int
    bad: int
    bad_shown: tuple[BadRow, ...]
    held_out: int = 0
    dropped: int = 0
    used: int = 0
    cut: int = 0
    tokens: int = 0
    answer_tokens: int = 0

    @classmethod
    def of(cls, rows: Rows, weight: float | None) -> SourceFacts:
        """What is known once a source is read."""
        return cls(
            rows.name,
            rows.format,
            rows.sha256,
            weight,
            len(rows.rows),
            len(rows.bad),
            rows.bad[:_SHOWN],
        )

    def refused(self, bad: Sequence[BadRow], dropped: int) -> SourceFacts:
        """With rows that could not be tokenised."""
        return replace(
            self,
            rows=self.rows - len(bad),
            bad=self.bad + len(bad),
            bad_shown=(*self.bad_shown, *bad)[:_SHOWN],
            dropped=dropped,
        )

    def held(self, count: int) -> SourceFacts:
        """With rows held out."""
        return replace(self, held_out=count)

    def counted(self, tokens: Sequence[Tokens]) -> SourceFacts:
        """With the rows used."""
        return replace(
            self,
            used=len(tokens),
            cut=sum(row.cut for row in tokens),
            tokens=sum(len(row.input_ids) for row in tokens),
            answer_tokens=sum(int(row.counts.sum()) for row in tokens),
        )


@dataclass(frozen=True, slots=True)
class Facts:
    """What became of all sources.

    Attributes:
        sources: One by one.
        validation: The sources of the rows held out, of which only those count as used.
        rows: Rows trained on in an epoch.
        examples: The packs of them, or as many as rows.
        tokens: In an epoch.
        answer_tokens: Of those, how many the loss counts.
    """

    sources: tuple[SourceFacts, ...]
    validation: tuple[SourceFacts, ...]
    rows: int
    examples: int
    tokens: int
    answer_tokens: int


_SHOWN = 20
