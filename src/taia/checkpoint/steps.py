"""The bytes of one output tensor, as steps: copy this, blend those.

A *rope* is a tensor's elements as runs of bytes in files. Most ropes have one run; a tensor that
the other side cuts differently (experts fused or not, more or fewer vocabulary rows) has several.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from taia.checkpoint.header import BITS, Entry
from taia.selection.alpha import Alpha, Pieces

Side: TypeAlias = Literal["base", "tuned"]

#: A run of rows at least this long is copied by itself; shorter ones are read with what lies
#: between them, because a system call costs as much as copying some ten kilobytes.
_LONG_RUN: Final = 1 << 16
#: Rows longer than this (in elements) are never read whole.
_LONG_PERIOD: Final = 1 << 20
#: The dtypes that can be computed with.
FLOATS: Final = frozenset({"F16", "BF16", "F32", "F64"})


class Extent(NamedTuple):
    """A run of whole elements in a file.

    Attributes:
        side: Whose it is.
        file: Where it lies.
        start: Its first byte.
        stop: One past its last byte.
        dtype: The safetensors dtype of its elements.
    """

    side: Side
    file: Path
    start: int
    stop: int
    dtype: str

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return (self.stop - self.start) * 8 // BITS[self.dtype]

    def cut(self, first: int, last: int) -> Extent:
        """Its elements from ``first`` up to ``last``."""
        size = BITS[self.dtype]
        return self._replace(
            start=self.start + first * size // 8, stop=self.start + last * size // 8
        )


Rope: TypeAlias = tuple[Extent, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """Bytes as they are."""

    extent: Extent


@dataclass(frozen=True, slots=True)
class Convert:
    """Elements rounded to another dtype."""

    extent: Extent
    dtype: str


@dataclass(frozen=True, slots=True)
class Blend:
    """base + α·(tuned − base), element by element.

    Attributes:
        base: The base's elements.
        tuned: As many of the tuned model's.
        dtype: What the result is rounded to.
        period: After how many elements the pieces repeat.
        pieces: ``(start, stop, α)`` in elements, consecutive from 0 to the period.
    """

    base: Rope
    tuned: Rope
    dtype: str
    period: int
    pieces: tuple[tuple[int, int, float], ...]

    @property
    def bytewise(self) -> bool:
        """Whether it only interleaves bytes of the two sides."""
        return all(alpha in (0.0, 1.0) for _, _, alpha in self.pieces) and all(
            extent.dtype == self.dtype for extent in self.base + self.tuned
        )


Step: TypeAlias = Copy | Convert | Blend


@dataclass(frozen=True, slots=True)
class Pair:
    """One tensor of the output and where either side keeps it.

    Attributes:
        name: Its name in the output.
        dtype: Its dtype in the output.
        shape: Its sizes in the output.
        base: The base's elements.
        tuned: The tuned model's; ``None`` where it has none and the base's are kept whatever α.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    base: Rope
    tuned: Rope | None


def rope(entry: Entry, side: Side) -> Rope:
    """A whole tensor."""
    return (Extent(side, entry.file, entry.start, entry.stop, entry.dtype),)


def elements(runs: Rope) -> int:
    """How many elements a rope has."""
    return sum(extent.elements for extent in runs)


def cut(runs: Rope, first: int, last: int) -> Rope:
    """The elements of a rope from ``first`` up to ``last``."""
    found, offset = [], 0
    for extent in runs:
        count = extent.elements
        low, high = max(first - offset, 0), min(last - offset, count)
        if low < high:
            found.append(extent.cut(low, high))
        offset += count
    return tuple(found)


def steps(pair: Pair, alpha: Alpha) -> Iterator[Step]:
    """How to write one tensor, from its first byte to its last.

    Args:
        pair: The tensor.
        alpha: Its α.
    """
    if not math.prod(pair.shape):
        return
    if pair.tuned is None or alpha == 0.0:
        yield from _take(pair.base, pair.dtype)
    elif alpha == 1.0:
        yield from _take(pair.tuned, pair.dtype)
    elif not isinstance(alpha, Pieces):
        yield _blend(pair, pair.base, pair.tuned, 1, ((0, 1, alpha),))
    else:
        yield from _pieces(pair, pair.tuned, alpha)


def _take(runs: Rope, dtype: str) -> Iterator[Step]:
    for extent in runs:
        yield Copy(extent) if extent.dtype == dtype else Convert(extent, dtype)


def _blend(
    pair: Pair, base: Rope, tuned: Rope, period: int, pieces: tuple[tuple[int, int, float], ...]
) -> Blend:
    return Blend(base, tuned, pair.dtype, period, pieces)


def _pieces(pair: Pair, tuned: Rope, alpha: Pieces) -> Iterator[Step]:
    inner = math.prod(pair.shape[alpha.axis + 1 :])
    outer = math.prod(pair.shape[: alpha.axis])
    period = pair.shape[alpha.axis] * inner
    pieces = tuple((start * inner, stop * inner, value) for start, stop, value in alpha.pieces)
    shortest = min(stop - start for start, stop, _ in pieces)
    short = shortest * BITS[pair.dtype] // 8 < _LONG_RUN
    if outer > 1 and short and period <= _LONG_PERIOD:
        yield _blend(pair, pair.base, tuned, period, pieces)
        return
    for block in range(outer):
        for start, stop, value in pieces:
            first, last = block * period + start, block * period + stop
            if value == 0.0:
                yield from _take(cut(pair.base, first, last), pair.dtype)
            elif value == 1.0:
                yield from _take(cut(tuned, first, last), pair.dtype)
            else:
                runs = cut(pair.base, first, last), cut(tuned, first, last)
                yield _blend(pair, *runs, 1, ((0, 1, value),))
