"""The bytes of one output tensor, as steps: copy this, blend those, make the rest.

What is copied and blended lies in byte runs (:mod:`taia.checkpoint.sources`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from taia.checkpoint.header import BITS
from taia.checkpoint.sources import ByteRun, Runs, Sources, cut, elements
from taia.selection.alpha import Alpha, Pieces

#: A piece of rows at least this long is copied by itself; shorter ones are read with what lies
#: between them, because a system call costs as much as copying some ten kilobytes.
LONG_PIECE: Final = 1 << 16
#: Rows longer than this (in elements) are never read whole.
_LONG_PERIOD: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Copy:
    """Bytes as they are."""

    run: ByteRun

    @property
    def nbytes(self) -> int:
        """Bytes of the output."""
        return self.run.stop - self.run.start


@dataclass(frozen=True, slots=True)
class Convert:
    """Elements rounded to another dtype."""

    run: ByteRun
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of the output."""
        return self.run.elements * BITS[self.dtype] // 8


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

    base: Runs
    tuned: Runs
    dtype: str
    period: int
    pieces: tuple[tuple[int, int, float], ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the output."""
        return elements(self.base) * BITS[self.dtype] // 8

    @property
    def bytewise(self) -> bool:
        """Whether it only interleaves bytes of the two sides."""
        return all(alpha in (0.0, 1.0) for _, _, alpha in self.pieces) and all(
            run.dtype == self.dtype for run in self.base + self.tuned
        )


@dataclass(frozen=True, slots=True)
class Made:
    """Bytes that a function makes when their turn comes: merged weights, scaled factors.

    Attributes:
        chunks: Gives them piece by piece, reading what it needs.
        nbytes: How many they are.
    """

    chunks: Callable[[Sources], Iterable[memoryview]]
    nbytes: int


Step: TypeAlias = Copy | Convert | Blend | Made


@dataclass(frozen=True, slots=True)
class TensorPair:
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
    base: Runs
    tuned: Runs | None


def steps(pair: TensorPair, alpha: Alpha) -> Iterator[Step]:
    """How to write one tensor of two checkpoints, from its first byte to its last."""
    if not math.prod(pair.shape):
        return
    if pair.tuned is None or alpha == 0.0:
        yield from _take(pair.base, pair.dtype)
    elif alpha == 1.0:
        yield from _take(pair.tuned, pair.dtype)
    elif not isinstance(alpha, Pieces):
        yield Blend(pair.base, pair.tuned, pair.dtype, 1, ((0, 1, alpha),))
    else:
        yield from _pieces(pair, pair.tuned, alpha)


def joined(work: Iterable[Step]) -> Iterator[Step]:
    """The same steps, copies of neighbouring bytes made one."""
    run: ByteRun | None = None
    stop = 0  # of the copy that has begun with this run
    for step in work:
        if isinstance(step, Copy):
            start, file = step.run.start, step.run.file
            if run is not None and start == stop and (file is run.file or file == run.file):
                stop = step.run.stop
                continue
        if run is not None:
            yield Copy(run._replace(stop=stop))
        if isinstance(step, Copy):
            run, stop = step.run, step.run.stop
        else:
            run = None
            yield step
    if run is not None:
        yield Copy(run._replace(stop=stop))


def _take(runs: Runs, dtype: str) -> Iterator[Step]:
    for run in runs:
        yield Copy(run) if run.dtype == dtype else Convert(run, dtype)


def _pieces(pair: TensorPair, tuned: Runs, alpha: Pieces) -> Iterator[Step]:
    inner = math.prod(pair.shape[alpha.axis + 1 :])
    outer = math.prod(pair.shape[: alpha.axis])
    period = pair.shape[alpha.axis] * inner
    pieces = tuple((start * inner, stop * inner, value) for start, stop, value in alpha.pieces)
    shortest = min(stop - start for start, stop, _ in pieces)
    short = shortest * BITS[pair.dtype] // 8 < LONG_PIECE
    if outer > 1 and short and period <= _LONG_PERIOD:
        yield Blend(pair.base, tuned, pair.dtype, period, pieces)
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
                yield Blend(*runs, pair.dtype, 1, ((0, 1, value),))
