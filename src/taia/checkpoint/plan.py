"""The output, before any of it is written: its files and their bytes, its table, its notes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from taia.checkpoint.composition import MatchRow, OutputKind
from taia.checkpoint.folders import INDEX, SINGLE
from taia.checkpoint.header import Entry, make_header, nbytes
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.reading import read_bytes
from taia.checkpoint.sources import Sources, runs_of
from taia.checkpoint.steps import Copy, Made, Step, TensorPair, steps
from taia.selection.alpha import Alpha


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the output.

    Attributes:
        name: Its name there.
        dtype: Its safetensors dtype.
        shape: Its sizes.
        steps: How to write its bytes, from the first to the last.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    steps: Callable[[], Iterable[Step]]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return nbytes(self.dtype, self.shape)

    @classmethod
    def of_pair(cls, pair: TensorPair, alpha: Alpha) -> Tensor:
        """A tensor of two checkpoints, at its α."""
        return cls(pair.name, pair.dtype, pair.shape, partial(steps, pair, alpha))

    @classmethod
    def copied(cls, entry: Entry) -> Tensor:
        """A tensor of a file as it is."""
        return cls(entry.name, entry.dtype, entry.shape, partial(_copy, entry))

    @classmethod
    def made(
        cls,
        name: str,
        dtype: str,
        shape: tuple[int, ...],
        chunks: Callable[[Sources], Iterable[memoryview]],
    ) -> Tensor:
        """A tensor with bytes that a function makes."""
        step = Made(chunks, nbytes(dtype, shape))
        return cls(name, dtype, shape, lambda: (step,))


@dataclass(frozen=True)
class FilePlan:
    """One safetensors file of the output.

    Attributes:
        name: Its name.
        header: Its first bytes.
        tensors: Its tensors, in the order of their bytes.
    """

    name: str
    header: bytes
    tensors: tuple[Tensor, ...]

    @cached_property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.header) + sum(tensor.nbytes for tensor in self.tensors)

    @classmethod
    def of(cls, name: str, tensors: Iterable[Tensor], metadata: dict[str, str]) -> FilePlan:
        """A file that holds tensors one after another."""
        tensors = tuple(tensors)
        return cls(
            name, make_header(((t.name, t.dtype, t.shape) for t in tensors), metadata), tensors
        )


@dataclass(frozen=True)
class Weights:
    """The safetensors files of an output.

    Attributes:
        files: The files.
        index: The index by its name; empty for weights in one file.
    """

    files: tuple[FilePlan, ...]
    index: Mapping[str, bytes] = field(default_factory=dict)

    @cached_property
    def size(self) -> int:
        """Bytes of all safetensors files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class OutputPlan:
    """An output.

    Attributes:
        kind: What it will hold.
        weights: Its safetensors files.
        beside: Name → the file to copy there: tokenizer files and so on.
        config: Name and bytes of the file that makes the folder a model or an adapter, which is
            written last; ``None`` where the base has none.
        rows: The match table.
        alphas: Every tensor's α, also of those left out.
        notes: What a careful reader would want to know.
        alone: Whether it loads without taia, which MoLoRA's experts do not.
    """

    kind: OutputKind
    weights: Weights
    beside: Mapping[str, Path]
    config: tuple[str, bytes] | None
    rows: tuple[MatchRow, ...]
    alphas: Mapping[str, Alpha]
    notes: tuple[str, ...]
    alone: bool = True


def like_base(base: Checkpoint, tensors: Mapping[str, Tensor]) -> Weights:
    """Lay tensors out as the base does.

    Args:
        base: The base.
        tensors: The output's tensors by the base's names, all of which are among them; those that
            the base lacks go to the end of its last file.

    Returns:
        The files. Where nothing differs from the base, headers and index are its own, byte for
        byte.
    """
    added = [tensor for name, tensor in tensors.items() if name not in base.tensors]
    files = []
    for shard in base.shards:
        own = [tensors[entry.name] for entry in shard.entries]
        name = SINGLE if base.index is None else shard.file.name
        same = all(
            (entry.name, entry.dtype, entry.shape) == (tensor.name, tensor.dtype, tensor.shape)
            for entry, tensor in zip(shard.entries, own, strict=True)
        )
        extra = added if shard is base.shards[-1] else []
        if same and not extra:
            files.append(FilePlan(name, shard.header, tuple(own)))
        else:
            held = {tensor.name for tensor in own + extra}
            # safetensors names there what a tensor of the file stands for as well.
            metadata = {key: text for key, text in shard.metadata.items() if key not in held}
            files.append(FilePlan.of(name, own + extra, metadata))
    return Weights(tuple(files), _index(base, files))


def copied(checkpoint: Checkpoint) -> Weights:
    """A checkpoint's files as they are."""
    return like_base(checkpoint, {n: Tensor.copied(e) for n, e in checkpoint.tensors.items()})


def as_json(value: Mapping[str, Any]) -> bytes:
    """JSON as transformers writes it: two spaces, a line's end, UTF-8."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # Half a surrogate pair is no UTF-8, but may be in a path or in the JSON that was read; written
    # with a backslash it is JSON and means the same.
    return (text + "\n").encode("utf-8", "backslashreplace")


def config_file(base: Checkpoint, config: Mapping[str, Any] | None) -> tuple[str, bytes] | None:
    """The output's ``config.json``: the base's own bytes unless it has become another."""
    if base.config is None:
        return None
    if config is None or config == base.config:
        return "config.json", read_bytes(base.folder / "config.json")
    return "config.json", as_json(config)


def _index(base: Checkpoint, files: list[FilePlan]) -> dict[str, bytes]:
    if base.index is None:
        return {}
    if all(file.header == shard.header for file, shard in zip(files, base.shards, strict=True)):
        return {INDEX: read_bytes(base.folder / INDEX)}
    tensors = [(tensor, file.name) for file in files for tensor in file.tensors]
    metadata = {**base.metadata, "total_size": sum(tensor.nbytes for tensor, _ in tensors)}
    if "total_parameters" in metadata:
        metadata["total_parameters"] = sum(math.prod(tensor.shape) for tensor, _ in tensors)
    weight_map = {tensor.name: file for tensor, file in tensors}
    return {INDEX: as_json({**base.index, "metadata": metadata, "weight_map": weight_map})}


def _copy(entry: Entry) -> Iterable[Step]:
    return (Copy(run) for run in runs_of(entry, "base"))
