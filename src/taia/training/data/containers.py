"""Files and folders of rows: JSON, JSON lines, CSV, TSV, Parquet, and folders of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from taia.errors import DataError, first_line

if TYPE_CHECKING:
    from datasets import Dataset

#: What a file's name ends in, and how it is read.
SUFFIXES: Final = (".json", ".jsonl", ".parquet", ".csv", ".tsv")
#: What in a file's name says that it is not for training.
_HELD_OUT: Final = re.compile(r"(?:^|[^a-z])(test|valid|validation|dev|eval)(?:[^a-z]|$)", re.I)


@dataclass(frozen=True, slots=True)
class RawRows:
    """The rows of one file, not yet understood.

    Attributes:
        name: The file, relative to the folder it was found in; empty if it was given itself.
        unit: What the numbers count.
        values: Number, from 1, and value of each row.
        bad: Number of each row that could not be read, and why.
        sha256: Of the file.
    """

    name: str
    unit: Literal["line", "row"]
    values: list[tuple[int, object]]
    bad: list[tuple[int, str]]
    sha256: str


def read_path(path: Path) -> list[RawRows]:
    """Read a file, a folder of files, or a folder that ``datasets`` saved.

    Raises:
        DataError: If there is nothing to read, or it cannot be read.
    """
    if not path.is_dir():
        return [_read_file(path, "")]
    if any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return [_saved(path)]
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(name.startswith(".") for name in file.relative_to(path).parts)
    )
    if not files:
        raise DataError(f"{path} holds no data.", f"Give a folder of {', '.join(SUFFIXES)} files.")
    names = [file.relative_to(path).as_posix() for file in files]
    held_out = [name for name in names if _HELD_OUT.search(name)]
    if held_out:
        raise DataError(
            f"{path} holds {held_out[0]!r}, which is named as if it were not for training.",
            "Give the files to train on by name, or move the others away.",
        )
    return [_read_file(file, name) for file, name in zip(files, names, strict=True)]


def digest(parts: Iterable[RawRows]) -> str:
    """One hash of all parts: the file's own if there is but one file, given by name."""
    parts = list(parts)
    if len(parts) == 1 and not parts[0].name:
        return parts[0].sha256
    lines = "".join(f"{part.sha256}  {part.name}\n" for part in parts)
    return hashlib.sha256(lines.encode()).hexdigest()


def _read_file(path: Path, name: str) -> RawRows:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"{path} is not a kind of file that holds rows.",
            f"Give one that ends in {', '.join(SUFFIXES)}.",
        )
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}.", "Give a file of rows."
        ) from error
    part = RawRows(name, "row" if suffix == ".parquet" else "line", [], [], _sha256(raw))
    if suffix == ".parquet":
        part.values.extend(enumerate(_parquet(path, raw), 1))
        return part
    text = _decode(path, raw)
    if suffix in (".csv", ".tsv"):
        _csv(path, text, part)
        return part
    return _json(path, text, part)


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _decode(path: Path, raw: bytes) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise DataError(
            f"{path}, line {line} is not UTF-8"
            + (": it begins as UTF-16 does." if utf16 else f": byte 0x{raw[error.start]:02x}."),
            "Save it as UTF-8.",
        ) from error
    if not text.strip():
        raise DataError(f"{path} is empty.", "Give a file with at least one row.")
    return text


