"""Write the safetensors files of a plan in constant memory, by two threads.

Where the file system shares blocks (btrfs, XFS), whole ranges are cloned. Elsewhere bytes go
through a buffer that fits the processor's cache into space that was allocated beforehand, in pieces
that keep both threads busy until the end (docs/decisions/0003-copying.md has the measurements).
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from taia.checkpoint.composition import ByteProgress
from taia.checkpoint.plan import FilePlan, Weights
from taia.checkpoint.sources import BUFFER, ByteRun, Sources, elements
from taia.checkpoint.steps import Blend, Convert, Copy, Made, Step, joined

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

#: Copying in memory takes a whole core, so a second one halves the time; more only fight for the
#: disk.
_WRITERS: Final = 2
#: Bytes of a copy that one thread takes at a time.
_PIECE: Final = 1 << 25
#: File systems share whole blocks; none that can has larger ones by default.
_BLOCK: Final = 1 << 12
#: Linux's FICLONERANGE and its ``struct file_clone_range``.
_CLONE: Final = 0x4020940D
_CLONE_RANGE: Final = struct.Struct("qQQQ")


@contextmanager
def writing(weights: Weights, folder: Path, progress: ByteProgress | None = None) -> Iterator[None]:
    """Write safetensors files and their index while a ``with`` block does something else.

    They are written when the block is left. Each gets its header last, so half a file is none.

    Args:
        weights: What to write.
        folder: Where.
        progress: Called with the bytes written so far and the bytes there will be, never by two
            threads at once.

    Raises:
        CheckpointError: If an input changes while it is read.
        OSError: If the disk is full or fails.
    """
    work = _Work(weights, folder, progress)
    try:
        with ThreadPoolExecutor(_WRITERS) as writers:
            pending = [writers.submit(work.run) for _ in range(_WRITERS)]
            try:
                yield
                for future in pending:
                    future.result()
            finally:  # after an error or Ctrl-C the other threads must not go on
                work.stop()
    finally:
        work.close()
    for name, content in weights.index.items():
        (folder / name).write_bytes(content)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes of one file of the output that one thread writes at a time."""

    file: _File
    position: int
    step: Step


class _File:
    """A file of the output while it is written.

    Attributes:
        plan: What it will be.
        handle: A descriptor to write with.
        pieces: All of it but the header, from the first byte to the last; once.
        left: How many of its pieces are not written, and one more while not all are handed out.
        clones: Whether its blocks can be those of the files that it is copied from.
    """

    def __init__(self, plan: FilePlan, folder: Path) -> None:
        self.plan = plan
        self.left = 1
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        self.handle = os.open(folder / plan.name, flags, 0o666)
        try:
            os.ftruncate(self.handle, plan.size)
            self.pieces, self.clones = self._first_copy_cloned()
            if not self.clones:
                _allocate(self.handle, plan.size)
        except BaseException:
            os.close(self.handle)
            raise

    def _cut(self) -> Iterator[_Piece]:
        position = len(self.plan.header)
        for step in joined(step for tensor in self.plan.tensors for step in tensor.steps()):
            for part in _parts(step):
                yield _Piece(self, position, part)
                position += part.nbytes
        if position != self.plan.size:
            raise AssertionError(f"{position} bytes come out where {self.plan.size} were planned")

    def clone(self, run: ByteRun, position: int, sources: Sources) -> tuple[int, int]:
        """Let a run's whole blocks be blocks of this file, too.

        Returns:
            Which bytes of the run, counted from its first, are here now: from, up to.
        """
        skip = -run.start % _BLOCK
        size = (run.stop - run.start - skip) // _BLOCK * _BLOCK
        if fcntl is None or size <= 0 or (position + skip) % _BLOCK:
            return 0, 0
        source = sources.handle(run.file), run.start + skip, size
        try:
            fcntl.ioctl(self.handle, _CLONE, _CLONE_RANGE.pack(*source, position + skip))
        except OSError:  # another disk, or a file system that shares nothing
            return 0, 0
        return skip, skip + size

    def _first_copy_cloned(self) -> tuple[Iterator[_Piece], bool]:
        """Its pieces, and whether the first copy of whole blocks could be cloned."""
        pieces, seen = self._cut(), []
        with Sources() as sources:
            for piece in pieces:
                seen.append(piece)
                if isinstance(piece.step, Copy) and piece.step.nbytes >= 2 * _BLOCK:
                    first, last = self.clone(piece.step.run, piece.position, sources)
                    return chain(seen, pieces), first < last
        return iter(seen), False


