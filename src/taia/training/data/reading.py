"""From a source to its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from taia.errors import DataError
from taia.training.data.containers import SUFFIXES, RawRows, digest, read_path
from taia.training.data.formats import UnusableError, find_format, to_row
from taia.training.data.hub import read_hub
from taia.training.data.row import BadRow, Row, Rows
from taia.training.data.source import Source

#: Bad rows that an error shows.
SHOWN = 5


def read_source(
    source: Source,
    *,
    on_bad_row: Literal["stop", "skip"] = "stop",
    limit_shown: int = SHOWN,
    format: str | None = None,
) -> Rows:
    """Read all rows of a source.

    A path is never looked up on the hub, and a hub name never shadows a path.

    Args:
        source: Where.
        on_bad_row: Raise at the end if a row cannot be used, or leave such rows out.
        limit_shown: How many of them the error shows.
        format: The format's name, if it is not to be told from the keys.

    Returns:
        The rows and what was wrong with the others.

    Raises:
        DataError: If the source cannot be read, holds no row that can be used, its format cannot
            be told, or ``on_bad_row`` is ``stop`` and a row is bad. The message has their numbers.
        DownloadError: If a hub name cannot be fetched.
    """
    parts = [_absent(source.given)] if source.path is None else read_path(source.path)
    values = [value for part in parts for _, value in part.values]
    form = find_format(values, source.given, format)
    rows: list[Row] = []
    places: list[str] = []
    bad: list[BadRow] = []
    for part in parts:
        lead = f"{part.name}, {part.unit}" if part.name else part.unit
        found = [BadRow(number, why, f"{lead} {number}") for number, why in part.bad]
        for number, value in part.values:
            place = f"{lead} {number}"
            try:
                rows.append(to_row(value, form))
            except UnusableError as error:
                found.append(BadRow(number, str(error), place))
            else:
                places.append(place)
        bad += sorted(found, key=lambda row: row.number)
    if bad and (on_bad_row == "stop" or not rows):
        raise refusal(source.given, bad, len(bad) + len(rows), limit_shown)
    return Rows(source.given, form.name, rows, places, tuple(bad), digest(parts))


def refusal(name: str, bad: Sequence[BadRow], of: int, limit_shown: int = SHOWN) -> DataError:
    """The error that shows bad rows."""
    shown = "; ".join(f"{row.place}: {row.why}" for row in bad[:limit_shown])
    more = f"; and {len(bad) - limit_shown} more" if len(bad) > limit_shown else ""
    return DataError(
        f"{name}: {len(bad)} of {of} rows cannot be used. {shown}{more}.",
        "Mend them, or leave them out with --on-bad-row skip."
        if len(bad) < of
        else "Mend them; docs/data.md shows every format.",
    )


def _absent(given: str) -> RawRows:
    if Path(given).suffix.lower() in SUFFIXES:
        raise DataError(f"{given!r} does not exist.", "Check the path.")
    return read_hub(given)
