"""A model folder, by the headers of its files: every tensor and where its bytes lie."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taia.checkpoint.header import Entry, Shard, read_shard
from taia.errors import CheckpointError

__all__ = ["ADAPTER_CONFIG", "INDEX", "SINGLE", "Checkpoint", "Entry", "Shard", "read_json"]

#: A checkpoint in one file.
SINGLE: Final = "model.safetensors"
#: Which tensor is in which file, for a checkpoint in several.
INDEX: Final = "model.safetensors.index.json"
#: What makes a folder an adapter.
ADAPTER_CONFIG: Final = "adapter_config.json"

_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_CONVERT: Final = (
    "Convert it once: AutoModelForCausalLM.from_pretrained(PATH).save_pretrained(NEW) in "
    "transformers writes safetensors."
)
_LARGEST_JSON: Final = 500_000_000


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
        if path.is_file():
            if path.suffix != ".safetensors":
                raise _refusal(path, [path])
            return cls._of(path.parent, (read_shard(path),), {})
        if (path / SINGLE).exists():
            return cls._of(path, (read_shard(path / SINGLE),), {})
        if (path / INDEX).exists():
            return cls._sharded(path)
        raise _nothing(path)

    @classmethod
    def _sharded(cls, folder: Path) -> Checkpoint:
        index = read_json(folder / INDEX)
        weight_map, metadata = _check_index(index, folder / INDEX)
        shards = []
        for name in sorted(set(weight_map.values())):
            if not (folder / name).is_file():
                raise CheckpointError(
                    f"{folder / INDEX} names the file {name!r}, which is not there.",
                    "Download or copy the missing file.",
                )
            shards.append(read_shard(folder / name))
        checkpoint = cls._of(folder, tuple(shards), metadata, index)
        for name, file in weight_map.items():
            entry = checkpoint.tensors.get(name)
            if entry is None or entry.file.name != file:
                raise CheckpointError(
                    f"{folder / INDEX} says that tensor {name!r} is in {file!r}, where it is not.",
                    "The index and the files do not belong together: download or save them again.",
                )
        for name, entry in checkpoint.tensors.items():
            if name not in weight_map:
                raise CheckpointError(
                    f"{entry.file} holds tensor {name!r}, which {INDEX} does not list.",
                    "The index and the files do not belong together: download or save them again.",
                )
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
        file = folder / "config.json"
        config = read_json(file) if file.exists() else None
        return cls(folder, tensors, shards, config, metadata, index)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: If it cannot be read or holds something else.
    """
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise CheckpointError(f"{file} is too long for what it should be.", "Check the file.")
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{file} cannot be read: {error.strerror or error}.", "Check that you may read it."
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file} is not JSON ({error}).", "Download or save the file again."
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(
            f"{file} holds a {type(value).__name__}, not a JSON object.",
            "Download or save the file again.",
        )
    return value


def _check_index(index: dict[str, Any], file: Path) -> tuple[dict[str, str], dict[str, Any]]:
    weight_map, metadata = index.get("weight_map"), index.get("metadata") or {}
    if not isinstance(weight_map, dict) or not weight_map or not isinstance(metadata, dict):
        raise CheckpointError(
            f"{file} has no table of tensors under 'weight_map'.",
            "Download or save the checkpoint again.",
        )
    for name, target in weight_map.items():
        # A snapshot in the hub's cache is made of symlinks to ../../blobs: the files may be links,
        # but the index must not choose them.
        if not isinstance(target, str) or not _plain(target):
            raise CheckpointError(
                f"{file} sends tensor {name!r} to {target!r}, which is not a .safetensors file "
                "beside it.",
                "An index may only name files in its own folder; do not use this checkpoint.",
            )
    return weight_map, metadata


def _plain(target: str) -> bool:
    return (
        target.endswith(".safetensors")
        and not target.startswith(".")
        and not any(mark in target for mark in ("/", "\\", ":", "\0"))
        and target.isprintable()
    )


def _nothing(folder: Path) -> CheckpointError:
    try:
        files = sorted(file for file in folder.iterdir() if file.is_file())
    except OSError as error:
        return CheckpointError(
            f"{folder} cannot be listed: {error.strerror or error}.", "Check that you may read it."
        )
    return _refusal(folder, files)


def _refusal(path: Path, files: list[Path]) -> CheckpointError:
    """Why there is no checkpoint here, by what there is instead."""
    suffixes = Counter(file.suffix for file in files)
    loose = [file.name for file in files if file.suffix == ".safetensors"]
    if any(file.name == ADAPTER_CONFIG for file in files):
        return CheckpointError(
            f"{path} is an adapter, not a whole checkpoint.",
            "Give it as TUNED beside its base model.",
        )
    if len(loose) == 1:
        return CheckpointError(
            f"{path} has no {SINGLE}, but {loose[0]!r}.", f"Give the file: {path / loose[0]}"
        )
    if loose:
        return CheckpointError(
            f"{path} has {len(loose)} safetensors files but no {INDEX}.",
            f"Download or save {INDEX} as well.",
        )
    if suffixes[".gguf"]:
        return CheckpointError(
            f"{path} holds GGUF, whose tensors are quantised in blocks.",
            "Give the safetensors checkpoint that it was made from, and convert the result.",
        )
    if any(suffixes[suffix] for suffix in _PICKLES):
        return CheckpointError(
            f"{path} holds pickled weights ({next(s for s in _PICKLES if suffixes[s])}), which can "
            "run code when they are opened.",
            _CONVERT,
        )
    what = "is empty" if not files else "has no safetensors weights"
    return CheckpointError(f"{path} {what}.", f"Give a folder with {SINGLE} or {INDEX}.")
