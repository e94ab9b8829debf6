"""Write all safetensors files of a plan, two at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from taia.checkpoint.composition import Progress
from taia.checkpoint.copying import Sources, write_file
from taia.checkpoint.plan import FilePlan, Plan

#: Copying in memory takes a whole core, so a second one halves the time; more only fight for the
#: disk.
_WRITERS: Final = 2


def write_weights(plan: Plan, folder: Path, progress: Progress | None) -> None:
    """Write the files of a plan.

    Args:
        plan: What to write.
        folder: Where.
        progress: Called with the bytes written so far and the bytes there will be, never by two
            threads at once.

    Raises:
        CheckpointError: If an input changes while it is read.
        OSError: If the disk is full or fails.
    """
    meter = _Meter(plan.size, progress)
    with ThreadPoolExecutor(_WRITERS) as writers, meter.stopping():
        pending = [writers.submit(_write, file, folder / file.name, meter) for file in plan.files]
        for future in pending:
            future.result()


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


def _write(file: FilePlan, path: Path, meter: _Meter) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        with Sources() as sources:
            write_file(handle, file.header, file.size, file.steps(), sources, meter.advance)
    finally:
        os.close(handle)
