"""Arithmetic on streamed tensors: other dtypes, and base + α·(tuned − base) in float32.

Only this module of the composition of checkpoints needs torch, and it is imported only when a
tensor does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import torch

from taia.checkpoint.header import BITS
from taia.checkpoint.steps import Blend, Convert, Extent, Rope, cut, elements

if TYPE_CHECKING:
    from taia.checkpoint.copying import Sources

_DTYPES: Final = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}

_CHUNK: Final = 1 << 20  # elements: some megabytes in float32


def converted(step: Convert, sources: Sources) -> Iterator[memoryview]:
    """An extent's elements rounded to another dtype, chunk by chunk."""
    for start in range(0, step.extent.elements, _CHUNK):
        stop = min(start + _CHUNK, step.extent.elements)
        yield _to_bytes(read((step.extent.cut(start, stop),), sources), step.dtype)


def blended(step: Blend, sources: Sources) -> Iterator[memoryview]:
    """The sum base + α·(tuned − base), chunk by chunk.

    It is computed in float32, or float64 where either side is. Where α is 0 or 1 the elements are
    the base's or the tuned model's, bit for bit.
    """
    total = elements(step.base)
    rows = max(1, _CHUNK // step.period)
    for start in range(0, total, rows * step.period):
        stop = min(start + rows * step.period, total)
        yield _chunk(step, cut(step.base, start, stop), cut(step.tuned, start, stop), sources)


def _chunk(step: Blend, base_runs: Rope, tuned_runs: Rope, sources: Sources) -> memoryview:
    base, tuned = read(base_runs, sources), read(tuned_runs, sources)
    out, result = _space(step.dtype, base.numel())
    grid = tuple(tensor.view(-1, step.period) for tensor in (base, tuned, result))
    for first, last, alpha in step.pieces:
        ours, theirs, piece = (tensor[:, first:last] for tensor in grid)
        if alpha == 0.0:
            piece.copy_(ours)
        elif alpha == 1.0:
            piece.copy_(theirs)
        else:
            piece.copy_(between(ours, theirs, alpha))
    return out


def between(base: torch.Tensor, tuned: torch.Tensor, alpha: float) -> torch.Tensor:
    """The sum base + α·(tuned − base), in float32, or float64 where either side is."""
    wide = torch.float64 if torch.float64 in (base.dtype, tuned.dtype) else torch.float32
    anchor = base.to(wide)
    return torch.sub(tuned.to(wide), anchor).mul_(alpha).add_(anchor)


def read(runs: Rope, sources: Sources) -> torch.Tensor:
    """A rope's elements, widened where its runs have different dtypes."""
    parts = [_read_extent(extent, sources) for extent in runs]
    if len(parts) == 1:
        return parts[0]
    widest = max((part.dtype for part in parts), key=lambda dtype: dtype.itemsize)
    if len({part.dtype for part in parts}) > 1 and widest.itemsize < 4:
        widest = torch.float32  # neither of float16 and bfloat16 holds the other
    return torch.cat([part.to(widest) for part in parts])


def _read_extent(extent: Extent, sources: Sources) -> torch.Tensor:
    buffer = bytearray(extent.stop - extent.start)
    sources.read_into(extent, 0, memoryview(buffer))
    return torch.frombuffer(buffer, dtype=_DTYPES[extent.dtype])


def _to_bytes(tensor: torch.Tensor, dtype: str) -> memoryview:
    out, result = _space(dtype, tensor.numel())
    result.copy_(tensor)
    return out


def _space(dtype: str, count: int) -> tuple[memoryview, torch.Tensor]:
    """A buffer, and the tensor that lives in it."""
    out = bytearray(count * BITS[dtype] // 8)
    return memoryview(out), torch.frombuffer(out, dtype=_DTYPES[dtype])
