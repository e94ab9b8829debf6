"""Where an adapter's updates belong: the base checkpoint's tensor of each, its label and its α."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from taia.anatomy import Anatomy
from taia.anatomy.components import COMPONENTS
from taia.anatomy.fused import CONV1D
from taia.anatomy.labels import Label, TensorInfo
from taia.checkpoint.adapters.experts import check_together, name_of, with_experts
from taia.checkpoint.adapters.read import SIDES, Adapter, Update
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.merging.place import unstacked
from taia.checkpoint.spelling import newer
from taia.errors import MismatchError
from taia.selection import Alpha, Selection


@dataclass(frozen=True, slots=True)
class Placed:
    """An update, its place and its α.

    Attributes:
        update: The update.
        base: The base checkpoint's tensor that it changes, ``None`` when the base is not at hand or
            stores it differently (fused experts, a tied head).
        label: What that tensor is.
        alpha: How much of the update to keep.
        transposed: Whether the parameter is stored [inputs, outputs].
    """

    update: Update
    base: Entry | None
    label: Label
    alpha: Alpha
    transposed: bool


@dataclass(frozen=True, slots=True)
class Placement:
    """Where all of an adapter's updates belong.

    Attributes:
        items: One per update, in the adapter's order.
        labels: Every tensor of the base (where it is at hand), and every parameter that is adapted
            but not among them.
        alphas: The α of each of these.
    """

    items: tuple[Placed, ...]
    labels: Mapping[str, Label]
    alphas: Mapping[str, Alpha]


def place(
    adapter: Adapter,
    base: Checkpoint | None,
    selection: Selection,
    declare: Mapping[str, str] | None = None,
) -> Placement:
    """Finds the place and the α of each of an adapter's updates.

    Args:
        adapter: The adapter.
        base: Its base model's checkpoint. Without it the updates are labelled by name alone.
        selection: What to keep. With the base, its names and layers are those of the whole model;
            without, only of what the adapter has, so negative layers count from its last layer.
        declare: Labels for tensors that no rule knows.

    Raises:
        AdapterError: If the selection parts experts from their router.
        AnatomyError: If a tensor cannot be labelled.
        MismatchError: If the adapter does not fit the base.
        SelectionError: If a part of the selection matches nothing.
    """
    config = None if base is None else base.config
    finder = Finder(() if base is None else base.tensors)
    entries: dict[str, Entry | None] = {}
    for update in adapter.updates:
        found = finder.find(update.parameter)
        entries[update.parameter] = None if base is None or not found else base.tensors[found]
    if base is not None and not any(
        found or unstacked(name, base.tensors) for name, found in entries.items()
    ):
        first = adapter.updates[0]
        raise MismatchError(
            f"none of the modules that {adapter.folder} adapts is in {base.folder}; the first is "
            f"{first.module!r}",
            "give the base model that the adapter was trained on",
        )
    transposed = {
        u.parameter: _transposed(adapter, u, entries[u.parameter], config)
        for u in adapter.updates
        if u.kind != "router"  # its shape says nothing of the parameter's
    }
    labels: dict[str, Label] = {}
    if base is not None:
        labels.update(Anatomy.of_tensors((e.info for e in base.tensors.values()), config, declare))
    unplaced = [
        TensorInfo(u.parameter, _stored(adapter, u, transposed[u.parameter], base))
        for u in adapter.updates
        if entries[u.parameter] is None and u.kind != "router"
    ]
    labels.update(Anatomy.of_tensors(unplaced, config, declare))

    def changed(update: Update) -> str:
        entry = entries[update.parameter]
        return update.parameter if entry is None else entry.name

    labels.update(with_experts(adapter, labels, changed))
    alphas = selection.alphas(labels if base is not None else labels | _stand_ins())
    items = []
    for update in adapter.updates:
        name = name_of(update.kind, changed(update))
        entry = entries[update.parameter]
        items.append(
            Placed(update, entry, labels[name], alphas[name], transposed[update.parameter])
        )
    check_together(items)
    return Placement(tuple(items), labels, alphas)


class Finder:
    """Finds live parameters among a checkpoint's names, through the spellings both may have."""

    def __init__(self, names: Iterable[str]) -> None:
        names = tuple(names)
        self._names = {newer(name): name for name in names} | {name: name for name in names}

    def find(self, parameter: str) -> str | None:
        """The checkpoint's name of a live model's parameter, ``None`` if it has none."""
        return self._names.get(parameter) or self._names.get(newer(parameter))


