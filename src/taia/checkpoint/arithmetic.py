"""Numbers in files: read, rounded, and between base and tuned, base + α·(tuned − base).

In memory numbers are float32, or float64 where a tensor is; a result is rounded once, to nearest,
ties to even. NumPy does it: it loads in a tenth of torch's time, and composing is mostly moving
numbers. It is imported where something is calculated (docs/decisions/0012-numpy.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from taia.checkpoint.header import Entry
from taia.checkpoint.sources import Runs, Sources, cut, elements, runs_of
from taia.checkpoint.steps import Blend, Convert
from taia.errors import AdapterError
from taia.methods.given import Array
from taia.selection.alpha import Alpha, Pieces

#: How the elements of a dtype lie in memory; NumPy has no bfloat16, the upper half of a float32.
_STORED: Final[Mapping[str, type[np.generic]]] = {
    "F16": np.float16,
    "BF16": np.uint16,
    "F32": np.float32,
    "F64": np.float64,
}
#: Elements calculated at once. As read, decoded and summed they take 1.3 MB, which a core's own
#: cache may hold; with fewer, Python takes a large part of the time, one thread of it at once.
CHUNK = 1 << 17


class Room:
    """Memory for chunks of one calculation, used again for each: new memory lies in no cache."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, tuple[int, ...], type[np.generic]], npt.NDArray[Any]] = {}

    def array(self, use: str, shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
        """An array that holds anything: the same one whenever it is asked for by the same words."""
        key = use, shape, dtype
        array = self._arrays.get(key)
        if array is None:
            array = self._arrays[key] = np.empty(shape, dtype)
        return array


def read(runs: Runs, sources: Sources, room: Room | None = None) -> Array:
    """The elements of runs, in one dimension; float64 where any of them is.

    Args:
        runs: Where they lie.
        sources: What to read with.
        room: Where to put them, until more are read into it; memory of their own if not given.
    """
    if len(runs) == 1:
        room = room or Room()
        return _decoded(_stored(runs, sources, room), runs[0].dtype, room)
    return np.concatenate([read((run,), sources) for run in runs])


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


def dump(values: Array, dtype: str, room: Room | None = None) -> memoryview:
    """The bytes of numbers rounded to a safetensors dtype.

    Args:
        values: The numbers.
        dtype: The dtype.
        room: What chunks are read into: the bytes lie there until the next chunk is read.
    """
    room = room or Room()
    flat = np.ascontiguousarray(values).reshape(-1)
    out = room.array("stored", flat.shape, _STORED[dtype])
    for start in range(0, flat.size, CHUNK):
        _encode(flat[start : start + CHUNK], dtype, out[start : start + CHUNK], room)
    return _bytes(out)


def wide(*dtypes: str) -> type[np.floating[Any]]:
    """What is calculated in: float64 where that is among safetensors dtypes, else float32."""
    return np.float64 if "F64" in dtypes else np.float32


def converted(step: Convert, sources: Sources) -> Iterator[memoryview]:
    """A run's elements rounded to another dtype, chunk by chunk."""
    room = Room()
    for start in range(0, step.run.elements, CHUNK):
        stop = min(start + CHUNK, step.run.elements)
        yield dump(read((step.run.cut(start, stop),), sources, room), step.dtype, room)


def blended(step: Blend, sources: Sources) -> Iterator[memoryview]:
    """The sum base + α·(tuned − base), chunk by chunk.

    Where α is 0 or 1 the elements are one side's own, bit for bit if they have the result's dtype.
    """
    total = elements(step.base)
    rows = max(1, CHUNK // step.period)
    rooms = Room(), Room()
    for start in range(0, total, rows * step.period):
        stop = min(start + rows * step.period, total)
        base, tuned = (
            _Side(cut(runs, start, stop), step, sources, room)
            for runs, room in zip((step.base, step.tuned), rooms, strict=True)
        )
        out = np.empty(((stop - start) // step.period, step.period), _STORED[step.dtype])
        for first, last, alpha in step.pieces:
            piece = np.s_[:, first:last]
            if alpha in (0.0, 1.0):
                out[piece] = (tuned if alpha else base).stored[piece]
            else:
                value = mix(base.numbers[piece], tuned.numbers[piece], alpha)
                _encode(value, step.dtype, out[piece], rooms[0])
        yield _bytes(out)


class _Side:
    """One side's elements of a chunk, [rows, period], decoded only where that is needed."""

    def __init__(self, runs: Runs, step: Blend, sources: Sources, room: Room) -> None:
        self._runs, self._step, self._sources, self._room = runs, step, sources, room

    @cached_property
    def stored(self) -> npt.NDArray[Any]:
        """As the result stores them."""
        if all(run.dtype == self._step.dtype for run in self._runs):
            stored = _stored(self._runs, self._sources, self._room)
            return stored.reshape(-1, self._step.period)
        out = np.empty(self.numbers.shape, _STORED[self._step.dtype])
        _encode(self.numbers, self._step.dtype, out, self._room)
        return out

    @cached_property
    def numbers(self) -> Array:
        return read(self._runs, self._sources, self._room).reshape(-1, self._step.period)


def _stored(runs: Runs, sources: Sources, room: Room) -> npt.NDArray[Any]:
    """The elements of runs of one dtype, as they lie in their files."""
    stored = room.array("stored", (elements(runs),), _STORED[runs[0].dtype])
    sources.read_runs(runs, 0, _bytes(stored))
    return stored


def _decoded(stored: npt.NDArray[Any], dtype: str, room: Room) -> Array:
    if dtype == "BF16":
        bits = room.array("decoded", stored.shape, np.uint32)
        # In one step NumPy would shift 16 bits, or cast piece by piece.
        np.copyto(bits, stored)
        bits <<= 16
        return bits.view(np.float32)
    if dtype == "F16":
        decoded = room.array("decoded", stored.shape, np.float32)
        np.copyto(decoded, stored)
        return decoded
    values: Array = stored
    return values


def _encode(values: Array, dtype: str, out: npt.NDArray[Any], room: Room) -> None:
    with np.errstate(over="ignore", invalid="ignore"):  # too large is ∞, as everywhere
        if dtype != "BF16":
            np.copyto(out, values, casting="unsafe")
            return
        values = np.ascontiguousarray(values, np.float32)
    bits = values.view(np.uint32)
    # To nearest, ties to even: half of the last place that stays, less one if that place is even.
    rounded = room.array("decoded", bits.shape, np.uint32)
    if np.may_share_memory(rounded, bits):  # these are numbers as they were read
        rounded = np.empty_like(bits)
    np.right_shift(bits, 16, out=rounded)
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


def moved(base: Array, tuned: Array, update: Array, change: Array, alpha: Alpha) -> Array:
    """``base + α·change``, where what a method leaves whole or takes back is a side's own.

    Args:
        base: Any shape.
        tuned: The same shape.
        update: tuned − base.
        change: What the method makes of it. Where it is the update, and α is 1, the result is the
            tuned model's number, and where it is 0 the base's, not calculated.
        alpha: A number, or pieces along an axis.
    """
    target = base + change
    np.copyto(target, base, where=change == 0)
    np.copyto(target, tuned, where=change == update)
    return mix(base, target, alpha)


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