def _json(path: Path, text: str, part: RawRows) -> RawRows:
    """A list, ``{"data": [...]}``, or JSON lines; whichever it is, whatever its name."""
    lines_first = path.suffix.lower() == ".jsonl"
    if lines_first:
        _json_lines(text, part)
        if part.values and not _is_list_of_rows(part):
            return part
    try:
        whole = json.loads(text)
    except RecursionError as error:
        raise DataError(f"{path} is nested too deeply.", "Give flat rows.") from error
    except ValueError as error:
        if not lines_first:
            _json_lines(text, part)
            # One good line and the rest bad is a broken document, not JSON lines.
            if part.values and len(part.values) >= len(part.bad):
                return part
        elif part.bad:
            number, why = part.bad[0]
            raise DataError(
                f"{path}, line {number}: {why}.", "Write one JSON object a line."
            ) from error
        raise DataError(
            f"{path} is not JSON: {error}.", "Give a list of objects, or one object a line."
        ) from error
    if isinstance(whole, dict) and isinstance(whole.get("data"), list):
        whole = whole["data"]
    elif isinstance(whole, dict):
        whole = [whole]
    if not isinstance(whole, list) or not whole:
        raise DataError(f"{path} holds no rows.", "Give a list of objects, or one object a line.")
    return RawRows(part.name, "row", list(enumerate(whole, 1)), [], part.sha256)


def _is_list_of_rows(part: RawRows) -> bool:
    """Whether the one line there is holds many rows, and is not one conversation."""
    only = part.values[0][1]
    return (
        len(part.values) == 1
        and not part.bad
        and isinstance(only, list)
        and not all(isinstance(each, dict) and {"role", "from"} & set(each) for each in only)
    )


def _json_lines(text: str, part: RawRows) -> None:
    # Not splitlines(): JSON allows U+2028 and its kin inside strings.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            part.values.append((number, json.loads(line)))
        except RecursionError:
            part.bad.append((number, "nested too deeply"))
        except ValueError as error:
            part.bad.append((number, f"not JSON: {error}"))


def _csv(path: Path, text: str, part: RawRows) -> None:
    limit = csv.field_size_limit(2**31 - 1)
    first = 1
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter="\t" if path.suffix.lower() == ".tsv" else ",",
            strict=True,
        )
        header: list[str] = []
        for cells in reader:
            number, first = first, reader.line_num + 1
            if not any(cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                if len(set(header)) != len(header) or not all(header):
                    raise DataError(
                        f"{path}, line {number}: a column has no name, or another's.",
                        "Name every column in the first line.",
                    )
            elif len(cells) != len(header):
                part.bad.append((number, f"{len(cells)} columns, where {len(header)} are named"))
            else:
                part.values.append((number, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise DataError(f"{path}, line {first} is not CSV: {error}.", "Mend its quotes.") from error
    finally:
        csv.field_size_limit(limit)
    if not part.values and not part.bad:
        raise DataError(f"{path} holds no rows.", "Give rows below the line that names columns.")


def _parquet(path: Path, raw: bytes) -> list[dict[str, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError(f"{path} needs pyarrow.", "Install taia[train].") from error
    try:
        rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(raw)).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path} is not Parquet: {first_line(error)}.", "Write the file again."
        ) from error
    if not rows:
        raise DataError(f"{path} holds no rows.", "Give a file with at least one row.")
    return rows


def _saved(path: Path) -> RawRows:
    """A folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote."""
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(path))
    except Exception as error:  # whatever a damaged folder makes Arrow or json say
        raise DataError(
            f"{path} is a damaged data set: {first_line(error)}.", "Save it again."
        ) from error
    if isinstance(loaded, DatasetDict):
        if len(loaded) != 1 and "train" not in loaded:
            raise DataError(
                f"{path} has the splits {', '.join(map(str, loaded))}, and none is 'train'.",
                "Give the folder of one of them.",
            )
        loaded = loaded["train"] if "train" in loaded else next(iter(loaded.values()))
    files = sorted(Path(file["filename"]) for file in loaded.cache_files)
    whole = "".join(f"{_sha256(file.read_bytes())}  {file.name}\n" for file in files)
    return from_dataset(loaded, hashlib.sha256(whole.encode()).hexdigest())


def from_dataset(dataset: Dataset, sha256: str) -> RawRows:
    """The rows of a ``datasets.Dataset``."""
    return RawRows("", "row", list(enumerate(dataset.to_list(), 1)), [], sha256)
