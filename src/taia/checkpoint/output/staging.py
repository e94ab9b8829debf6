"""A folder that appears whole or not at all.

It is written as a hidden sibling of the output and renamed at the end. A process that is killed
leaves only the hidden folder; the next run removes it. Why this way, and what a power cut may do:
docs/decisions/0002-output-appears-whole.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from taia.checkpoint.index import ADAPTER_CONFIG
from taia.errors import DestinationError, OutputError, TaiaError

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

#: What a folder must hold for ``overwrite`` to remove it: nobody's home directory does.
_MODEL_FILES: Final = ("taia_config.json", "config.json", ADAPTER_CONFIG)
_MARK: Final = ".taia-tmp-"
_OLD: Final = "-old"
_EXCHANGE: Final = 2  # RENAME_EXCHANGE of renameat2(2)
_AT_FDCWD: Final = -100


def check_output(
    output: Path, inputs: list[Path], overwrite: bool, marks: Sequence[str] = _MODEL_FILES
) -> Path:
    """Say beforehand whether an output folder may be written.

    Args:
        output: Where it should appear.
        inputs: Folders and files that are read; the output may neither lie in them nor hold them.
        overwrite: Whether a model that is already there may go.
        marks: Files of which a folder must hold one for that; a model's, unless told otherwise.

    Returns:
        The output's path, absolute and free of symlinks.

    Raises:
        DestinationError: If not.
    """
    output = _resolved(output)
    for given in inputs:
        source = given.resolve()
        if output == source or source in output.parents or output in source.parents:
            where = "is" if output == source else "lies in" if source in output.parents else "holds"
            raise DestinationError(
                f"The output {output} {where} an input, {given}.",
                "Choose another --output: inputs are never written to.",
            )
    if not output.exists():
        return output
    if not output.is_dir():
        raise DestinationError(f"The output {output} is a file.", "Choose a folder for --output.")
    try:
        empty = not any(output.iterdir())
    except OSError as error:
        raise DestinationError(
            f"The output {output} exists and cannot be listed: {error.strerror or error}.",
            "Check your permissions, or choose another --output.",
        ) from error
    if empty:
        return output
    if not overwrite:
        raise DestinationError(
            f"The output {output} exists already.", "Choose another --output, or add --overwrite."
        )
    if not any((output / name).is_file() for name in marks):
        raise DestinationError(
            f"The output {output} holds something that is not a model; it is not overwritten.",
            "Choose another --output, or remove that folder yourself.",
        )
    return output


@contextlib.contextmanager
def staged(
    output: str | Path,
    overwrite: bool = False,
    marks: Sequence[str] = _MODEL_FILES,
    *,
    needed: int = 0,
    durable: bool = True,
) -> Iterator[Path]:
    """A folder to write in, which becomes ``output`` when the block ends without an error.

    On an error, on Ctrl-C and on SIGTERM it is removed and ``output`` stays as it was. Folders
    that killed processes left for the same output are removed first.

    Args:
        output: Where the folder shall appear. Its parent folders are made.
        overwrite: Whether a model that is already there is replaced (in one step on Linux).
        marks: See :func:`check_output`.
        needed: Bytes that will be written, where that is known: whether the disk holds them is
            said before the block begins.
        durable: Whether all files are on the disk before the folder appears, so that a power cut
            cannot take from it either; without, that holds for a killed process only.

    Yields:
        An empty, hidden folder on the same disk.

    Raises:
        DestinationError: If the output may not be written.
        OutputError: If it cannot be.
    """
    output = _resolved(Path(output))
    _sweep(output)
    output = check_output(output, [], overwrite, marks)
    _check_space(output, needed)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder, lock = _make(output)
    except OSError as error:
        raise _failed(output, error) from error
    try:
        with _terminable():
            try:
                yield folder
                if durable:
                    for path in (*folder.rglob("*"), folder):
                        _sync(path)
                _into_place(folder, output, overwrite)
                if durable:
                    _sync(output.parent)
            except OSError as error:
                raise _failed(output, error) from error
    finally:
        # After success this is the replaced output, if there was one.
        _remove(folder)
        if lock is not None:
            os.close(lock)


def _resolved(output: Path) -> Path:
    """The output's path, absolute and free of symlinks."""
    try:
        output = output.expanduser()
        if not (output.is_symlink() and not output.exists()):
            return output.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DestinationError(
            f"{str(output)!r} cannot be an output: {reason}.", "Choose another --output."
        ) from error
    raise DestinationError(f"{output} is a broken symlink.", "Remove it, or choose another.")


