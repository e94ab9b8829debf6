"""Items in three parts by what they say: to search on, to choose among the best on, to report on.

A part is told by a hash of an item's own words, so that the same text is always in the same part,
whatever stands beside it, and texts that differ in case, punctuation or white space are the same.
What is reported on is sealed: it opens once the choice is made, and not before.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from taia.errors import DataError

T = TypeVar("T")

PartName: TypeAlias = Literal["search", "select", "report"]
#: PartName → its share of all texts.
SHARES: Final[dict[PartName, float]] = {"search": 0.4, "select": 0.2, "report": 0.4}
_WORDS: Final = re.compile(r"[^\W_]+")


def key_of(text: str) -> str:
    """A hash of what a text says: of its letters and digits, whatever their case and between them.

    Signs count only where there are no letters.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    said = " ".join(_WORDS.findall(plain)) or " ".join(plain.split())
    return hashlib.sha256(said.encode("utf-8", "backslashreplace")).hexdigest()


def part_of(key: str, seed: int) -> PartName:
    """The part that a text is in.

    Args:
        key: What :func:`key_of` gives.
        seed: Another one gives other parts.
    """
    place = int(hashlib.sha256(f"{seed} {key}".encode()).hexdigest()[:13], 16) / 16**13
    reach = 0.0
    for part, share in SHARES.items():
        reach += share
        if place < reach:
            return part
    return "report"


class Sealed(Generic[T]):
    """Items that nobody may see before the choice is made."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = tuple(items)
        self._is_open = False

    def open(self) -> tuple[T, ...]:
        """The items, from now on open; for who has chosen."""
        self._is_open = True
        return self._items

    @property
    def items(self) -> tuple[T, ...]:
        """The items.

        Raises:
            AssertionError: If they are sealed.
        """
        assert self._is_open, "the items to report on are sealed until the choice is made"
        return self._items


@dataclass(frozen=True)
class Parts(Generic[T]):
    """Items by part, each part in the order of its hashes, which is as good as any.

    Attributes:
        search: What the search looks at.
        select: What the best of it are compared on.
        report: What is told of the choice, sealed.
    """

    search: tuple[T, ...]
    select: tuple[T, ...]
    report: Sealed[T]


def split(items: Iterable[T], key: Callable[[T], str], what: str, seed: int) -> Parts[T]:
    """Put items into parts; of those with the same key, the first alone.

    Args:
        items: What there is.
        key: An item's hash.
        what: What the items are, for an error, such as ``"--learn"``.
        seed: Of the parts.

    Raises:
        DataError: If a part would be empty.
    """
    once = {key(item): item for item in reversed(list(items))}
    found: dict[PartName, list[tuple[str, T]]] = {part: [] for part in SHARES}
    for name, item in once.items():
        found[part_of(name, seed)].append((name, item))
    if empty := [part for part, some in found.items() if not some]:
        raise DataError(
            f"{what} has {len(once)} different items, of which none is left to {empty[0]} on.",
            "Give more of them: thirty or more, as the choice is made on some and told of others.",
        )
    ordered = {
        part: tuple(item for _, item in sorted(some, key=lambda pair: pair[0]))
        for part, some in found.items()
    }
    return Parts(ordered["search"], ordered["select"], Sealed(ordered["report"]))
