"""A folder that must stay what it is: its contents change places instead.

A mount point (a container's volume), the folder somebody stands in, and one whose parent may not be
written cannot be renamed. What shall be in it is written into a hidden folder inside, and moved up.
A name in the suffix says how far that is, so that the next run can undo what a kill cut short:
``-moving`` while the old goes aside, ``-old`` while the new moves up.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from taia.checkpoint.folders import ADAPTER_CONFIG

#: What makes a folder a model; without them, what is in it is none, whole or not.
MODEL_FILES: Final = ("taia_config.json", "config.json", ADAPTER_CONFIG)
#: What our own names inside such a folder begin with.
OURS: Final = ".taia-"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_MOVING: Final = "-moving"
_OLD: Final = "-old"
#: Made with every ext file system, at its mount point.
_LOST: Final = "lost+found"


def is_fixed(output: Path) -> bool:
    """Whether a folder is there and cannot be renamed by anybody in our place."""
    return output.is_dir() and (_is_mount(output) or not writable(output.parent))


def writable(folder: Path) -> bool:
    """Whether this process can make something in a folder; tried with a file that has no name.

    Permissions alone do not tell: of ``/proc`` and the like they say yes to root.
    """
    effective = os.access in os.supports_effective_ids
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=effective):
        return False
    try:
        tempfile.TemporaryFile(dir=folder, prefix=OURS).close()
    except OSError as error:
        return error.errno in _FULL  # that is told as what it is, where something is written
    return True


def contents(folder: Path) -> list[Path]:
    """What is in a folder, but for what we or the file system keep there."""
    return [p for p in folder.iterdir() if not p.name.startswith(OURS) and p.name != _LOST]


def swap(folder: Path, output: Path) -> None:
    """Move what is in a hidden folder inside ``output`` up, in place of what is there.

    Raises:
        OSError: If it cannot be; ``output`` is as it was.
    """
    moving = folder.with_name(f"{folder.name}{_MOVING}")
    try:
        moving.mkdir()
        _move(_models_first(contents(output)), moving)
        moving.rename(folder.with_name(f"{folder.name}{_OLD}"))
        _move(reversed(_models_first(folder.iterdir())), output)
        folder.rmdir()
    finally:
        restore(output, folder)


def restore(output: Path, folder: Path) -> None:
    """Undo a swap that stopped half-way; what is left of one that did not goes."""
    moving, old = (folder.with_name(f"{folder.name}{suffix}") for suffix in (_MOVING, _OLD))
    if old.is_dir() and folder.is_dir():
        for path in contents(output):
            remove(path)
        old.rename(moving)
    if moving.is_dir():
        _move(reversed(_models_first(moving.iterdir())), output)
        moving.rmdir()
    if old.is_dir():
        remove(old)


def sweep(output: Path, mark: str) -> None:
    """Undo or end what killed processes left in a folder."""
    names = {p.name for p in output.glob(f"{mark}*")} if output.is_dir() else set()
    for name in sorted({re.sub(f"({_MOVING}|{_OLD})$", "", name) for name in names}):
        restore(output, output / name)
        remove(output / name)


def clear(output: Path) -> None:
    """Empty a folder; what names it a model goes first.

    Raises:
        OSError: If something is still there.
    """
    for path in _models_first(contents(output)):
        remove(path)
    left = contents(output)
    if left:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(left[0]))


def remove(path: Path) -> None:
    """Remove a file or folder as far as that is possible, read-only or not."""
    if path.is_symlink() or not path.is_dir():
        with contextlib.suppress(OSError):
            path.unlink()
        return
    # What names it a model goes first: half a removed folder must not look like one.
    for name in (*MODEL_FILES, "model.safetensors.index.json"):
        with contextlib.suppress(OSError):
            (path / name).unlink()

    shutil.rmtree(path, ignore_errors=True)
    if path.is_dir():  # what is in a folder that may not be written not even its owner can remove
        with contextlib.suppress(OSError):
            path.chmod(stat.S_IRWXU)
        for folder, names, _ in os.walk(path):
            for inner in (Path(folder, name) for name in names):
                if not inner.is_symlink():
                    with contextlib.suppress(OSError):
                        inner.chmod(stat.S_IRWXU)
        shutil.rmtree(path, ignore_errors=True)


def _models_first(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (path.name not in MODEL_FILES, path.name))


def _move(paths: Iterable[Path], folder: Path) -> None:
    for path in paths:
        path.rename(folder / path.name)


def _is_mount(folder: Path) -> bool:
    if os.path.ismount(folder):
        return True
    try:  # a folder of the same disk, mounted a second time
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return False
    octal = re.compile(r"\\(\d{3})")
    places = (octal.sub(lambda found: chr(int(found[1], 8)), line.split()[4]) for line in lines)
    return str(folder) in places
