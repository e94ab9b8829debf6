"""A model folder, by the headers of its files: every tensor and where its bytes lie."""

from __future__ import annotations

import os
import reprlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from taia.anatomy.fused import CONV1D, TRANSPOSED_EXPERTS
from taia.anatomy.labels import Label
from taia.checkpoint.configs import read_config
from taia.checkpoint.folders import INDEX, SINGLE, holds_adapter, refusal
from taia.checkpoint.header import Entry, Shard, read_shard
from taia.checkpoint.reading import read_json
from taia.checkpoint.spelling import newer
from taia.errors import CheckpointError
from taia.methods.method import is_stack


@dataclass(frozen=True)
class Checkpoint:
    """A model folder of safetensors files.

    Attributes:
        folder: Where it is.
        tensors: Every tensor by name, file by file in the order of their bytes.
        shards: Its files, in the order of their names.
        config: What ``config.json`` holds, ``None`` without one.
        metadata: What the index says under ``metadata``; empty for a single file.
        index: What the index file holds, ``None`` for a single file.
    """

    folder: Path
    tensors: dict[str, Entry]
    shards: tuple[Shard, ...]
    config: dict[str, Any] | None
    metadata: dict[str, Any]
    index: dict[str, Any] | None = None

    @cached_property
    def experts(self) -> dict[str, Entry]:
        """The tensors that lie in experts, by the names that the newest version gives them."""
        return {newer(name): e for name, e in self.tensors.items() if ".experts." in name}

    @cached_property
    def is_conv1d(self) -> bool:
        """Whether its linears keep their weights as [inputs, outputs], as GPT-2's Conv1D does."""
        if self.config is not None:
            return self.config.get("model_type") in CONV1D
        return any(
            name.endswith(".c_attn.weight") and entry.shape[1:] == (3 * entry.shape[0],)
            for name, entry in self.tensors.items()
        )

    def inputs_first(self, label: Label) -> bool:
        """Whether it stores a matrix, or a stack of them, as [inputs, outputs]."""
        if is_stack(label):
            return (self.config or {}).get("model_type") in TRANSPOSED_EXPERTS
        return label.layer is not None and self.is_conv1d

    @classmethod
    def open(cls, path: str | Path) -> Checkpoint:
        """Read the headers of a checkpoint; never its tensors.

        Args:
            path: A folder with ``model.safetensors`` or ``model.safetensors.index.json`` (the
                first is taken when both are there, as transformers does), or one ``.safetensors``
                file.

        Raises:
            CheckpointError: If there is no safetensors checkpoint, or it is damaged or unsafe.
        """
        path = Path(path)
        if not path.exists():
            raise CheckpointError(f"{path} does not exist.", "Check the path.")
        if not path.is_dir():
            if path.suffix != ".safetensors":
                raise refusal(path)
            # Whoever names a file may name a link to it.
            return cls._of(path.parent, (read_shard(path, path.resolve().parent),), {})
        holds_adapter(path)  # refused where it holds both
        if os.path.lexists(path / SINGLE):
            return cls._of(path, (read_shard(path / SINGLE),), {})
        if os.path.lexists(path / INDEX):
            return cls._sharded(path)
        raise refusal(path)

    @classmethod
    def _sharded(cls, folder: Path) -> Checkpoint:
        index = read_json(folder / INDEX)
        weight_map, metadata = _check_index(index, folder / INDEX)
        shards = []
        for name in sorted(set(weight_map.values())):
            if not os.path.lexists(folder / name):
                raise CheckpointError(
                    f"{folder / INDEX} names the file {name!r}, which is not there.",
                    "Download or copy the missing file.",
                )
            shards.append(read_shard(folder / name))
        checkpoint = cls._of(folder, tuple(shards), metadata, index)
        _check_places(checkpoint, weight_map)
        return checkpoint

    @classmethod
    def _of(
        cls,
        folder: Path,
        shards: tuple[Shard, ...],
        metadata: dict[str, Any],
        index: dict[str, Any] | None = None,
    ) -> Checkpoint:
        tensors: dict[str, Entry] = {}
        for shard in shards:
            for entry in shard.entries:
                if entry.name in tensors:
                    raise CheckpointError(
                        f"Tensor {entry.name!r} is in both {tensors[entry.name].file.name!r} and "
                        f"{entry.file.name!r} of {folder}.",
                        "Remove the file that does not belong there.",
                    )
                tensors[entry.name] = entry
        if not tensors:
            raise CheckpointError(f"{folder} holds no tensor.", "Give a folder with a model.")
        return cls(folder, tensors, shards, read_config(folder), metadata, index)


def _check_index(index: dict[str, Any], file: Path) -> tuple[dict[str, str], dict[str, Any]]:
    weight_map, metadata = index.get("weight_map"), index.get("metadata") or {}
    if not isinstance(weight_map, dict) or not weight_map or not isinstance(metadata, dict):
        raise CheckpointError(
            f"{file} has no table of tensors under 'weight_map'.",
            "Download or save the checkpoint again.",
        )
    plain = set(
        filter(_plain, {target for target in weight_map.values() if isinstance(target, str)})
    )
    for name, target in weight_map.items():
        # A snapshot in the hub's cache is made of symlinks to ../../blobs: the files may be links,
        # but the index must not choose them.
        if not isinstance(target, str) or target not in plain:
            raise CheckpointError(
                f"{file} sends tensor {reprlib.repr(name)} to {reprlib.repr(target)}, which is not "
                "a .safetensors file beside it.",
                "An index may only name files in its own folder; do not use this checkpoint.",
            )
    return weight_map, metadata


def _check_places(checkpoint: Checkpoint, weight_map: dict[str, str]) -> None:
    """Refuse an index that does not list the tensors of the files where they are, and no others."""
    places = {e.name: shard.file.name for shard in checkpoint.shards for e in shard.entries}
    if places == weight_map:
        return
    for name, file in weight_map.items():
        if places.get(name) != file:
            listed = checkpoint.folder / INDEX
            why = f"{listed} says that tensor {name!r} is in {file!r}, where it is not."
            break
    else:
        name = next(name for name in places if name not in weight_map)
        why = f"{checkpoint.tensors[name].file} holds tensor {name!r}, which {INDEX} does not list."
    raise CheckpointError(
        why, "The index and the files do not belong together: download or save them again."
    )


def _plain(target: str) -> bool:
    return (
        target.endswith(".safetensors")
        and not target.startswith(".")
        and not any(mark in target for mark in ("/", "\\", ":", "\0"))
        and target.isprintable()
    )
