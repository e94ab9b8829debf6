"""Where either side keeps a tensor, as *byte runs*, and the files that these are read from.

A byte run is a stretch of whole elements in a file. Most tensors are one run; one that the other
side cuts differently (experts fused or not, more or fewer vocabulary rows) is several.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, cast

from taia.checkpoint.header import BITS, Entry
from taia.checkpoint.reading import descriptor
from taia.errors import CheckpointError

ModelSide: TypeAlias = Literal["base", "tuned"]

#: The dtypes that can be computed with.
FLOATS: Final = frozenset({"F16", "BF16", "F32", "F64"})
#: Bytes read at once: what fits a processor's cache.
BUFFER: Final = 1 << 19
_OPEN_FILES: Final = 64

_Made = TypeVar("_Made")


class ByteRun(NamedTuple):
    """A run of whole elements in a file.

    Attributes:
        side: Whose it is.
        file: Where it lies.
        start: Its first byte.
        stop: One past its last byte.
        dtype: The safetensors dtype of its elements.
    """

    side: ModelSide
    file: Path
    start: int
    stop: int
    dtype: str

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return (self.stop - self.start) * 8 // BITS[self.dtype]

    def cut(self, first: int, last: int) -> ByteRun:
        """Its elements from ``first`` up to ``last``."""
        size = BITS[self.dtype]
        return self._replace(
            start=self.start + first * size // 8, stop=self.start + last * size // 8
        )


Runs: TypeAlias = tuple[ByteRun, ...]


def runs_of(entry: Entry, side: ModelSide) -> Runs:
    """A whole tensor."""
    return (ByteRun(side, entry.file, entry.start, entry.stop, entry.dtype),)


def elements(runs: Runs) -> int:
    """How many elements runs have."""
    return sum(run.elements for run in runs)


def cut(runs: Runs, first: int, last: int) -> Runs:
    """The elements of runs from ``first`` up to ``last``."""
    found, offset = [], 0
    for run in runs:
        count = run.elements
        low, high = max(first - offset, 0), min(last - offset, count)
        if low < high:
            found.append(run.cut(low, high))
        offset += count
    return tuple(found)


class Sources:
    """Files open for reading, some at a time; closed at the end of a ``with`` block.

    One thread's: every writer has its own.
    """

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}
        self._remembered: deque[tuple[object, Any]] = deque(maxlen=2)

    def __enter__(self) -> Sources:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def handle(self, file: Path) -> int:
        """A descriptor to read a file with.

        Raises:
            CheckpointError: If it cannot be opened, or is no regular file.
        """
        handle = self._open.get(file)
        if handle is None:
            if len(self._open) >= _OPEN_FILES:
                os.close(self._open.pop(next(iter(self._open))))
            # A link to it was followed, or not, when its header was read.
            folder = file.resolve().parent if file.is_symlink() else None
            handle = self._open[file] = descriptor(file, folder)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return handle

    def remembered(self, key: object, make: Callable[[], _Made]) -> _Made:
        """What ``make`` gives, or gave when it was last asked for by that key; of two keys only."""
        for known, made in self._remembered:
            if known == key:
                return cast(_Made, made)
        made = make()
        self._remembered.append((key, made))
        return made

    def read_into(self, run: ByteRun, offset: int, view: memoryview) -> None:
        """Fill a view with a run's bytes, from ``offset`` on.

        Raises:
            CheckpointError: If the file has become shorter than its header says.
        """
        handle, position = self.handle(run.file), run.start + offset
        while view:
            count = os.preadv(handle, [view], position)
            if not count:
                raise CheckpointError(
                    f"{run.file} became shorter while it was read.",
                    "Leave the inputs alone while they are composed, and try again.",
                )
            view, position = view[count:], position + count

    def read_runs(self, runs: Runs, first: int, view: memoryview) -> None:
        """Fill a view with bytes of runs of one dtype, from byte ``first`` of them all on."""
        for run in runs:
            size = run.stop - run.start
            if first < size and view:
                count = min(size - first, len(view))
                self.read_into(run, first, view[:count])
                view, first = view[count:], 0
            else:
                first -= size

    def same(self, one: Runs, other: Runs) -> bool:
        """Whether runs hold the same bytes."""
        size = sum(run.stop - run.start for run in one)
        if size != sum(run.stop - run.start for run in other):
            return False
        left, right = memoryview(bytearray(BUFFER)), memoryview(bytearray(BUFFER))
        for start in range(0, size, BUFFER):
            count = min(BUFFER, size - start)
            self.read_runs(one, start, left[:count])
            self.read_runs(other, start, right[:count])
            if left[:count] != right[:count]:
                return False
        return True

    def digest(self, file: Path) -> str:
        """The SHA-256 of a whole file."""
        hasher, buffer = hashlib.sha256(), memoryview(bytearray(BUFFER))
        handle, position = self.handle(file), 0
        while count := os.preadv(handle, [buffer], position):
            hasher.update(buffer[:count])
            position += count
        return hasher.hexdigest()
