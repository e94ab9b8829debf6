"""What every format becomes: a row of turns, some of which are learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowTurn:
    """One message, or one stretch of text.

    Attributes:
        role: ``system``, ``user``, ``assistant`` or ``tool``; ``text`` where there is no chat.
        content: What it says; not empty.
        learnt: Whether the loss counts it.
    """

    role: str
    content: str
    learnt: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """What is trained on at once; at least one of its turns is learnt.

    Attributes:
        turns: In order.
        chat: Whether the tokenizer's chat template renders it. If not, the turns are one text,
            joined as they are.
    """

    turns: tuple[RowTurn, ...]
    chat: bool = True


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used.

    Attributes:
        number: Its line for JSON lines and CSV, its place in the list else; both from 1.
        why: What is wrong with it.
        place: Where it is, in words: ``line 3``, in a folder ``part.jsonl, line 3``.
    """

    number: int
    why: str
    place: str


@dataclass(frozen=True)
class Rows:
    """The rows of one source.

    Attributes:
        name: The source, as it was given.
        format: The name of the format they had.
        rows: The rows that can be used, in order; at least one.
        places: Where each of them is, in words.
        bad: The others.
        sha256: Of the file; of the files' names and hashes for a folder; the commit on the hub.
    """

    name: str
    format: str
    rows: Sequence[Row]
    places: Sequence[str]
    bad: tuple[BadRow, ...]
    sha256: str
