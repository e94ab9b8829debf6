"""What a composition did, or would do: the match table, the notes, every tensor's α."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from taia.anatomy.components import COMPONENTS
from taia.checkpoint.header import BITS, nbytes
from taia.selection.alpha import Alpha, Pieces, plain

#: Called with the bytes written so far and the bytes there will be.
ByteProgress: TypeAlias = Callable[[int, int], None]

#: What an output is.
OutputKind: TypeAlias = Literal["checkpoint", "adapter"]


@dataclass(frozen=True, slots=True)
class Share:
    """So many tensors, parameters and bytes of the output."""

    tensors: int = 0
    parameters: int = 0
    bytes: int = 0

    def __add__(self, other: Share) -> Share:
        return Share(
            self.tensors + other.tensors,
            self.parameters + other.parameters,
            self.bytes + other.bytes,
        )


@dataclass(frozen=True, slots=True)
class MatchRow:
    """One line of the match table.

    A tensor with some rows from either side counts as a blended tensor, its parameters and bytes
    where they come from.

    Attributes:
        component: One of the anatomy's components.
        base: What is the base's (α = 0).
        tuned: What is the tuned model's (α = 1).
        blended: What is neither's alone.
    """

    component: str
    base: Share = field(default_factory=Share)
    tuned: Share = field(default_factory=Share)
    blended: Share = field(default_factory=Share)

    @property
    def total(self) -> Share:
        """All three together."""
        return self.base + self.tuned + self.blended


@dataclass(frozen=True)
class Composition:
    """What a composition did, or would do.

    Attributes:
        output: The folder written, or that would be written (`None`: a dry run).
        kind: What it holds.
        selection: What was kept, in canonical form.
        rows: One per component, in the anatomy's order.
        alphas: Every tensor's α, by its name in the output (for an adapter: in the adapter).
        notes: What a careful reader would want to know, one sentence each.
        written: False for a dry run.
        method: What was made of the update first, with all its values; ``None`` for nothing.
    """

    output: Path | None
    kind: OutputKind
    selection: str
    rows: tuple[MatchRow, ...]
    alphas: Mapping[str, Alpha]
    notes: tuple[str, ...] = ()
    written: bool = True
    method: str | None = None

    @property
    def total(self) -> MatchRow:
        """The last line of the match table."""
        return _summed("total", self.rows)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; an α that changes along an axis is ``{"axis", "pieces"}``."""
        return {
            "output": None if self.output is None else str(self.output),
            "kind": self.kind,
            "selection": self.selection,
            "method": self.method,
            "written": self.written,
            "components": [asdict(row) for row in self.rows],
            "total": asdict(self.total),
            "notes": list(self.notes),
            "tensors": [{"name": name, "alpha": plain(a)} for name, a in self.alphas.items()],
        }


@lru_cache(maxsize=4096)  # most tensors of a model are like others of it
def row_of(component: str, dtype: str, shape: tuple[int, ...], alpha: Alpha | None) -> MatchRow:
    """One tensor as a line of the match table; α is ``None`` for what is neither's alone."""
    whole = Share(1, math.prod(shape), nbytes(dtype, shape))
    if isinstance(alpha, Pieces):
        counts = {0.0: 0, 1.0: 0, None: 0}
        rest = whole.parameters // shape[alpha.axis] if shape[alpha.axis] else 0
        for start, stop, value in alpha.pieces:
            counts[value if value in (0.0, 1.0) else None] += (stop - start) * rest
        width = BITS[dtype] // 8
        shares = {key: Share(0, count, count * width) for key, count in counts.items()}
        return MatchRow(component, shares[0.0], shares[1.0], shares[None] + Share(1))
    if alpha == 0.0:
        return MatchRow(component, base=whole)
    return MatchRow(component, tuned=whole) if alpha == 1.0 else MatchRow(component, blended=whole)


def match_table(lines: Iterable[MatchRow]) -> tuple[MatchRow, ...]:
    """The lines of single tensors summed: one per component, in the anatomy's order."""
    found: dict[str, list[MatchRow]] = defaultdict(list)
    for line in lines:
        found[line.component].append(line)
    return tuple(_summed(name, found[name]) for name in COMPONENTS if name in found)


def _summed(name: str, lines: Sequence[MatchRow]) -> MatchRow:
    def of(shares: list[Share]) -> Share:
        # number by number, as there may be a hundred thousand
        return Share(
            sum(share.tensors for share in shares),
            sum(share.parameters for share in shares),
            sum(share.bytes for share in shares),
        )

    return MatchRow(
        name,
        of([line.base for line in lines]),
        of([line.tuned for line in lines]),
        of([line.blended for line in lines]),
    )
