"""One process at a time for each output.

A small file beside the output, ``.NAME.taia-lock``, is locked (``flock``) for as long as a command
works on that output, and names its process. The system frees the lock when a process ends, however
it ends; the file that a killed one leaves is taken over by the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taia.checkpoint.output.inplace import is_fixed
from taia.errors import DestinationError
from taia.signals import Stop

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

_MARK: Final = ".taia-lock"
#: Of a longer name only so many bytes go into the names of our own files beside it, which must
#: stay under the 255 bytes (on encrypted disks 143) that a name may have.
_LONGEST: Final = 80
#: The outputs that this process has locked.
_ours: Final[set[Path]] = set()


def hidden(name: str) -> str:
    """What the names of our own files beside an output of this name begin with."""
    raw = os.fsencode(name)
    if len(raw) <= _LONGEST:
        return f".{name}"
    short = raw[:_LONGEST].decode("utf-8", "ignore")
    return f".{short}-{hashlib.sha256(raw).hexdigest()[:8]}"


@contextlib.contextmanager
def locked(output: Path, *, wait: bool = False) -> Iterator[bool]:
    """Keep other processes from an output while the block lasts.

    SIGTERM and SIGHUP unwind the stack, as Ctrl-C does, so that cleanup runs, and another signal
    does not disturb it. The output's parent folders are made; those that are empty in the end go.

    Args:
        output: A file or folder, or where one shall be; absolute and free of symlinks.
        wait: Wait for a process that has it, instead of refusing.

    Yields:
        Whether there is a lock; some file systems have none.

    Raises:
        DestinationError: If another process has it.
    """
    made: list[Path] = []
    with _terminable():
        try:
            _make_parents(output, made)
            file = _place(output)
            handle = _hold(output, file, wait)
            try:
                yield handle is not None
            finally:
                if handle is not None:
                    _ours.discard(output)
                    with contextlib.suppress(OSError):
                        file.unlink()
                    # A child process may have the handle, too: closing it alone would free nothing.
                    fcntl.flock(handle, fcntl.LOCK_UN)
                    os.close(handle)
        finally:
            for folder in reversed(made):
                with contextlib.suppress(OSError):
                    folder.rmdir()


def check_free(output: Path) -> None:
    """Say beforehand whether another process works on an output, or on a folder it would lie in.

    Raises:
        DestinationError: If one does.
    """
    for place in (output, *output.parents):
        if place not in _ours and _place(place).exists():
            with locked(place):
                pass  # what a killed process left is gone


def _place(output: Path) -> Path:
    return output / _MARK if is_fixed(output) else output.parent / f"{hidden(output.name)}{_MARK}"


def _make_parents(output: Path, made: list[Path]) -> None:
    """Make an output's parent folders; ``made`` gets those that were not there, from the top."""
    missing = [folder for folder in output.parents if not folder.exists()]
    with contextlib.suppress(OSError):  # whoever writes there will tell
        for folder in reversed(missing):
            made.append(folder)
            folder.mkdir(exist_ok=True)


def _hold(output: Path, file: Path, wait: bool) -> int | None:
    """An open lock; none where the system, the file system or permissions allow none."""
    while fcntl is not None:
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if not _is(handle, file):  # its last holder took it away when it was done
                os.close(handle)
                continue
        except BlockingIOError:
            os.close(handle)
            raise _taken(output, file) from None
        except OSError:
            os.close(handle)
            with contextlib.suppress(OSError):
                file.unlink()
            return None
        except BaseException:
            os.close(handle)
            raise
        _ours.add(output)
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()} {socket.gethostname()}\n".encode())
        return handle
    return None


def _is(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


def _taken(output: Path, file: Path) -> DestinationError:
    who = "Another process"
    for _ in range(20):
        try:
            process, host = file.read_text(encoding="utf-8").split()
        except (OSError, ValueError):  # it has the lock, and has not written yet
            time.sleep(0.01)
            continue
        who = f"Process {process}"
        if host != socket.gethostname():
            who += f" on {host}"
        break
    return DestinationError(
        f"{who} is writing {output}.", "Wait until it ends, or choose another --output."
    )


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let signals whose handlers are Python's own unwind the stack, so that cleanup runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = Stop(lambda n: KeyboardInterrupt() if n == signal.SIGINT else SystemExit(128 + n))
    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    before = {number: signal.getsignal(number) for number in numbers if number is not None}
    own = (signal.SIG_DFL, signal.default_int_handler)
    changed = {number: handler for number, handler in before.items() if handler in own}
    try:
        for number in changed:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in changed.items():
            signal.signal(number, handler)
