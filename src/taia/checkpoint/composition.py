"""What a composition did, or would do: the match table, the notes, every tensor's α."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from taia.selection.alpha import Alpha, plain

#: Called with the bytes written so far and the bytes there will be.
Progress: TypeAlias = Callable[[int, int], None]


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
class Row:
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
    """

    output: Path | None
    kind: Literal["checkpoint", "adapter"]
    selection: str
    rows: tuple[Row, ...]
    alphas: Mapping[str, Alpha]
    notes: tuple[str, ...] = ()
    written: bool = True

    @property
    def total(self) -> Row:
        """The last line of the match table."""
        total = Row("total")
        for row in self.rows:
            total = Row(
                "total",
                total.base + row.base,
                total.tuned + row.tuned,
                total.blended + row.blended,
            )
        return total

    def to_json(self) -> dict[str, Any]:
        """As JSON values; an α that changes along an axis is ``{"axis", "pieces"}``."""
        return {
            "output": None if self.output is None else str(self.output),
            "kind": self.kind,
            "selection": self.selection,
            "written": self.written,
            "components": [asdict(row) for row in self.rows],
            "total": asdict(self.total),
            "notes": list(self.notes),
            "tensors": [{"name": name, "alpha": plain(a)} for name, a in self.alphas.items()],
        }
