"""Writing a merged checkpoint: the base's files, byte for byte but for the changed tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from taia.anatomy.components import COMPONENTS
from taia.checkpoint.adapters.place import Placement
from taia.checkpoint.composition import Progress, Row, Share
from taia.checkpoint.header import Entry, make_header
from taia.checkpoint.index import INDEX, SINGLE, Checkpoint, read_json
from taia.checkpoint.manifest import write_json
from taia.checkpoint.merging.change import Change
from taia.checkpoint.merging.tied import Untied
from taia.errors import CheckpointError

_CHUNK: Final = 1 << 20


def rows(
    base: Checkpoint,
    placement: Placement,
    changes: Mapping[str, tuple[Change, ...]],
    untied: Untied | None,
) -> tuple[Row, ...]:
    """The match table: per component what is the base's, the tuned model's, or neither's."""
    table: dict[str, Row] = {}
    entries = [
        (name, entry, placement.labels[name].component) for name, entry in base.tensors.items()
    ]
    if untied is not None and untied.head not in base.tensors:
        entries.append((untied.head, untied.source, "head"))
    for name, entry, component in entries:
        row = table.get(component, Row(component))
        share = Share(1, math.prod(entry.shape), entry.nbytes)
        alphas = {change.alpha for change in changes.get(name, ())}
        if not alphas:
            row = replace(row, base=row.base + share)
        elif alphas == {1.0}:
            row = replace(row, tuned=row.tuned + share)
        else:
            row = replace(row, blended=row.blended + share)
        table[component] = row
    return tuple(table[component] for component in COMPONENTS if component in table)


def write_tensors(
    base: Checkpoint,
    folder: Path,
    make: Mapping[str, Callable[[], bytes]],
    added: Entry | None,
    progress: Progress | None,
) -> None:
    """Writes a checkpoint's safetensors files, and their index.

    Args:
        base: What to copy.
        folder: Where.
        make: Name of each changed tensor → its new bytes.
        added: A tensor that the base does not have; its bytes are those of this entry, unless they
            are made. It goes to the end of the last file.
        progress: Called with the bytes written so far and the bytes there will be.

    Raises:
        CheckpointError: If the base changes while it is read.
        OSError: If the disk is full or fails.
    """
    last = base.shards[-1]
    total = sum(entry.nbytes for entry in (*base.tensors.values(), *([added] if added else [])))
    done = 0
    for shard in base.shards:
        entries, header = shard.entries, shard.header
        if shard is last and added is not None:
            entries = (*entries, added)
            header = make_header(((e.name, e.dtype, e.shape) for e in entries), shard.metadata)
        with (folder / shard.file.name).open("wb") as stream:
            stream.write(header)
            for chunk in _bytes_of(entries, make):
                stream.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
    if (base.folder / INDEX).is_file() and base.shards[0].file.name != SINGLE:
        index = read_json(base.folder / INDEX)
        if added is not None:
            index["weight_map"][added.name] = last.file.name
            index["metadata"] = {**base.metadata, "total_size": total}
        write_json(folder / INDEX, index)


def _bytes_of(entries: Iterable[Entry], make: Mapping[str, Callable[[], bytes]]) -> Iterator[bytes]:
    for entry in entries:
        if entry.name in make:
            yield make[entry.name]()
            continue
        left = entry.nbytes
        with entry.file.open("rb") as stream:
            stream.seek(entry.start)
            while left:
                chunk = stream.read(min(left, _CHUNK))
                if not chunk:
                    raise CheckpointError(
                        f"{entry.file} became shorter while it was read",
                        "leave the inputs alone while they are composed, and try again",
                    )
                left -= len(chunk)
                yield chunk
