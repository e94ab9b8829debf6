"""How large an adapter's updates are, and of how many directions.

A product B·A is never formed: ‖BA‖² = tr((BᵀB)(AAᵀ)), and these two have the rank's size. Where an
update is no product (DoRA, modules saved whole) the changed tensor is, one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from taia.analysis.measured import Measured
from taia.analysis.spectrum import of_matrices, of_product
from taia.analysis.streaming import norm, size
from taia.anatomy.labels import Label
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
    base: Checkpoint, folder: Path, declare: Mapping[str, str] | None, ranks: bool
) -> tuple[Iterator[Measured], tuple[str, ...]]:
    """Measure what an adapter does to its base.

    MoLoRA's experts are measured all together, though a token passes through some of them only.

    Args:
        base: The base's headers.
        folder: The adapter.
        declare: Labels for tensors that no rule knows.
        ranks: Whether effective ranks are wanted where an update is no product, too.

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
    return _measured(base, adapter, plain, routed, ranks), tuple(notes)


def _measured(
    base: Checkpoint,
    adapter: Adapter,
    plain: Placement,
    routed: Sequence[Placed],
    ranks: bool,
) -> Iterator[Measured]:
    plain, untied = untie(base, adapter, plain)
    changes = changes_of(base, adapter, plain, untied, "base")
    labels = dict(plain.labels)
    if untied is not None and untied.updates:
        labels[untied.head] = untied.updates[0].label
    beside = {item.base.name for item in routed if item.base is not None}
    with Sources() as sources:

        def one(label: Label, beside: Entry, found: _Update) -> Measured:
            return Measured(label, found.size, size(runs_of(beside, "base"), sources), found.ranks)

        for name, entry in base.tensors.items():
            if name in changes:
                found = _update(adapter, changes[name], sources, ranks)
                yield one(labels[name], entry, found)
            elif entry.dtype in FLOATS and name not in beside:
                yield one(labels[name], entry, _NOTHING)
        for name in changes.keys() - base.tensors.keys():  # a head tied to its embedding
            found = _update(adapter, changes[name], sources, ranks)
            yield one(labels[name], changes[name][0].target.entry, found)
        for item in routed:
            yield one(item.label, _matrix(item, base), _product(adapter, item.update, sources))


def _matrix(item: Placed, base: Checkpoint) -> Entry:
    """The tensor beside which experts stand."""
    if item.base is None:
        raise MismatchError(
            f"the adapter has experts beside {item.update.parameter!r}, for which {base.folder} "
            "has no tensor",
            "give the base model that the adapter was trained on",
        )
    return item.base


class _Update(NamedTuple):
    """‖ΔW‖, and the effective rank of each matrix of ΔW."""

    size: float
    ranks: tuple[float, ...]


_NOTHING: Final = _Update(0.0, ())


def _update(adapter: Adapter, changes: Sequence[Change], sources: Sources, ranks: bool) -> _Update:
    """What is done to one tensor."""
    first = changes[0]
    update = first.placed.update
    is_product = update.kind in ("low rank", "embedding") and "magnitude" not in update.parts
    if len(changes) == 1 and is_product and not first.bias:
        return _product(adapter, update, sources, first.target.expert, first.target.rows)
    whole = changed(adapter, changes, sources, "base") - load(first.target.entry, sources)
    length = norm(whole)
    wanted = ranks and length > 0 and math.isfinite(length)
    return _Update(length, tuple(of_matrices(whole)) if wanted else ())


def _product(
    adapter: Adapter,
    update: ParameterUpdate,
    sources: Sources,
    which: int | None = None,
    rows: tuple[int, int] | None = None,
) -> _Update:
    """s·B·A of an update, of all its experts or of one, of all its outputs or of some."""
    a, b = (
        load(adapter.entries[update.parts[side].tensor], sources).astype(np.float64)
        for side in SIDES[update.kind]
    )
    pairs = factors(a, b, experts(adapter, update))
    pairs = pairs if which is None else pairs[which : which + 1]
    some = slice(None) if rows is None else slice(*rows)
    pairs = tuple((one, other[some]) for one, other in pairs)
    length = abs(adapter.scaling(update)) * math.sqrt(math.fsum(_gram(*pair) for pair in pairs))
    if not length or not math.isfinite(length):
        return _Update(length, ())
    return _Update(length, tuple(of_product(*pair) for pair in pairs))


def _gram(a: Array, b: Array) -> float:
    """‖B·A‖² of a [r, inputs] and b [outputs, r]; rounding may not make it negative."""
    return max(0.0, float(((b.T @ b) * (a @ a.T)).sum()))
