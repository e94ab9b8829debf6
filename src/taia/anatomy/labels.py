"""The values anatomy speaks in: a tensor, its label, and how its rows divide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor by what a file header says of it.

    Attributes:
        name: Its name, as the checkpoint or the live model has it.
        shape: Its sizes; empty for a scalar, ``None`` where only the name is known.
        dtype: Its safetensors dtype (``"BF16"``, ``"F32"``, …), ``None`` where unknown.
    """

    name: str
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


class Segment(NamedTuple):
    """A run of rows (or columns) of one tensor that belongs together.

    Attributes:
        start: First index along the layout's axis.
        stop: One past the last.
        role: Canonical projection (``"q_proj"``, ``"gate_proj"``, …), ``None`` where it has none.
        heads: Query heads ``(first, one past last)`` that these rows serve, ``None`` where they
            serve no head in particular. With grouped queries a key head serves several.
    """

    start: int
    stop: int
    role: str | None
    heads: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Layout:
    """How one axis of a tensor divides into projections and heads.

    Attributes:
        axis: The axis divided. 0 for the rows of a linear's ``[out, in]`` weight, 1 for those of a
            Conv1D's ``[in, out]``, and 1 for the inputs of an output projection.
        segments: Consecutive, from 0 to the axis's size, without gap or overlap.
    """

    axis: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """What a tensor is.

    Attributes:
        tensor: The tensor labelled.
        component: One of :data:`taia.anatomy.components.COMPONENTS`.
        layer: Index in its stack of layers, ``None`` outside of one.
        projection: The name its module has in the architecture (``"c_attn"``, ``"q_proj"``, …).
        block: What finer thing it is: for attention ``"self_attention"``, ``"cross_attention"`` or
            ``"linear_attention"``; for a norm the block it serves (``"attention"``, ``"mlp"``,
            ``"both"``, ``"final"``, ``"other"``); else ``None``.
        role: Canonical projection where the whole tensor has one, else ``None``.
        stack: Dotted path of the stack of layers, ``""`` outside of one.
        layout: How its rows divide, ``None`` where they do not or where it is not known.
    """

    tensor: TensorInfo
    component: str
    layer: int | None
    projection: str
    block: str | None = None
    role: str | None = None
    stack: str = ""
    layout: Layout | None = None


def depths(labels: Iterable[Label]) -> dict[str, int]:
    """How many layers each stack of layers has."""
    found: dict[str, int] = {}
    for label in labels:
        if label.layer is not None:
            found[label.stack] = max(found.get(label.stack, 0), label.layer + 1)
    return found
