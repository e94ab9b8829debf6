"""How files of a model folder are opened: only regular ones, of the folder itself, up to a size.

A model folder may come from anywhere. Named pipes and devices would hang or never end, a link out
of the folder would carry somebody's file into the output, and a few megabytes of JSON can become
gigabytes of Python. So every file is opened here, and what is read is bounded before it is read.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from taia.errors import CheckpointError

#: The most bytes of JSON that are read. A header or an index of 100,000 tensors takes half of it;
#: a character outside the Basic Multilingual Plane makes four bytes of each when it is decoded.
LONGEST_JSON: Final = 25_000_000
#: The most values in it: each takes some hundred bytes of memory, however short it is written.
_MOST_VALUES: Final = 1_000_000
#: How deep it may be nested: copying and writing recurse.
_DEEPEST: Final = 64

_AGAIN: Final = "Download or save the file again."
_BLOB: Final = re.compile(r"[0-9a-f]{64}")
#: What huggingface_hub puts into a cache's store of files that several repositories share.
_SHARED: Final = ".huggingface-shared-blobs"


def descriptor(file: Path, folder: Path | None = None) -> int:
    """A descriptor to read a file of a model folder with, which the caller closes.

    Args:
        file: Its path.
        folder: The model folder, where that is not the one the file lies in.

    Raises:
        CheckpointError: If it cannot be read, is no regular file, or is a link that leaves the
            folder for anywhere but the hub cache's ``blobs``.
    """
    real = _inside(file, file.parent if folder is None else folder)
    try:
        # Without O_NONBLOCK, opening a named pipe waits for somebody to write.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(real, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise unreadable(file, error) from error
    try:
        mode = os.fstat(handle).st_mode
    except OSError as error:
        os.close(handle)
        raise unreadable(file, error) from error
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise CheckpointError(
            f"{file} is a {_kind(mode)}, not a file.", "Give a folder that holds plain files."
        )
    return handle


@contextmanager
def opened(file: Path, folder: Path | None = None) -> Iterator[BinaryIO]:
    """The same as a stream, for a ``with`` block.

    Raises:
        CheckpointError: As :func:`descriptor` does.
    """
    with os.fdopen(descriptor(file, folder), "rb") as stream:
        yield stream


def read_bytes(file: Path, folder: Path | None = None, most: int = LONGEST_JSON) -> bytes:
    """All of a small file.

    Raises:
        CheckpointError: As :func:`opened` does, and if it has more than ``most`` bytes.
    """
    with opened(file, folder) as stream:
        try:
            if os.fstat(stream.fileno()).st_size > most:
                raise CheckpointError(
                    f"{file} is too long for what it should be: more than {most:,} bytes.",
                    "Check the file.",
                )
            return stream.read(most)
        except OSError as error:
            raise unreadable(file, error) from error


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Infinities are read, as some architectures' ``config.json`` holds them.

    Raises:
        CheckpointError: If it cannot be read, or holds something else or more than can be used.
    """
    try:
        value = parse_object(read_bytes(file))
        _check_depth(value)
    except NotAnObjectError as error:
        raise CheckpointError(f"{file} {error}.", _AGAIN) from error
    return value


class NotAnObjectError(ValueError):
    """Why bytes are no usable JSON object, to be said after "it"."""


def parse_object(data: bytes | memoryview) -> dict[str, Any]:
    """A JSON object, in memory that is bounded beforehand.

    Raises:
        NotAnObjectError: If it is none; if a key occurs twice with two values; if it has NaN, a
            million values or numbers of thousands of digits.
    """
    try:
        text = str(data, "utf-8")
    except ValueError as error:
        raise NotAnObjectError(f"is not JSON ({error})") from error
    if sum(map(text.count, ",[{")) > _MOST_VALUES:
        raise NotAnObjectError(f"has more than {_MOST_VALUES:,} values")
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise NotAnObjectError(f"is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise NotAnObjectError("is not a JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if seen.setdefault(key, value) != value:
                raise ValueError(f"{reprlib.repr(key)} occurs twice")
    return found


def _constant(name: str) -> float:
    if name == "NaN":
        raise ValueError("NaN is not a JSON number")
    return float(name)


def _check_depth(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [x for values in inner for x in values if isinstance(x, dict | list)]
        if not level:
            return
    raise NotAnObjectError(f"is nested more than {_DEEPEST} deep")


def copy(file: Path, target: Path, folder: Path | None = None) -> None:
    """Copy a file of a model folder, whatever its length.

    Raises:
        CheckpointError: As :func:`opened` does.
        OSError: If the copy cannot be written.
    """
    with target.open("xb") as out, opened(file, folder) as stream:
        shutil.copyfileobj(stream, out, 1 << 20)


def is_file(file: Path, folder: Path | None = None) -> bool:
    """Whether there is a file to open; folders are none.

    Raises:
        CheckpointError: If there is something else: a device, a link to nowhere or out of the
            folder.
    """
    if not os.path.lexists(file) or file.is_dir():
        return False
    with opened(file, folder):
        return True


def _inside(file: Path, folder: Path) -> Path:
    """Where a file really lies, if it may."""
    if file.parent == folder and not os.path.islink(file):  # noqa: PTH114 - is_symlink may raise
        return file  # in its folder, whatever links lead to that
    try:
        real, home = Path(os.path.realpath(file)), Path(os.path.realpath(folder))
    except (OSError, ValueError) as error:
        raise unreadable(file, error) from error
    if real.is_relative_to(home) or _is_blob(real, home):
        return real
    raise CheckpointError(
        f"{file} is a link that leaves its folder, to {real}.",
        "Put the file itself there if it belongs to the model: links out of it are not followed.",
    )


def _is_blob(real: Path, home: Path) -> bool:
    """Whether a file is one of the hub cache's, ``models--org--name/blobs/HASH``."""
    store = real.parent
    if store.name == "blobs":
        repository = store.parent
        return repository.name.startswith("models--") or repository / "snapshots" in home.parents
    shared = store.parent
    return (
        shared.name == "blobs"
        and _BLOB.fullmatch(real.name) is not None
        and real.name.startswith(store.name)
        and (shared / _SHARED).is_file()
    )


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISFIFO(mode):
        return "named pipe"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def unreadable(file: Path, error: Exception) -> CheckpointError:
    """What the system says when a file cannot be opened or read, as an error."""
    why = getattr(error, "strerror", None) or error
    return CheckpointError(
        f"{file} cannot be read: {why}.", "Check that the file exists and that you may read it."
    )
