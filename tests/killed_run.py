"""Runs a composition again and again in a real process, killed at one moment after another.

A moment is a system call that concerns the output: before it, for a write also half way through
it, and each report of progress. What has been loaded stays loaded: every run is a fork.

Called with a JSON list of jobs ``{"root", "moments", "old", "swap", "arguments"}``; prints for each
``{"events", "ended": {moment: signal}}``. The run killed at a moment writes ``root/MOMENT/out``,
where a copy of ``old`` lies before; the undisturbed one is ``root/whole/out``.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import signal
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

from taia.checkpoint.compose import compose

_AUDITED = {
    "open",
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "fcntl.ioctl",
    "ctypes.dlsym",  # on the way to renameat2
}


class Counter:
    """Counts moments, and kills its own process at one of them."""

    def __init__(self, last: int) -> None:
        self.count, self._last, self._lock = 0, last, threading.Lock()

    def __call__(self, *_: object) -> None:
        with self._lock:
            self.count += 1
            if self.count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        pwrite = os.pwrite

        def halved(handle: int, data: Any, position: int) -> int:
            self()
            done = pwrite(handle, data[: len(data) // 2], position)
            self()
            return done + pwrite(handle, data[done:], position + done)

        os.pwrite = halved
        for name in ("fsync", "posix_fallocate", "ftruncate"):
            setattr(os, name, self._before(getattr(os, name)))
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        # What is opened to be read is no moment: which thread opens an input is chance.
        if event in _AUDITED and (event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            self()

    def _before(self, call: Any) -> Any:
        def counted(*arguments: Any) -> Any:
            self()
            return call(*arguments)

        return counted


def run(job: dict[str, Any], folder: Path, moment: int) -> tuple[int, int]:
    """Fork, compose, and end; returns how the process ended and what it counted."""
    folder.mkdir(parents=True)
    if job["old"]:
        shutil.copytree(job["old"], folder / "out")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        counter = Counter(moment)
        counter.install()
        try:
            compose(**job["arguments"], output=folder / "out", progress=counter)
            os.write(writer, str(counter.count).encode())
        finally:
            os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as stream:
        return status, int(stream.read() or 0)


def work(job: dict[str, Any]) -> dict[str, Any]:
    """One job."""
    root = Path(job["root"])
    # Loads what is loaded late, so that only the work itself is counted.
    compose(**job["arguments"], output=root / "first")
    shutil.rmtree(root / "first")
    gc.freeze()  # or every fork would copy all objects as soon as it collects garbage
    missing = OSError(errno.ENOSYS, "a system without renameat2")
    with nullcontext() if job["swap"] else mock.patch("ctypes.CDLL", side_effect=missing):
        _, events = run(job, root / "whole", 0)
        count = min(events, job["moments"])
        moments = sorted({1 + index * (events - 1) // (count - 1) for index in range(count)})
        ended = {moment: run(job, root / str(moment), moment)[0] for moment in moments}
    return {"events": events, "ended": ended}


if __name__ == "__main__":
    print(json.dumps([work(job) for job in json.loads(sys.argv[1])]))
