"""How large an adapter's updates are.

A product B·A is never formed: ‖BA‖² = tr((BᵀB)(AAᵀ)), and these two have the rank's size. Where an
update is no product (DoRA, modules saved whole) the changed tensor is, one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from taia.analysis.measured import Measured
from taia.analysis.streaming import norm, size
from taia.checkpoint.adapters.change import Change, changed, changes_of
from taia.checkpoint.adapters.low_rank import factors
from taia.checkpoint.adapters.place import Placed, Placement, place
from taia.checkpoint.adapters.read import SIDES, Adapter, ParameterUpdate, read_adapter
from taia.checkpoint.adapters.shapes import experts
from taia.checkpoint.adapters.tied import untie
from taia.checkpoint.arithmetic import load
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.sources import FLOATS, Sources, runs_of
from taia.errors import MismatchError
from taia.methods.given import Array
from taia.selection import Selection


def adapter_norms(
    base: Checkpoint, folder: Path, declare: Mapping[str, str] | None
) -> tuple[Iterator[Measured], tuple[str, ...]]:
    """Measure what an adapter does to its base.

    MoLoRA's experts are measured all together, though a token passes through some of them only.

    Args:
        base: The base's headers.
        folder: The adapter.
        declare: Labels for tensors that no rule knows.

    Returns:
        Each tensor of the base, read as it is asked for, and what is left out.

    Raises:
        AdapterError: If the adapter cannot be read, or changes what the base does not have.
        AnatomyError: If a tensor cannot be labelled.
        MismatchError: If the two do not belong together.
    """
    adapter = read_adapter(folder)
    placement = place(adapter, base, Selection.parse("all"), declare)
    routed = [item for item in placement.items if item.update.kind == "experts"]
    others = (item for item in placement.items if item.update.kind not in ("experts", "router"))
    plain = replace(placement, items=tuple(others))
    notes = []
    if routed:
        notes.append(
            "MoLoRA's experts are measured all together; a token passes through some of them. Its "
            "routers choose and change no weight: they are left out."
        )
    whole = sum(entry.dtype not in FLOATS for entry in base.tensors.values())
    if whole:
        notes.append(f"{whole} tensors of whole numbers are left out.")
    return _measured(base, adapter, plain, routed), tuple(notes)


def _measured(
    base: Checkpoint, adapter: Adapter, plain: Placement, routed: Sequence[Placed]
) -> Iterator[Measured]:
    plain, untied = untie(base, adapter, plain)
    changes = changes_of(base, adapter, plain, untied, "base")
    labels = dict(plain.labels)
    if untied is not None and untied.updates:
        labels[untied.head] = untied.updates[0].label
    beside = {item.base.name for item in routed if item.base is not None}
    with Sources() as sources:

        def weight(entry: Entry) -> float:
            return size(runs_of(entry, "base"), sources)

        for name, entry in base.tensors.items():
            if name in changes:
                yield Measured(labels[name], _size(adapter, changes[name], sources), weight(entry))
            elif entry.dtype in FLOATS and name not in beside:
                yield Measured(labels[name], 0.0, weight(entry))
        for name in changes.keys() - base.tensors.keys():  # a head tied to its embedding
            source = changes[name][0].target.entry
            yield Measured(labels[name], _size(adapter, changes[name], sources), weight(source))
        for item in routed:
            yield Measured(
                item.label, _product(adapter, item.update, sources), weight(_matrix(item, base))
            )


def _matrix(item: Placed, base: Checkpoint) -> Entry:
    """The tensor beside which experts stand."""
    if item.base is None:
        raise MismatchError(
            f"the adapter has experts beside {item.update.parameter!r}, for which {base.folder} "
            "has no tensor",
            "give the base model that the adapter was trained on",
        )
    return item.base


def _size(adapter: Adapter, changes: Sequence[Change], sources: Sources) -> float:
    """‖ΔW‖ of one tensor."""
    first = changes[0]
    update = first.placed.update
    is_product = update.kind in ("low rank", "embedding") and "magnitude" not in update.parts
    if len(changes) == 1 and is_product and not first.bias:
        return _product(adapter, update, sources, first.target.expert, first.target.rows)
    return norm(changed(adapter, changes, sources, "base") - load(first.target.entry, sources))


def _product(
    adapter: Adapter,
    update: ParameterUpdate,
    sources: Sources,
    which: int | None = None,
    rows: tuple[int, int] | None = None,
) -> float:
    """‖s·B·A‖ of an update, of all its experts or of one, of all its outputs or of some."""
    a, b = (
        load(adapter.entries[update.parts[side].tensor], sources).astype(np.float64)
        for side in SIDES[update.kind]
    )
    pairs = factors(a, b, experts(adapter, update))
    pairs = pairs if which is None else pairs[which : which + 1]
    some = slice(None) if rows is None else slice(*rows)
    squared = math.fsum(_gram(one, other[some]) for one, other in pairs)
    return abs(adapter.scaling(update)) * math.sqrt(squared)


def _gram(a: Array, b: Array) -> float:
    """‖B·A‖² of a [r, inputs] and b [outputs, r]; rounding may not make it negative."""
    return max(0.0, float(((b.T @ b) * (a @ a.T)).sum()))
