"""What a model is made of, and what a composition keeps of two, as tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rich import box
from rich.table import Table

from taia.anatomy import Label
from taia.anatomy.components import GROUPS
from taia.checkpoint.composition import Composition, MatchRow, Share
from taia.reporting.screen import Text
from taia.selection import Alpha, Pieces
from taia.text import in_bytes, in_millions


class _Kind(NamedTuple):
    component: str
    projection: str


def anatomy_table(anatomy: Mapping[str, Label], alphas: Mapping[str, Alpha] | None) -> Table:
    """One row for each kind of tensor: what it is, in which layers, how large, and its α.

    Components and projections are named as a selection may name them; behind a projection stand
    its canonical names.

    Args:
        anatomy: Name → label.
        alphas: Name → α, for a last column.
    """
    kinds: dict[_Kind, list[Label]] = {}
    for label in anatomy.values():
        kinds.setdefault(_kind(label), []).append(label)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("component", style="bold", no_wrap=True)
    table.add_column("projection")
    table.add_column("layers")
    for heading in ("heads", "tensors", "params", *(["α"] if alphas is not None else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for kind, labels in sorted(kinds.items()):
        cells = [*kind, _ranges({x.layer for x in labels if x.layer is not None})]
        cells += [_heads(labels), str(len(labels)), in_millions(sum(map(_count, labels)))]
        if alphas is not None:
            cells.append(_alphas(alphas[label.tensor.name] for label in labels))
        table.add_row(*cells)
    return table


def _kind(label: Label) -> _Kind:
    component = label.component
    if component == "attention" and label.block:
        component = label.block
    elif component == "norm" and f"{label.block}_norm" in GROUPS:
        component = f"{label.block}_norm"
    found = {label.role}
    if label.layout:
        found |= {segment.role for segment in label.layout.segments}
    roles = sorted(role for role in found if role and role != label.projection)
    behind = f" ({', '.join(roles)})" if roles else ""
    return _Kind(component, f"{label.projection}{behind}")


def _count(label: Label) -> int:
    return math.prod(label.tensor.shape or ())


def _heads(labels: list[Label]) -> str:
    counts = {
        max((s.heads[1] for s in label.layout.segments if s.heads), default=0)
        for label in labels
        if label.layout
    }
    return ", ".join(str(count) for count in sorted(counts) if count)


def _ranges(layers: set[int]) -> str:
    """``{0, 1, 2, 5}`` as ``"0-2, 5"``."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def _alphas(alphas: Iterable[Alpha]) -> str:
    values = set()
    for alpha in alphas:
        values |= {piece[2] for piece in alpha.pieces} if isinstance(alpha, Pieces) else {alpha}
    return ", ".join(f"{value:g}" for value in sorted(values))


def match_table(done: Composition) -> Table:
    """For each component, what comes from the base, from the tuned model, and from both."""
    table = Table(title=Text(_kept(done), "bold"), box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("component", style="bold", no_wrap=True)
    table.add_column("comes from", no_wrap=True)
    for heading in ("tensors", "parameters", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in (*done.rows, done.total):
        if row.component == "total":
            table.add_section()
        for source, share in _sources(row):
            table.add_row(
                row.component,
                source,
                str(share.tensors),
                in_millions(share.parameters),
                in_bytes(share.bytes),
            )
    return table


def _kept(done: Composition) -> str:
    return f"keep {done.selection}" + (f" by {done.method}" if done.method else "")


def _sources(row: MatchRow) -> list[tuple[str, Share]]:
    sources = (("base", row.base), ("tuned", row.tuned), ("both", row.blended))
    return [(name, share) for name, share in sources if share != Share()]
