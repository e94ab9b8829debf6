"""``taia_config.json``: what an output was made of, so that it can be made again.

Full hashes of the inputs would cost more than the composition, which never reads the half it does
not keep. So every file gets a *sampled* hash by default: SHA-256 over its header and the first and
last 4 KiB of each tensor, which tells any two fine-tunes apart but does not prove that a file is
undamaged. docs/decisions/0004-input-hashes.md
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

from taia.checkpoint.composition import Composition
from taia.checkpoint.folders import ADAPTER_CONFIG
from taia.checkpoint.header import Entry, Shard
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.locate import Located
from taia.checkpoint.plan import as_json
from taia.checkpoint.reading import is_file, read_bytes
from taia.checkpoint.sources import ByteRun, Sources

#: The name of the record in an output.
MANIFEST: Final = "taia_config.json"

_SAMPLE: Final = 4096
#: Tensors sampled together: half a megabyte of samples at most.
_GROUP: Final = 64
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Model(Protocol):
    """An input: a checkpoint, or an adapter."""

    @property
    def folder(self) -> Path:
        """Where it lies."""

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Its safetensors files."""


def identity(located: Located, model: Model, full: bool = False) -> dict[str, Any]:
    """What an input is: where it came from and what its files hold.

    Args:
        located: Where it was found.
        model: Its headers.
        full: Whether to read and hash every byte.
    """
    config = model.folder / ("config.json" if isinstance(model, Checkpoint) else ADAPTER_CONFIG)
    files = []
    with Sources() as sources:
        for shard in model.shards:
            record = {
                "name": shard.file.name,
                "bytes": shard.size,
                "sampled_sha256": sampled_hash(shard, sources),
            }
            whole = sources.digest(shard.file) if full else _blob_hash(shard.file)
            if whole:
                record["sha256"] = whole
            files.append(record)
    if is_file(config):
        content = read_bytes(config)
        digest = hashlib.sha256(content).hexdigest()
        files.append({"name": config.name, "bytes": len(content), "sha256": digest})
    return {**origin(located), "files": files}


def origin(located: Located) -> dict[str, Any]:
    """Where an input came from."""
    found = {
        "given": located.given,
        "path": None if located.repo else str(located.path.resolve()),
        "repo": located.repo,
        "revision": located.revision,
        "commit": located.commit,
    }
    return {key: value for key, value in found.items() if value is not None}


def sampled_hash(shard: Shard, sources: Sources) -> str:
    """SHA-256 over a file's header and the first and last 4 KiB of each of its tensors."""
    hasher = hashlib.sha256(shard.header)
    for some in together(shard.entries):
        hasher.update(samples(some, sources))
    return hasher.hexdigest()


def together(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Tensors in groups whose samples are read at once."""
    return (entries[first : first + _GROUP] for first in range(0, len(entries), _GROUP))


def samples(entries: Iterable[Entry], sources: Sources) -> bytes:
    """The first and last 4 KiB of some tensors, one after another; all of small ones."""
    pieces: list[tuple[Path, int, int]] = []
    for entry in entries:
        whole = entry.nbytes <= 2 * _SAMPLE
        cuts = () if whole else (entry.start + _SAMPLE, entry.stop - _SAMPLE)
        bounds = (entry.start, *cuts, entry.stop)
        for start, stop in zip(bounds[::2], bounds[1::2], strict=True):
            if pieces and pieces[-1][0] is entry.file and pieces[-1][2] == start:
                start = pieces.pop()[1]  # small neighbours are one piece
            pieces.append((entry.file, start, stop))
    found = bytearray(sum(stop - start for _, start, stop in pieces))
    rest = memoryview(found)
    for file, start, stop in pieces:
        sources.read_into(ByteRun("base", file, start, stop, "U8"), 0, rest[: stop - start])
        rest = rest[stop - start :]
    return bytes(found)


def _blob_hash(file: Path) -> str | None:
    """The SHA-256 that the hub's cache names a large file by, ``None`` elsewhere: costs nothing."""
    if not file.is_symlink():
        return None
    blob = file.resolve()
    return blob.name if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name) else None


def versions(*libraries: str) -> dict[str, str]:
    """The versions of what took part: taia, Python, torch if it was loaded, and those named."""
    found = {"taia": _version("taia"), "python": platform.python_version()}
    if "torch" in sys.modules:
        found["torch"] = _version("torch")
    return found | {name: _version(name) for name in libraries}


def write_manifest(
    folder: Path,
    composition: Composition,
    *,
    keep: str,
    base: dict[str, Any] | None,
    tuned: dict[str, Any],
    more: Mapping[str, Any] | None = None,
    **settings: object,
) -> None:
    """Write ``taia_config.json``.

    Args:
        folder: Where.
        composition: What was done.
        keep: The selection as it was typed.
        base: The base's :func:`identity`, or what else says what it was.
        tuned: The tuned model's or the adapter's.
        more: Of what else was read, by what it is.
        **settings: Further options that changed the result.
    """
    done = composition.to_json()
    record = {
        "versions": versions(),
        "kind": done["kind"],
        "selection": {"given": keep, "canonical": done["selection"]},
        "settings": {key: value for key, value in settings.items() if value is not None},
        "base": base,
        "tuned": tuned,
        **(more or {}),
        "components": done["components"],
        "total": done["total"],
        "notes": done["notes"],
    }
    write_json(folder / MANIFEST, record)


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Write JSON as :func:`taia.checkpoint.plan.as_json` spells it."""
    file.write_bytes(as_json(value))


@cache  # it reads the whole of a package's description
def _version(name: str) -> str:
    from importlib import metadata  # slow to import

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"


def command(base: str, tuned: str, keep: str, output: str, *flags: str) -> str:
    """The command line that makes an output again."""
    import shlex

    words = ["taia", "compose", base, tuned, "--keep", keep, *flags, "--output", output]
    return shlex.join(os.fspath(word) for word in words)
