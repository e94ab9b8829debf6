"""What calibration rows say of a model's tensors: a folder that methods read.

It holds any number of ``.safetensors`` files. A tensor in them is called after the base's tensor
that it belongs to, a full stop, and what it is: ``model.layers.0.mlp.up_proj.weight.inputs``. What
there is, and of which shape, is :data:`taia.methods.given.STATISTICS`; numbers are F32 or F64 (F16
and BF16 are read, but are coarse).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from taia.anatomy.labels import Label
from taia.checkpoint.header import Entry, Shard, read_shard
from taia.checkpoint.locate import home_written_out
from taia.errors import MethodError


@dataclass(frozen=True)
class CalibrationStatistics:
    """Statistics of calibration rows.

    Attributes:
        folder: Where they lie.
        shards: Its files.
        entries: Name of a tensor, a full stop and of a statistic → where its numbers are.
    """

    folder: Path
    shards: tuple[Shard, ...]
    entries: Mapping[str, Entry]

    @classmethod
    def open(cls, folder: str | Path) -> CalibrationStatistics:
        """Reads the headers of a folder's files.

        Raises:
            CheckpointError: If one of them is damaged.
            MethodError: If it is no folder, holds no such file, or one name twice.
        """
        path = home_written_out(folder)
        files = sorted(path.glob("*.safetensors")) if path.is_dir() else []
        if not files:
            what = "holds no .safetensors file" if path.is_dir() else "is no folder"
            raise MethodError(
                f"{str(folder)!r} {what}: statistics of calibration rows are read from one.",
                "Give the folder that they were written to.",
            )
        shards = tuple(map(read_shard, files))
        entries: dict[str, Entry] = {}
        for entry in (entry for shard in shards for entry in shard.entries):
            if entry.name in entries:
                raise MethodError(
                    f"{entry.name!r} is in both {entries[entry.name].file} and {entry.file}.",
                    "Remove the file that does not belong there.",
                )
            entries[entry.name] = entry
        return cls(path, shards, entries)


def shape_wanted(need: str, label: Label, inputs_first: bool, rank: int | None) -> tuple[int, ...]:
    """The shape of what a method needs of a tensor.

    Args:
        need: A statistic, or ``"unaligned"``.
        label: What the tensor is: a matrix, or one for each expert.
        inputs_first: Whether it is stored [inputs, outputs].
        rank: Of its update, where that is known to be low.
    """
    shape = label.tensor.shape
    assert shape is not None
    if need == "unaligned":
        return shape
    *experts, first, last = shape
    inputs = first if inputs_first else last
    if need == "inputs":
        return (*experts, inputs, inputs)
    return (*experts, min(first, last, rank or first))
