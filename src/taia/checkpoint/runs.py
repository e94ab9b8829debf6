"""Where either side keeps a tensor, as *byte runs*: stretches of whole elements in files.

Most tensors are one run; one that the other side cuts differently (experts fused or not, more or
fewer vocabulary rows) is several.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from taia.checkpoint.header import BITS, Entry

Side: TypeAlias = Literal["base", "tuned"]

#: The dtypes that can be computed with.
FLOATS: Final = frozenset({"F16", "BF16", "F32", "F64"})


class Run(NamedTuple):
    """A run of whole elements in a file.

    Attributes:
        side: Whose it is.
        file: Where it lies.
        start: Its first byte.
        stop: One past its last byte.
        dtype: The safetensors dtype of its elements.
    """

    side: Side
    file: Path
    start: int
    stop: int
    dtype: str

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return (self.stop - self.start) * 8 // BITS[self.dtype]

    def cut(self, first: int, last: int) -> Run:
        """Its elements from ``first`` up to ``last``."""
        size = BITS[self.dtype]
        return self._replace(
            start=self.start + first * size // 8, stop=self.start + last * size // 8
        )


Runs: TypeAlias = tuple[Run, ...]


def runs_of(entry: Entry, side: Side) -> Runs:
    """A whole tensor."""
    return (Run(side, entry.file, entry.start, entry.stop, entry.dtype),)


def elements(runs: Runs) -> int:
    """How many elements runs have."""
    return sum(run.elements for run in runs)


def cut(runs: Runs, first: int, last: int) -> Runs:
    """The elements of runs from ``first`` up to ``last``."""
    found, offset = [], 0
    for run in runs:
        count = run.elements
        low, high = max(first - offset, 0), min(last - offset, count)
        if low < high:
            found.append(run.cut(low, high))
        offset += count
    return tuple(found)
