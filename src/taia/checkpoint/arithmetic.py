"""Numbers in files: read, rounded, and between base and tuned, base + α·(tuned − base).

In memory numbers are float32, or float64 where a tensor is; a result is rounded once, to nearest,
ties to even. NumPy does it: it loads in a tenth of torch's time, and composing is mostly moving
numbers. It is imported where something is calculated (docs/decisions/0012-numpy.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from taia.checkpoint.header import Entry
from taia.checkpoint.sources import Runs, Sources, cut, elements, runs_of
from taia.checkpoint.steps import Blend, Convert
from taia.errors import AdapterError
from taia.selection.alpha import Alpha, Pieces

#: float32 or float64.
Array: TypeAlias = npt.NDArray[np.floating[Any]]

#: How the elements of a dtype lie in memory; NumPy has no bfloat16, the upper half of a float32.
_STORED: Final[Mapping[str, type[np.generic]]] = {
    "F16": np.float16,
    "BF16": np.uint16,
    "F32": np.float32,
    "F64": np.float64,
}
#: Elements calculated at once: what fits a processor's cache in float32, several times.
CHUNK = 1 << 18


def read(runs: Runs, sources: Sources) -> Array:
    """The elements of runs, in one dimension; float64 where any of them is."""
    parts = [_decoded(_stored((run,), sources), run.dtype) for run in runs]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def load(entry: Entry, sources: Sources | None = None) -> Array:
    """One tensor from its file, in its own shape.

    Raises:
        AdapterError: If its dtype is not one to calculate with.
        CheckpointError: If the file has become shorter than its header says.
    """
    if entry.dtype not in _STORED:
        raise AdapterError(
            f"tensor {entry.name!r} in {entry.file} is {entry.dtype}, which taia does not "
            "calculate with",
            "select it whole or not at all, or save it as BF16, F16 or F32",
        )
    if sources is None:
        with Sources() as own:
            return load(entry, own)
    if entry.nbytes == 0:
        return np.empty(entry.shape, wide(entry.dtype))
    return read(runs_of(entry, "base"), sources).reshape(entry.shape)


def dump(values: Array, dtype: str) -> memoryview:
    """The bytes of numbers rounded to a safetensors dtype."""
    flat = np.ascontiguousarray(values).reshape(-1)
    out = np.empty(flat.shape, _STORED[dtype])
    for start in range(0, flat.size, CHUNK):
        _encode(flat[start : start + CHUNK], dtype, out[start : start + CHUNK])
    return _bytes(out)


def wide(*dtypes: str) -> type[np.floating[Any]]:
    """What is calculated in: float64 where that is among safetensors dtypes, else float32."""
    return np.float64 if "F64" in dtypes else np.float32


def converted(step: Convert, sources: Sources) -> Iterator[memoryview]:
    """A run's elements rounded to another dtype, chunk by chunk."""
    for start in range(0, step.run.elements, CHUNK):
        stop = min(start + CHUNK, step.run.elements)
        yield dump(read((step.run.cut(start, stop),), sources), step.dtype)


def blended(step: Blend, sources: Sources) -> Iterator[memoryview]:
    """The sum base + α·(tuned − base), chunk by chunk.

    Where α is 0 or 1 the elements are one side's own, bit for bit if they have the result's dtype.
    """
    total = elements(step.base)
    rows = max(1, CHUNK // step.period)
    for start in range(0, total, rows * step.period):
        stop = min(start + rows * step.period, total)
        base, tuned = (_Side(cut(s, start, stop), step, sources) for s in (step.base, step.tuned))
        out = np.empty(((stop - start) // step.period, step.period), _STORED[step.dtype])
        for first, last, alpha in step.pieces:
            piece = np.s_[:, first:last]
            if alpha in (0.0, 1.0):
                out[piece] = (tuned if alpha else base).stored[piece]
            else:
                value = mix(base.numbers[piece], tuned.numbers[piece], alpha)
                _encode(value, step.dtype, out[piece])
        yield _bytes(out)


class _Side:
    """One side's elements of a chunk, [rows, period], decoded only where that is needed."""

    def __init__(self, runs: Runs, step: Blend, sources: Sources) -> None:
        self._runs, self._step, self._sources = runs, step, sources

    @cached_property
    def stored(self) -> npt.NDArray[Any]:
        """As the result stores them."""
        if all(run.dtype == self._step.dtype for run in self._runs):
            return _stored(self._runs, self._sources).reshape(-1, self._step.period)
        out = np.empty(self.numbers.shape, _STORED[self._step.dtype])
        _encode(self.numbers, self._step.dtype, out)
        return out

    @cached_property
    def numbers(self) -> Array:
        return read(self._runs, self._sources).reshape(-1, self._step.period)


def _stored(runs: Runs, sources: Sources) -> npt.NDArray[Any]:
    """The elements of runs of one dtype, as they lie in their files."""
    buffer = bytearray(sum(run.stop - run.start for run in runs))
    sources.read_runs(runs, 0, memoryview(buffer))
    return np.frombuffer(buffer, _STORED[runs[0].dtype])


def _decoded(stored: npt.NDArray[Any], dtype: str) -> Array:
    if dtype == "BF16":
        stored = np.left_shift(stored, 16, dtype=np.uint32).view(np.float32)
    elif dtype == "F16":
        stored = stored.astype(np.float32)
    values: Array = stored
    return values


def _encode(values: Array, dtype: str, out: npt.NDArray[Any]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):  # too large is ∞, as everywhere
        if dtype != "BF16":
            np.copyto(out, values, casting="unsafe")
            return
        values = np.ascontiguousarray(values, np.float32)
    bits = values.view(np.uint32)
    # To nearest, ties to even: half of the last place that stays, less one if that place is even.
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    np.copyto(out, rounded, casting="unsafe")
    nan = np.isnan(values)
    if nan.any():
        out[nan] = 0x7FC0


def _bytes(stored: npt.NDArray[Any]) -> memoryview:
    if not stored.size:
        return memoryview(b"")
    return memoryview(stored.reshape(-1).view(np.uint8).data)


def mix(base: Array, tuned: Array, alpha: Alpha) -> Array:
    """``base + α·(tuned − base)``.

    Where α is 0 or 1 the values are the base's or the tuned model's own, not calculated.

    Args:
        base: Any shape.
        tuned: The same shape.
        alpha: A number, or pieces along an axis.
    """
    if isinstance(alpha, Pieces):
        out = np.empty_like(tuned)
        for start, stop, part in alpha.pieces:
            piece = (slice(None),) * alpha.axis + (slice(start, stop),)
            out[piece] = mix(base[piece], tuned[piece], part)
        return out
    if alpha in (0.0, 1.0):
        return tuned if alpha else base
    difference = tuned - base
    difference *= alpha
    difference += base
    return difference


def of_rows(alpha: Alpha, first: int, last: int) -> Alpha:
    """The α of some of a tensor's rows."""
    if not isinstance(alpha, Pieces) or alpha.axis:
        return alpha
    pieces = tuple(
        (max(start, first) - first, min(stop, last) - first, part)
        for start, stop, part in alpha.pieces
        if start < last and stop > first
    )
    return Pieces(0, pieces)