class _Work:
    """What is to be written: handed out piece by piece, and counted."""

    def __init__(self, weights: Weights, folder: Path, progress: ByteProgress | None) -> None:
        self._weights, self._folder, self._progress = weights, folder, progress
        self._pieces = self._hand_out()
        self._open: set[_File] = set()
        self._done = 0
        self._lock = threading.Lock()
        self._stopped = False
        self._alone, self._limits = False, ExitStack()

    def run(self) -> None:
        """Write pieces until there are no more: what each thread does."""
        buffer = memoryview(bytearray(BUFFER))
        with Sources() as sources:
            while piece := self._next():
                self._write(piece, sources, buffer)
                with self._lock:
                    self._finish(piece.file)

    def stop(self) -> None:
        """Let every thread end with its present chunk."""
        self._stopped = True

    def close(self) -> None:
        """Close what an error left open, and give the machine's cores back."""
        self._limits.close()
        while self._open:
            os.close(self._open.pop().handle)

    def _hand_out(self) -> Iterator[_Piece]:
        for plan in self._weights.files:
            file = _File(plan, self._folder)
            self._open.add(file)
            for piece in file.pieces:
                file.left += 1
                yield piece
            self._finish(file)

    def _next(self) -> _Piece | None:
        with self._lock:
            return next(self._pieces, None)

    def _write(self, piece: _Piece, sources: Sources, buffer: memoryview) -> None:
        step, file, position = piece.step, piece.file, piece.position
        if not isinstance(step, Copy):
            self._calculate_alone()
            for chunk in _computed(step, sources):
                _write(file.handle, chunk, position)
                position += len(chunk)
                self._advance(len(chunk))
            return
        first, last = file.clone(step.run, position, sources) if file.clones else (0, 0)
        self._advance(last - first)
        for start, stop in ((0, first), (last, step.nbytes)):
            for offset in range(start, stop, BUFFER):
                chunk = buffer[: min(BUFFER, stop - offset)]
                sources.read_into(step.run, offset, chunk)
                _write(file.handle, chunk, position + offset)
                self._advance(len(chunk))

    def _calculate_alone(self) -> None:
        """Keep BLAS from threads of its own: two writers' would wait for one another's."""
        with self._lock:
            if not self._alone:
                import numpy as np  # noqa: F401  # what is not loaded is not limited
                from threadpoolctl import threadpool_limits

                self._alone = True
                self._limits.enter_context(threadpool_limits(1, "blas"))

    def _finish(self, file: _File) -> None:
        """Count off one of a file's pieces; the last makes it whole."""
        file.left -= 1
        if not file.left:
            _write(file.handle, file.plan.header, 0)
            self._open.remove(file)
            os.close(file.handle)
            self._count(len(file.plan.header))

    def _advance(self, count: int) -> None:
        if self._stopped:
            raise CancelledError
        with self._lock:
            self._count(count)

    def _count(self, count: int) -> None:
        self._done += count
        if self._progress is not None and count:
            self._progress(self._done, self._weights.size)


def _parts(step: Step) -> Iterator[Step]:
    """A step, or the pieces of a long copy."""
    if not isinstance(step, Copy):
        yield step
        return
    run = step.run
    # Cut where blocks end in the source, so that no piece's edge is copied where it can be cloned.
    edges = range((run.start // _PIECE + 1) * _PIECE, run.stop, _PIECE)
    for start, stop in zip((run.start, *edges), (*edges, run.stop), strict=True):
        yield Copy(run._replace(start=start, stop=stop))


def _allocate(handle: int, size: int) -> None:
    if not hasattr(os, "posix_fallocate") or not size:
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        # Some file systems cannot; then the space is found while writing.
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def _write(handle: int, data: bytes | memoryview, position: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(handle, view, position)
        view, position = view[count:], position + count


def _computed(step: Convert | Blend | Made, sources: Sources) -> Iterable[memoryview]:
    if isinstance(step, Blend) and step.bytewise:
        return _interleaved(step, sources)
    from taia.checkpoint import arithmetic

    if isinstance(step, Convert):
        return arithmetic.converted(step, sources)
    if isinstance(step, Blend):
        return arithmetic.blended(step, sources)
    return step.chunks(sources)


def _interleaved(step: Blend, sources: Sources) -> Iterator[memoryview]:
    """Rows made of pieces of either side, without decoding them."""
    total = elements(step.base)
    width = sum(run.stop - run.start for run in step.base) // total
    period = step.period * width
    rows = max(1, (1 << 20) // period)
    mine, theirs = bytearray(rows * period), bytearray(rows * period)
    taken = [(a * width, b * width) for a, b, alpha in step.pieces if alpha == 1.0]
    for start in range(0, total * width, rows * period):
        size = min(rows * period, total * width - start)
        out, other = memoryview(mine)[:size], memoryview(theirs)[:size]
        sources.read_runs(step.base, start, out)
        sources.read_runs(step.tuned, start, other)
        for row in range(0, size, period):
            for first, last in taken:
                out[row + first : row + last] = other[row + first : row + last]
        yield out
