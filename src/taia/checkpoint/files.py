"""A file that appears whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from taia.checkpoint.output.staging import translated
from taia.errors import DestinationError


def check_file(path: Path, overwrite: bool) -> None:
    """Say beforehand whether a file may be written.

    Raises:
        DestinationError: If something is there, and is not a file that may be replaced.
    """
    if path.is_dir():
        raise DestinationError(f"The output {path} is a folder.", "Give a file's name.")
    if path.exists() and not overwrite:
        raise DestinationError(
            f"The output {path} exists already.", "Choose another --output, or add --overwrite."
        )


def write_file(path: Path, text: str) -> None:
    """Write a file in UTF-8: beside its place first, then into it.

    Raises:
        OutputError: If it cannot be written; what was there stays.
    """
    beside = path.with_name(f".{path.name}.taia-tmp-{os.getpid()}")
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
