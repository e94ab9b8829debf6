"""Write one safetensors file from steps, in constant memory.

Bytes go through a buffer that fits the processor's cache into space that was allocated
beforehand, which is at least as fast as ``copy_file_range`` and ``sendfile``: those hand over
page by page (docs/decisions/0003-copying.md has the measurements).
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from taia.checkpoint.steps import Blend, Convert, Copy, Extent, Rope, Step, elements
from taia.errors import CheckpointError, RunError

_BUFFER: Final = 1 << 19
_OPEN_FILES: Final = 64


class Sources:
    """The files that are read, kept open (some at a time)."""

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}

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
        """A descriptor to read a file with."""
        handle = self._open.get(file)
        if handle is None:
            if len(self._open) >= _OPEN_FILES:
                os.close(self._open.pop(next(iter(self._open))))
            handle = self._open[file] = os.open(file, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return handle

    def read_into(self, extent: Extent, offset: int, view: memoryview) -> None:
        """Fill a view with an extent's bytes, from ``offset`` on.

        Raises:
            CheckpointError: If the file has become shorter than its header says.
        """
        handle, position = self.handle(extent.file), extent.start + offset
        while view:
            count = os.preadv(handle, [view], position)
            if not count:
                raise CheckpointError(
                    f"{extent.file} became shorter while it was read.",
                    "Leave the inputs alone while they are composed, and try again.",
                )
            view, position = view[count:], position + count

    def read_rope(self, runs: Rope, first: int, view: memoryview) -> None:
        """Fill a view with a rope's bytes, from byte ``first`` on; the rope has one dtype."""
        for extent in runs:
            size = extent.stop - extent.start
            if first < size and view:
                count = min(size - first, len(view))
                self.read_into(extent, first, view[:count])
                view, first = view[count:], 0
            else:
                first -= size

    def same(self, one: Rope, other: Rope) -> bool:
        """Whether two ropes hold the same bytes."""
        size = sum(extent.stop - extent.start for extent in one)
        if size != sum(extent.stop - extent.start for extent in other):
            return False
        left, right = memoryview(bytearray(_BUFFER)), memoryview(bytearray(_BUFFER))
        for start in range(0, size, _BUFFER):
            count = min(_BUFFER, size - start)
            self.read_rope(one, start, left[:count])
            self.read_rope(other, start, right[:count])
            if left[:count] != right[:count]:
                return False
        return True

    def digest(self, file: Path) -> str:
        """The SHA-256 of a whole file."""
        hasher, buffer = hashlib.sha256(), memoryview(bytearray(_BUFFER))
        handle, position = self.handle(file), 0
        while count := os.preadv(handle, [buffer], position):
            hasher.update(buffer[:count])
            position += count
        return hasher.hexdigest()


def write_file(
    handle: int,
    header: bytes,
    size: int,
    work: Iterable[Step],
    sources: Sources,
    advance: Callable[[int], None],
) -> None:
    """Write a safetensors file; its header goes in last, so that half a file is none.

    Args:
        handle: The new file, open and empty.
        header: Its first bytes.
        size: Its length.
        work: How to write its tensors, in the order of their bytes.
        sources: What to read with.
        advance: Called with the number of bytes written, again and again.

    Raises:
        CheckpointError: If an input changes while it is read.
        OSError: If the disk is full or fails.
    """
    _allocate(handle, size)
    position, buffer = len(header), memoryview(bytearray(_BUFFER))
    for step in joined(work):
        chunks = (
            _copied(step.extent, sources, buffer)
            if isinstance(step, Copy)
            else _computed(step, sources)
        )
        for chunk in chunks:
            _write(handle, chunk, position)
            position += len(chunk)
            advance(len(chunk))
    if position != size:
        raise AssertionError(f"{position} bytes came out where {size} were planned")
    _write(handle, header, 0)
    advance(len(header))


def joined(work: Iterable[Step]) -> Iterator[Step]:
    """The same steps, copies of neighbouring bytes made one."""
    last: Step | None = None
    for step in work:
        if isinstance(last, Copy) and isinstance(step, Copy):
            one, other = last.extent, step.extent
            if one.file == other.file and one.stop == other.start:
                last = Copy(one._replace(stop=other.stop))
                continue
        if last is not None:
            yield last
        last = step
    if last is not None:
        yield last


def _allocate(handle: int, size: int) -> None:
    if not hasattr(os, "posix_fallocate") or not size:
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        # Some file systems cannot; then the space is found while writing.
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def _write(handle: int, data: bytes | bytearray | memoryview, position: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(handle, view, position)
        view, position = view[count:], position + count


def _copied(extent: Extent, sources: Sources, buffer: memoryview) -> Iterator[memoryview]:
    size = extent.stop - extent.start
    for start in range(0, size, len(buffer)):
        chunk = buffer[: min(len(buffer), size - start)]
        sources.read_into(extent, start, chunk)
        yield chunk


def _computed(step: Convert | Blend, sources: Sources) -> Iterator[memoryview]:
    if isinstance(step, Blend) and step.bytewise:
        return _interleaved(step, sources)
    try:
        from taia.checkpoint.blending import blended, converted
    except ImportError as error:
        raise RunError(
            "Fractions of an update and other dtypes are computed with torch, which is missing.",
            "Install it: pip install 'taia[torch]'",
        ) from error
    if isinstance(step, Convert):
        return converted(step, sources)
    return blended(step, sources)


def _interleaved(step: Blend, sources: Sources) -> Iterator[memoryview]:
    """Rows made of pieces of either side, without decoding them."""
    total = elements(step.base)
    width = sum(extent.stop - extent.start for extent in step.base) // total
    period = step.period * width
    rows = max(1, (1 << 20) // period)
    mine, theirs = bytearray(rows * period), bytearray(rows * period)
    taken = [(a * width, b * width) for a, b, alpha in step.pieces if alpha == 1.0]
    for start in range(0, total * width, rows * period):
        size = min(rows * period, total * width - start)
        out, other = memoryview(mine)[:size], memoryview(theirs)[:size]
        sources.read_rope(step.base, start, out)
        sources.read_rope(step.tuned, start, other)
        for row in range(0, size, period):
            for first, last in taken:
                out[row + first : row + last] = other[row + first : row + last]
        yield out
