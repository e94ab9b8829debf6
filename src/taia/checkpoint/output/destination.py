"""Whether an output may be written, said beforehand, and what is said when it cannot be."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from taia.checkpoint.output import inplace
from taia.checkpoint.output.lock import check_free
from taia.errors import DestinationError, OutputError


def check_output(
    output: Path, inputs: list[Path], overwrite: bool, marks: Sequence[str] = inplace.MODEL_FILES
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
    output = resolved(output)
    for given in inputs:
        for source in _sources(given):
            if output == source or source in output.parents or output in source.parents:
                is_in = source in output.parents
                where = "is" if output == source else "lies in" if is_in else "holds"
                raise DestinationError(
                    f"The output {output} {where} an input, {given}.",
                    "Choose another --output: inputs are never written to.",
                )
    check_free(output)
    if not output.exists():
        _check_parent(output)
        return output
    if not output.is_dir():
        raise DestinationError(f"The output {output} is a file.", "Choose a folder for --output.")
    try:
        empty = not inplace.contents(output)
    except OSError as error:
        raise DestinationError(
            f"The output {output} exists and cannot be listed: {error.strerror or error}.",
            "Check your permissions, or choose another --output.",
        ) from error
    if not (inplace.writable(output.parent) or inplace.writable(output)):
        raise failed(output, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
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


def resolved(output: Path) -> Path:
    """An output's path, absolute and free of symlinks and ``~``.

    Raises:
        DestinationError: If it can be none.
    """
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


def _sources(given: Path) -> set[Path]:
    """Where an input really lies, and the files in it that are links really do."""
    source = given.resolve()
    try:
        links = [path for path in source.iterdir() if path.is_symlink() and path.is_file()]
    except OSError:
        links = []
    return {source, *(path.resolve() for path in links)}


def _check_parent(output: Path) -> None:
    parent = nearest(output.parent)
    if not parent.is_dir():
        raise DestinationError(
            f"{output} cannot be an output: {parent} is a file.", "Choose another --output."
        )
    if not inplace.writable(parent):
        error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(parent))
        raise failed(output, error)


def check_writable(*folders: Path) -> None:
    """Say beforehand whether files can be made in folders, as far as these are there.

    Raises:
        OutputError: If not.
    """
    for folder in folders:
        if folder.is_dir() and not inplace.writable(folder):
            raise failed(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def nearest(folder: Path) -> Path:
    """The innermost folder on the way to one that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder


def failed(output: Path, error: OSError) -> OutputError:
    """That an output could not be written, as the system has it."""
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
        raise failed(output, error) from error