def low_rank_sizes(adapter: Adapter, update: Update) -> tuple[int, int]:
    """``(outputs, inputs)`` of a low-rank update; for an embedding, ``(width, vocabulary)``."""
    a, b = (adapter.shape(update.parts[side]) for side in SIDES[update.kind])
    return b[-1 if update.kind == "experts" else 0], a[-1]


def experts(adapter: Adapter, update: Update) -> int:
    """How many experts of the base a low-rank update is stacked of; 1 for a plain matrix."""
    if update.kind == "experts":  # MoLoRA's own, on a plain matrix
        return 1
    return adapter.shape(update.parts[SIDES[update.kind][0]])[0] // adapter.rank(update)


def _stored(
    adapter: Adapter, update: Update, transposed: bool, base: Checkpoint | None
) -> tuple[int, ...] | None:
    """The shape of a parameter that the base has no tensor for, ``None`` where it is not known."""
    if update.kind in ("whole", "bias"):
        return adapter.shape(next(iter(update.parts.values())))
    if update.kind == "tokens":
        return None
    outputs, inputs = low_rank_sizes(adapter, update)
    if update.through_parameter:
        # transformers stacks experts as [experts, outputs, inputs] where it stacks them itself.
        known = base is not None and unstacked(update.parameter, base.tensors)
        return (experts(adapter, update), outputs, inputs) if known else None
    return (inputs, outputs) if transposed else (outputs, inputs)


def _transposed(
    adapter: Adapter, update: Update, entry: Entry | None, config: Mapping[str, Any] | None
) -> bool:
    """Whether a parameter is stored [inputs, outputs], checked against the base's shape."""
    shape = None if entry is None else entry.shape
    if update.kind in ("whole", "bias"):
        wanted = adapter.shape(next(iter(update.parts.values())))
        _check_shape(adapter, update, entry, shape is None or shape == wanted, wanted)
        return False
    if update.kind == "tokens":
        width = adapter.shape(update.parts["tokens"])[1:]
        _check_shape(adapter, update, entry, shape is None or shape[1:] == width, ("…", *width))
        return False
    outputs, inputs = low_rank_sizes(adapter, update)
    if update.kind == "embedding":
        fits = shape is None or shape == (inputs, outputs)
        _check_shape(adapter, update, entry, fits, (inputs, outputs))
        return True
    if shape is None or (shape[-2:] == (inputs, outputs) and inputs == outputs):
        conv1d = config is not None and config.get("model_type") in CONV1D
        in_a_layer = any(part.isdigit() for part in update.module.split("."))
        return in_a_layer and (conv1d or bool(adapter.config.get("fan_in_fan_out")))
    count = experts(adapter, update)
    wanted = (outputs, inputs) if count == 1 else (count, outputs, inputs)
    swapped = (*wanted[:-2], inputs, outputs)
    _check_shape(adapter, update, entry, shape in (wanted, swapped), wanted)
    return shape != wanted


def _check_shape(
    adapter: Adapter, update: Update, entry: Entry | None, fits: bool, wanted: tuple[object, ...]
) -> None:
    if fits or entry is None:
        return
    raise MismatchError(
        f"{update.parameter!r} is {list(entry.shape)} in {entry.file}, and {list(wanted)} in "
        f"{adapter.folder}",
        "give the base model that the adapter was trained on",
    )


def _stand_ins() -> dict[str, Label]:
    """One label of each component, so that ``all - mlp`` also reads on an adapter without mlp."""
    return {
        f"({component})": Label(TensorInfo(f"({component})"), component, None, component)
        for component in COMPONENTS
    }
