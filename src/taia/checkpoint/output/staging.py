"""A folder, or a file, that appears whole or not at all.

What is written is a hidden sibling of the output, renamed at the end; see :mod:`.inplace` for
outputs that cannot be. A process that is killed leaves only the hidden folder; the next run removes
it. Why this way, and what a power cut may do: docs/decisions/0002-output-appears-whole.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from taia.checkpoint.output import inplace
from taia.checkpoint.output.destination import (
    check_output,
    nearest,
    resolved,
    translated,
)
from taia.checkpoint.output.lock import hidden, locked
from taia.errors import DestinationError, OutputError
from taia.text import in_bytes

#: In the names of what is not in its place yet.
MARK: Final = ".taia-tmp-"
_OLD: Final = "-old"
_EXCHANGE: Final = 2  # RENAME_EXCHANGE of renameat2(2)
_AT_FDCWD: Final = -100


@contextlib.contextmanager
def staged(
    output: str | Path,
    overwrite: bool = False,
    marks: Sequence[str] = inplace.MODEL_FILES,
    *,
    needed: int = 0,
    durable: bool = True,
    wait: bool = False,
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
        wait: Wait for a process that writes the same output, instead of refusing.

    Yields:
        An empty, hidden folder on the same disk.

    Raises:
        DestinationError: If the output may not be written, or another process is writing it.
        OutputError: If it cannot be.
    """
    with claimed(Path(output), wait=wait) as output:
        output = check_output(output, [], overwrite, marks)
        _check_space(output, needed)
        inside = output.is_dir() and (inplace.is_fixed(output) or output == Path.cwd())
        folder = _free(output, inside)
        try:
            with translated(output):
                output.parent.mkdir(parents=True, exist_ok=True)
                folder.mkdir()
                yield folder
                if durable:
                    for path in (*folder.rglob("*"), folder):
                        _sync(path)
                _into_place(folder, output, overwrite, inside)
                if durable:
                    _sync(output if inside else output.parent)
        finally:
            # After success this is the replaced output, if there was one.
            inplace.remove(folder)


def _check_space(output: Path, needed: int) -> None:
    free = shutil.disk_usage(nearest(output)).free
    if free < needed:
        raise OutputError(
            f"{output} needs {in_bytes(needed)}; the disk has {in_bytes(free)} free.",
            "Free some space, or choose an --output on another disk.",
        )


def _free(output: Path, inside: bool) -> Path:
    """Where a staging folder can be: nobody else's name, even where there are no locks."""
    name = f"{MARK}{os.getpid()}-{secrets.token_hex(4)}"
    return output / name if inside else _beside(output, name)


def _beside(output: Path, suffix: str) -> Path:
    return output.with_name(f"{hidden(output.name)}{suffix}")


def temporary(file: Path) -> Path:
    """Where a file is written before it is moved into its place."""
    return _beside(file, f"{MARK}{os.getpid()}")


@contextlib.contextmanager
def claimed(output: Path, *, wait: bool = False) -> Iterator[Path]:
    """Have an output, file or folder, for this process alone, without what killed ones left of it.

    Args:
        output: Where; it need not be there.
        wait: Wait for a process that has it, instead of refusing.

    Yields:
        Its path, absolute and free of symlinks.

    Raises:
        DestinationError: If another process has it, or the path can be no output.
    """
    output = resolved(output)
    with locked(output, wait=wait) as alone:
        if alone:
            _sweep(output)
        yield output


def _sweep(output: Path) -> None:
    """Remove what killed processes left for an output that this process has locked."""
    for left in output.parent.glob(f"{_escape(hidden(output.name))}{MARK}*"):
        if left.name.endswith(_OLD) and not output.exists():
            # Killed between the two renames: the output is still the old one.
            with contextlib.suppress(OSError):
                left.rename(output)
        else:
            inplace.remove(left)
    inplace.sweep(output, MARK)


def _escape(name: str) -> str:
    return "".join(f"[{char}]" if char in "[]*?" else char for char in name)


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


def _into_place(folder: Path, output: Path, overwrite: bool, inside: bool) -> None:
    """Put the staging folder in the output's place, swapping with a model that is there."""
    there = output.exists() and inplace.contents(output)
    if there and not overwrite:
        raise DestinationError(
            f"The output {output} appeared in the meantime.",
            "Choose another --output, or add --overwrite.",
        )
    if inside:
        inplace.swap(folder, output)
    elif not there:
        folder.rename(output)  # over an empty folder, too
    elif not _exchange(folder, output):
        old = folder.with_name(f"{folder.name}{_OLD}")
        output.rename(old)
        try:
            folder.rename(output)
        except OSError:
            old.rename(output)
            raise
        inplace.remove(old)


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


# --- files --------------------------------------------------------------------------------------


def check_file(path: Path, overwrite: bool) -> Path:
    """Say beforehand whether a file may be written.

    Returns:
        Its path, absolute and free of symlinks.

    Raises:
        DestinationError: If something is there, and is not a file that may be replaced.
    """
    path = resolved(path)
    if path.is_dir():
        raise DestinationError(f"The output {path} is a folder.", "Give a file's name.")
    if path.exists() and not path.is_file():
        raise DestinationError(
            f"The output {path} is a device or pipe, which is never replaced.",
            "Give a file's name.",
        )
    if path.exists() and not overwrite:
        raise DestinationError(
            f"The output {path} exists already.", "Choose another --output, or add --overwrite."
        )
    return path


def write_file(path: Path, text: str) -> None:
    """Write a file in UTF-8: beside its place first, then into it.

    Raises:
        DestinationError: If a folder, device or pipe is there.
        OutputError: If it cannot be written; what was there stays.
    """
    path = check_file(path, overwrite=True)
    beside = temporary(path)
    # Half a surrogate pair is no UTF-8, but may be in a path that the text names.
    data = text.encode("utf-8", "backslashreplace")
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(data)
            beside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise


def sweep_files(folder: Path) -> None:
    """Remove what killed processes left of files in a folder that this process has claimed."""
    for left in folder.rglob(f".*{MARK}*"):
        with contextlib.suppress(OSError):
            left.unlink()
