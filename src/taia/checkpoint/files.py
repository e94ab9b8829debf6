"""A file that appears whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from taia.checkpoint.output.destination import resolved, translated
from taia.checkpoint.output.staging import MARK, temporary
from taia.errors import DestinationError


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
            with suppress(OSError):
                beside.unlink()
            raise


def sweep_files(folder: Path) -> None:
    """Remove what killed processes left of files in a folder that this process has claimed."""
    for left in folder.rglob(f".*{MARK}*"):
        with suppress(OSError):
            left.unlink()
