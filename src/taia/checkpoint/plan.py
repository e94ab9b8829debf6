"""The output's files, before any of them is written: layout, steps, match table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from taia.anatomy.components import COMPONENTS
from taia.anatomy.labels import Label
from taia.checkpoint.composition import Row, Share
from taia.checkpoint.copying import Sources
from taia.checkpoint.header import BITS, make_header, nbytes
from taia.checkpoint.index import SINGLE, Checkpoint
from taia.checkpoint.steps import FLOATS, Pair, Step, steps
from taia.errors import SelectionError
from taia.selection.alpha import Alpha, Pieces

_EIGHT_BIT: Final = "8-bit weights mean nothing without their scales"
_WHOLE_NUMBERS: Final = "whole numbers have nothing between them"


@dataclass(frozen=True)
class FilePlan:
    """One safetensors file of the output.

    Attributes:
        name: Its name.
        header: Its first bytes.
        size: Its length.
        tensors: Its tensors and their α, in the order of their bytes.
    """

    name: str
    header: bytes
    size: int
    tensors: tuple[tuple[Pair, Alpha], ...]

    def steps(self) -> Iterator[Step]:
        """How to write its tensors."""
        for pair, alpha in self.tensors:
            yield from steps(pair, alpha)


@dataclass(frozen=True)
class Plan:
    """The output's weights.

    Attributes:
        files: The safetensors files: the base's, by name and layout.
        index: What the index file holds, ``None`` for a checkpoint in one file.
        alphas: Every tensor's α.
    """

    files: tuple[FilePlan, ...]
    index: dict[str, Any] | None
    alphas: dict[str, Alpha]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def make_plan(base: Checkpoint, pairs: Mapping[str, Pair], alphas: Mapping[str, Alpha]) -> Plan:
    """Lay out the output like the base.

    Args:
        base: The base.
        pairs: The output's tensors; those that the base lacks go to the end of its last file.
        alphas: Their α.

    Raises:
        SelectionError: If a tensor that cannot be blended has a fractional α.
    """
    settled = _settle(pairs, alphas)
    added = [pair for name, pair in pairs.items() if name not in base.tensors]
    files = []
    for shard in base.shards:
        here = [pairs[entry.name] for entry in shard.entries]
        same = [(e.dtype, e.shape) for e in shard.entries] == [(p.dtype, p.shape) for p in here]
        if shard is base.shards[-1]:
            here += added
            same = same and not added
        header = (
            shard.header
            if same
            else make_header(((p.name, p.dtype, p.shape) for p in here), shard.metadata)
        )
        files.append(
            FilePlan(
                SINGLE if base.index is None else shard.file.name,
                header,
                len(header) + sum(nbytes(pair.dtype, pair.shape) for pair in here),
                tuple((pair, settled[pair.name]) for pair in here),
            )
        )
    return Plan(tuple(files), _index(base, files), settled)


def table(plan: Plan, labels: Mapping[str, Label]) -> tuple[Row, ...]:
    """The match table: per component what is the base's, the tuned model's, or neither's."""
    found: dict[str, Row] = {}
    for file in plan.files:
        for pair, alpha in file.tensors:
            component = labels[pair.name].component
            row = _row(component, pair, alpha)
            old = found.get(component, Row(component))
            found[component] = Row(
                component, old.base + row.base, old.tuned + row.tuned, old.blended + row.blended
            )
    return tuple(found[component] for component in COMPONENTS if component in found)


def _settle(pairs: Mapping[str, Pair], alphas: Mapping[str, Alpha]) -> dict[str, Alpha]:
    """Every α as it will be applied: 0 where the tuned model has nothing to give."""
    settled: dict[str, Alpha] = {}
    with Sources() as sources:
        for name, pair in pairs.items():
            alpha = alphas[name]
            if pair.tuned is None or (
                not _can(pair, alpha) and sources.same(pair.base, pair.tuned)
            ):
                alpha = 0.0
            elif not _can(pair, alpha):
                why = _EIGHT_BIT if pair.dtype.startswith("F") else _WHOLE_NUMBERS
                raise SelectionError(
                    f"Tensor {name!r} is {pair.dtype} and cannot be taken in part: {why}.",
                    "Select it whole or not at all, or dequantise both models first.",
                )
            settled[name] = alpha
    return settled


def _can(pair: Pair, alpha: Alpha) -> bool:
    """Whether a tensor's dtype allows its α."""
    if pair.dtype in FLOATS or alpha in (0.0, 1.0):
        return True
    if not isinstance(alpha, Pieces) or BITS[pair.dtype] % 8:
        return False
    return all(value in (0.0, 1.0) for _, _, value in alpha.pieces)


def _row(component: str, pair: Pair, alpha: Alpha) -> Row:
    whole = Share(1, math.prod(pair.shape), nbytes(pair.dtype, pair.shape))
    if not isinstance(alpha, Pieces):
        if pair.tuned is None or alpha == 0.0:
            return Row(component, base=whole)
        return Row(component, tuned=whole) if alpha == 1.0 else Row(component, blended=whole)
    counts = {0.0: 0, 1.0: 0, None: 0}
    rest = whole.parameters // pair.shape[alpha.axis] if pair.shape[alpha.axis] else 0
    for start, stop, value in alpha.pieces:
        counts[value if value in (0.0, 1.0) else None] += (stop - start) * rest
    width = BITS[pair.dtype] // 8
    shares = {key: Share(0, count, count * width) for key, count in counts.items()}
    return Row(component, shares[0.0], shares[1.0], shares[None] + Share(1))


def _index(base: Checkpoint, files: list[FilePlan]) -> dict[str, Any] | None:
    """The base's index, changed only where the output differs from the base."""
    if base.index is None:
        return None
    if all(file.header == shard.header for file, shard in zip(files, base.shards, strict=True)):
        return base.index
    pairs = [(pair, file.name) for file in files for pair, _ in file.tensors]
    metadata = {
        **base.metadata,
        "total_size": sum(nbytes(pair.dtype, pair.shape) for pair, _ in pairs),
    }
    if "total_parameters" in metadata:
        metadata["total_parameters"] = sum(math.prod(pair.shape) for pair, _ in pairs)
    weight_map = base.index["weight_map"] | {pair.name: file for pair, file in pairs}
    return {**base.index, "metadata": metadata, "weight_map": weight_map}
