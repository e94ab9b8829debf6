"""The header of one safetensors file, read without reading the tensors.

A file is eight bytes with the header's length (little-endian), the header as JSON, then the
tensors' bytes without gap. https://huggingface.co/docs/safetensors/en/index#format
"""

from __future__ import annotations

import json
import math
import reprlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

from taia.anatomy.labels import TensorInfo
from taia.checkpoint.reading import (
    LONGEST_JSON,
    NotAnObjectError,
    opened,
    parse_object,
    unreadable,
)
from taia.errors import CheckpointError

#: safetensors dtype → bits of one element.
BITS: Final = MappingProxyType(
    {
        "BOOL": 8,
        "F4": 4,
        "F6_E2M3": 6,
        "F6_E3M2": 6,
        "U8": 8,
        "I8": 8,
        "F8_E5M2": 8,
        "F8_E4M3": 8,
        "F8_E8M0": 8,
        "F8_E4M3FNUZ": 8,
        "F8_E5M2FNUZ": 8,
        "I16": 16,
        "U16": 16,
        "F16": 16,
        "BF16": 16,
        "I32": 32,
        "U32": 32,
        "F32": 32,
        "C64": 64,
        "F64": 64,
        "I64": 64,
        "U64": 64,
    }
)

#: Names that models really have are not a tenth of this long.
_LONGEST_NAME: Final = 1000
_DAMAGED: Final = "Download or save the file again; if it was still being written, wait for that."


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor in a file.

    Attributes:
        name: Its name.
        dtype: Its safetensors dtype (``"BF16"``, …).
        shape: Its sizes; empty for a scalar.
        file: The file it lies in.
        start: Its first byte, counted from the beginning of the file.
        stop: One past its last byte.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.stop - self.start

    @property
    def info(self) -> TensorInfo:
        """What anatomy wants to know of it."""
        return TensorInfo(self.name, self.shape, self.dtype)


@dataclass(frozen=True, slots=True)
class Shard:
    """One safetensors file.

    Attributes:
        file: Its path.
        size: Its length in bytes.
        header: Its first bytes, up to the first tensor's.
        metadata: The strings under ``__metadata__``.
        entries: Its tensors in the order of their bytes.
    """

    file: Path
    size: int
    header: bytes
    metadata: dict[str, str]
    entries: tuple[Entry, ...]


def nbytes(dtype: str, shape: Iterable[int]) -> int:
    """Bytes of a tensor; a part of a byte counts as one."""
    return (math.prod(shape) * BITS[dtype] + 7) // 8


def read_shard(file: Path, folder: Path | None = None) -> Shard:
    """Read and check the header of a safetensors file.

    Args:
        file: Its path.
        folder: The folder that a link must not leave, where that is not the one it lies in.

    Raises:
        CheckpointError: If the file is not safetensors, is truncated, or contradicts itself; if it
            is none that may be opened.
    """
    with opened(file, folder) as stream:
        try:
            size = stream.seek(0, 2)
            stream.seek(0)
            header = _raw_header(stream, size, file)
        except OSError as error:
            raise unreadable(file, error) from error
    try:
        parsed = parse_object(memoryview(header)[8:])
    except NotAnObjectError as error:
        raise _damaged(file, f"its header {error}") from error
    metadata = _metadata(parsed.pop("__metadata__", None), file)
    entries = sorted(
        (_entry(name, value, file, len(header)) for name, value in parsed.items()),
        key=lambda entry: (entry.start, entry.stop),
    )
    _check_contiguous(entries, len(header), size, file)
    return Shard(file, size, header, metadata, tuple(entries))


def make_header(
    entries: Iterable[tuple[str, str, tuple[int, ...]]], metadata: dict[str, str]
) -> bytes:
    """The first bytes of a safetensors file that holds these tensors one after another.

    Args:
        entries: ``(name, dtype, shape)`` in the order of their bytes.
        metadata: Strings for ``__metadata__``; none is written when it is empty.
    """
    table: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name, dtype, shape in entries:
        stop = offset + nbytes(dtype, shape)
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, stop]}
        offset = stop
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the tensors to eight bytes
    return struct.pack("<Q", len(text)) + text


def _raw_header(stream: BinaryIO, size: int, file: Path) -> bytes:
    if size < 8:
        raise _damaged(file, f"it is {size} bytes long, shorter than any safetensors file")
    prefix = stream.read(8)
    (length,) = struct.unpack("<Q", prefix)
    guess = _other_format(prefix) if length > min(LONGEST_JSON, size - 8) else None
    if guess:
        raise _damaged(file, guess)
    if length > LONGEST_JSON:
        raise _damaged(file, f"it declares a header of {length} bytes; the limit is {LONGEST_JSON}")
    if length > size - 8:
        raise _damaged(file, f"it is truncated inside its header ({size} bytes of {length + 8})")
    stream.seek(0)
    return stream.read(8 + length)


def _other_format(prefix: bytes) -> str | None:
    if prefix.startswith(b"GGUF"):
        return "it is a GGUF file"
    if prefix.startswith((b"PK\x03\x04", b"\x80\x02")):
        return "it is a pickle"
    if prefix.startswith(b"version "):
        return "it is a Git LFS pointer, not the file itself (run `git lfs pull`)"
    return None


def _metadata(value: object, file: Path) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _damaged(file, "its __metadata__ is not a table of strings")
    if not all(map(_is_utf8, (*value, *value.values()))):
        raise _damaged(file, "its __metadata__ has half a character (a surrogate)")
    return value


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _entry(name: str, value: object, file: Path, data: int) -> Entry:
    if len(name) > _LONGEST_NAME:
        raise _damaged(
            file, f"the name of tensor {name[:40] + '…'!r} has more than {_LONGEST_NAME} characters"
        )
    if not _is_utf8(name):
        raise _damaged(file, f"the name of tensor {name!r} has half a character (a surrogate)")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _damaged(file, f"tensor {name!r} lacks a plain dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _damaged(file, f"tensor {name!r} has the unknown dtype {reprlib.repr(dtype)}")
    if not _sizes(shape):
        raise _damaged(file, f"tensor {name!r} has the impossible shape {reprlib.repr(shape)}")
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _damaged(file, f"tensor {name!r} has the impossible offsets {reprlib.repr(offsets)}")
    start, stop = offsets
    bits = math.prod(shape) * BITS[dtype]
    if bits != (stop - start) * 8:
        raise _damaged(
            file,
            f"tensor {name!r} of shape {tuple(shape)} and dtype {dtype} takes "
            f"{-(-bits // 8)} bytes, its offsets give it {stop - start}",
        )
    return Entry(name, dtype, tuple(shape), file, data + start, data + stop)


def _sizes(value: object) -> bool:
    if not isinstance(value, list) or len(value) > 64:
        return False
    # bool is an int to isinstance; the limits keep a hostile product of sizes small
    for size in value:  # noqa: SIM110 - there may be a hundred thousand tensors
        if type(size) is not int or not 0 <= size < 2**63:
            return False
    return True


def _check_contiguous(entries: list[Entry], data: int, size: int, file: Path) -> None:
    end = data
    for entry in entries:
        if entry.start != end:
            what = (
                "overlaps the tensor before it" if entry.start < end else "leaves a gap before it"
            )
            raise _damaged(file, f"tensor {entry.name!r} {what}")
        end = entry.stop
    if end > size:
        raise _damaged(file, f"it is truncated: {size} bytes of {end}")
    if end < size:
        raise _damaged(file, f"{size - end} bytes follow its last tensor")


def _damaged(file: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{file} is not a sound safetensors file: {why}.", _DAMAGED)
