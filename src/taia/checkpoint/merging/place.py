"""Which tensors of a base checkpoint an adapter's update changes.

Usually one, by name. transformers 5 stacks experts that older checkpoints keep one by one; an
update of the stack then changes many tensors, each by its slice of the update.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from taia.anatomy.fused import FUSED_EXPERTS
from taia.checkpoint.header import Entry
from taia.checkpoint.spelling import fused, newer


class Target(NamedTuple):
    """A tensor of the base, and the slice of an update that changes it.

    Attributes:
        entry: The tensor.
        expert: Which expert's factors, ``None`` for an update that has no experts or for all.
        rows: Which outputs, ``None`` for all.
    """

    entry: Entry
    expert: int | None = None
    rows: tuple[int, int] | None = None


def unstacked(parameter: str, tensors: Mapping[str, Entry]) -> tuple[Target, ...]:
    """The per-expert tensors that a stacked parameter is made of; none where there are none.

    Args:
        parameter: The live model's name, as ``model.layers.0.mlp.experts.gate_up_proj``.
        tensors: The checkpoint's.
    """
    stack = fused(newer(parameter))
    if stack is None:
        return ()
    stem, kind = stack
    newest = {newer(name): entry for name, entry in tensors.items() if ".experts." in name}
    found: list[Target] = []
    expert = 0
    while all(f"{stem}.{expert}.{name}.weight" in newest for name in FUSED_EXPERTS[kind]):
        row = 0
        for name in FUSED_EXPERTS[kind]:
            entry = newest[f"{stem}.{expert}.{name}.weight"]
            found.append(Target(entry, expert, (row, row + entry.shape[0])))
            row += entry.shape[0]
        expert += 1
    return tuple(found)
