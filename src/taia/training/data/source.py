"""Where rows come from: what is typed after ``--data``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taia.checkpoint.locate import home_written_out, is_there
from taia.errors import DataError
from taia.training.data.containers import SUFFIXES

_HUB: Final = re.compile(
    r"(?P<name>(?:\w[\w.-]*/)?\w[\w.-]*)(?:@(?P<revision>[^:]+))?"
    r"(?::(?:(?P<config>[\w.-]+)/)?(?P<split>[A-Za-z_][\w.-]*))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Source:
    """One ``--data``.

    Attributes:
        given: A path, or a name on the hub: ``org/name[@revision][:[config/]split]``.
        weight: Its share of the rows trained on, against the other sources'; ``None``: all its
            rows.
    """

    given: str
    weight: float | None = None

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read ``data`` or ``data:weight``; a path that exists as typed has no weight.

        Raises:
            DataError: If the weight is negative or not finite, there is nothing but a weight, or
                what follows a file is none.
        """
        given, _, last = text.rpartition(":")
        try:
            weight = float(last)
        except ValueError:
            is_file = Path(given).suffix.lower() in SUFFIXES or cls(given).path is not None
            if given.strip() and is_file and cls(text).path is None:
                raise _no_source(text) from None
            given = text
        if given == text or cls(text).path is not None:
            if not text.strip():
                raise DataError("A source of data is empty.", "Give a file, a folder or a name.")
            return cls(text)
        if not given.strip() or not math.isfinite(weight) or weight < 0:
            raise _no_source(text)
        return cls(given, weight)

    @property
    def path(self) -> Path | None:
        """The file or folder that it is, ``None`` where there is none."""
        path = home_written_out(self.given)
        return path if is_there(path) else None


def _no_source(text: str) -> DataError:
    return DataError(
        f"{text!r} is no source of data with a weight.",
        "Write it as data.json:0.8, with a weight of at least 0.",
    )


@dataclass(frozen=True, slots=True)
class HubName:
    """A data set on the hub: its name, revision, configuration and split."""

    name: str
    revision: str | None
    config: str | None
    split: str

    @classmethod
    def parse(cls, text: str) -> HubName | None:
        """Read ``org/name[@revision][:[config/]split]``; ``None`` if it cannot be one."""
        match = _HUB.fullmatch(text)
        if match is None or ".." in match["name"]:
            return None
        return cls(match["name"], match["revision"], match["config"], match["split"] or "train")