def _check_space(output: Path, needed: int) -> None:
    free = shutil.disk_usage(_nearest(output.parent)).free
    if free < needed:
        raise OutputError(
            f"{output} needs {_for_people(needed)}; the disk has {_for_people(free)} free.",
            "Free some space, or choose an --output on another disk.",
        )


def _for_people(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _make(output: Path) -> tuple[Path, int | None]:
    """A new staging folder, locked for as long as this process lives (where there are locks)."""
    for attempt in range(100):
        folder = output.parent / f".{output.name}{_MARK}{os.getpid()}-{attempt}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        try:
            return folder, _lock(folder)
        except (BlockingIOError, FileNotFoundError):
            continue  # another process sweeps it away
        except OSError:
            return folder, None
    raise OSError(errno.EEXIST, "no name left for a temporary folder", str(output.parent))


def _lock(folder: Path) -> int:
    """Lock a folder.

    Raises:
        BlockingIOError: If another process has it.
        FileNotFoundError: If it is gone.
        OSError: If the system or the file system has no such locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, "no file locks", str(folder))
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_ino != folder.stat().st_ino:
            raise FileNotFoundError(errno.ENOENT, "another took its place", str(folder))
    except OSError:
        os.close(handle)
        raise
    return handle


def _sweep(output: Path) -> None:
    """Remove what killed processes left for this output: folders that nobody holds locked."""
    for folder in output.parent.glob(f".{_escape(output.name)}{_MARK}*"):
        try:
            lock = _lock(folder)
        except OSError:
            continue
        if folder.name.endswith(_OLD) and not output.exists():
            # Killed between the two renames: the output is still the old one.
            with contextlib.suppress(OSError):
                folder.rename(output)
        else:
            _remove(folder)
        os.close(lock)


def _escape(name: str) -> str:
    return "".join(f"[{char}]" if char in "[]*?" else char for char in name)


def _remove(folder: Path) -> None:
    # What names it a model goes first: half a removed folder must not look like one.
    for name in (*_MODEL_FILES, "model.safetensors.index.json"):
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    """Put a file or folder on the disk, where the file system knows how."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
    finally:
        os.close(handle)


def _into_place(folder: Path, output: Path, overwrite: bool) -> None:
    """Rename the staging folder to the output, swapping with a model that is there."""
    if not (output.exists() and any(output.iterdir())):
        folder.rename(output)  # over an empty folder, too
    elif not overwrite:
        raise DestinationError(
            f"The output {output} appeared in the meantime.",
            "Choose another --output, or add --overwrite.",
        )
    elif not _exchange(folder, output):
        old = folder.with_name(f"{folder.name}{_OLD}")
        output.rename(old)
        try:
            folder.rename(output)
        except OSError:
            old.rename(output)
            raise
        _remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    swapped: int = renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_EXCHANGE)
    )
    return swapped == 0


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack, as Ctrl-C does, so that cleanup runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    changed = []
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stop)
            changed.append(number)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _nearest(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _failed(output: Path, error: OSError) -> TaiaError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"The disk filled up while {output} was being written; nothing is left of it.",
            "Free some space, or choose an --output on another disk.",
        )
    at = f" ({error.filename})" if error.filename else ""
    return OutputError(
        f"{output} could not be written: {error.strerror or error}{at}.",
        "Check the disk and your permissions, or choose another --output.",
    )


@contextlib.contextmanager
def translated(output: Path) -> Iterator[None]:
    """Say of the system's errors in the block that ``output`` could not be written.

    Raises:
        OutputError: If the disk is full or fails.
    """
    try:
        yield
    except OSError as error:
        raise _failed(output, error) from error
