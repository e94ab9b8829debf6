"""Write the safetensors files of a plan in constant memory, two at a time.

Bytes go through a buffer that fits the processor's cache into space that was allocated
beforehand, which is at least as fast as ``copy_file_range`` and ``sendfile``: those hand over
page by page (docs/decisions/0003-copying.md has the measurements).
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from taia.checkpoint.composition import Progress
from taia.checkpoint.plan import FilePlan, Weights
from taia.checkpoint.sources import BUFFER, Sources
from taia.checkpoint.steps import Blend, Convert, Copy, Made, Run, elements, joined
from taia.errors import RunError

#: Copying in memory takes a whole core, so a second one halves the time; more only fight for the
#: disk.
_WRITERS: Final = 2


def write_weights(weights: Weights, folder: Path, progress: Progress | None = None) -> None:
    """Write safetensors files and their index; each gets its header last, so half a file is none.

    Args:
        weights: What to write.
        folder: Where.
        progress: Called with the bytes written so far and the bytes there will be, never by two
            threads at once.

    Raises:
        CheckpointError: If an input changes while it is read.
        OSError: If the disk is full or fails.
        RunError: If something must be calculated and torch is not installed.
    """
    meter = _Meter(weights.size, progress)
    with ThreadPoolExecutor(_WRITERS) as writers, meter.stopping():
        pending = [
            writers.submit(_write_file, file, folder, meter.advance) for file in weights.files
        ]
        for future in pending:
            future.result()
    for name, content in weights.index.items():
        (folder / name).write_bytes(content)


class _Meter:
    """Counts what all writers have written, and stops them when one of them fails."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._done = 0
        self._lock = threading.Lock()
        self._stopped = False

    def advance(self, count: int) -> None:
        if self._stopped:
            raise CancelledError
        with self._lock:
            self._done += count
            if self._progress is not None:
                self._progress(self._done, self._total)

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Stop the writers if the block fails, Ctrl-C included."""
        try:
            yield
        except BaseException:
            self._stopped = True
            raise


def _write_file(file: FilePlan, folder: Path, advance: Callable[[int], None]) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    handle = os.open(folder / file.name, flags, 0o666)
    try:
        _allocate(handle, file.size)
        position = len(file.header)
        with Sources() as sources:
            for chunk in _chunks(file, sources):
                _write(handle, chunk, position)
                position += len(chunk)
                advance(len(chunk))
        if position != file.size:
            raise AssertionError(f"{position} bytes came out where {file.size} were planned")
        _write(handle, file.header, 0)
        advance(len(file.header))
    finally:
        os.close(handle)


def _chunks(file: FilePlan, sources: Sources) -> Iterator[memoryview]:
    """The bytes after the header; a chunk is good until the next is asked for."""
    buffer = memoryview(bytearray(BUFFER))
    for step in joined(step for tensor in file.tensors for step in tensor.steps()):
        if isinstance(step, Copy):
            yield from _copied(step.run, sources, buffer)
        else:
            yield from _computed(step, sources)


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


def _copied(run: Run, sources: Sources, buffer: memoryview) -> Iterator[memoryview]:
    size = run.stop - run.start
    for start in range(0, size, len(buffer)):
        chunk = buffer[: min(len(buffer), size - start)]
        sources.read_into(run, start, chunk)
        yield chunk


def _computed(step: Convert | Blend | Made, sources: Sources) -> Iterable[memoryview]:
    if isinstance(step, Blend) and step.bytewise:
        return _interleaved(step, sources)
    try:
        from taia.checkpoint import arithmetic
    except ImportError as error:
        raise RunError(
            "Fractions of an update and other dtypes are computed with torch, which is missing.",
            "Install it: pip install 'taia[torch]'",
        ) from error
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
