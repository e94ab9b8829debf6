"""Where an adapter's updates belong: the base checkpoint's tensor of each, its label and its α."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from taia.anatomy import Anatomy
from taia.anatomy.components import COMPONENTS, GROUPS
from taia.anatomy.label import number
from taia.anatomy.labels import Label, TensorInfo
from taia.checkpoint.adapters.find import Finder, unstacked
from taia.checkpoint.adapters.names import BESIDE, name_of
from taia.checkpoint.adapters.read import Adapter, ParameterUpdate
from taia.checkpoint.adapters.shapes import (
    check_shape,
    first_shape,
    is_quantised,
    is_transposed,
    stored_shape,
)
from taia.checkpoint.formula import Formula
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.sources import FLOATS
from taia.errors import AdapterError, MismatchError
from taia.selection import Alpha, Selection
from taia.selection.alpha import shown

#: Kind of an update → what it is of, on a module of the feed-forward block that has experts.
_COMPONENTS: Final = {"low rank": "shared_experts", "experts": "experts", "router": "router"}
_ITS_BASE: Final = "give the base model that the adapter was trained on"


@dataclass(frozen=True, slots=True)
class Placed:
    """An update, its place and its α.

    Attributes:
        update: The update.
        base: The base checkpoint's tensor that it changes, ``None`` when the base is not at hand or
            stores it differently (fused experts, a tied head, quantised).
        label: What that tensor is.
        alpha: How much of the update to keep.
        transposed: Whether the parameter is stored [inputs, outputs].
    """

    update: ParameterUpdate
    base: Entry | None
    label: Label
    alpha: Alpha
    transposed: bool

    @property
    def dropped(self) -> bool:
        """Whether nothing of it is kept."""
        return self.alpha == 0.0


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
    formula: Formula | None = None,
) -> Placement:
    """Find the place and the α of each of an adapter's updates.

    Args:
        adapter: The adapter.
        base: Its base model's checkpoint. Without it the updates are labelled by name alone.
        selection: What to keep. With the base, its names and layers are those of the whole model;
            without, only of what the adapter has, so negative layers count from its last layer.
        declare: Labels for tensors that no rule knows.
        formula: The method, whose numbers for places become part of α.

    Raises:
        AdapterError: If the selection parts experts from their router.
        AnatomyError: If a tensor cannot be labelled.
        MismatchError: If the adapter does not fit the base, in what is kept of it.
        SelectionError: If a part of the selection matches nothing.
    """
    config = None if base is None else base.config
    entries = _entries(adapter, base)
    labels: dict[str, Label] = {}
    if base is not None:
        infos = (entry.info for entry in base.tensors.values())
        labels.update(Anatomy.of_tensors(infos, config, declare))
    unplaced = [
        TensorInfo(u.parameter, stored_shape(adapter, u, base))
        for u in adapter.updates
        if entries[u.parameter] is None and u.kind != "router"
    ]
    labels.update(Anatomy.of_tensors(unplaced, config, declare))

    def changed(update: ParameterUpdate) -> str:
        entry = entries[update.parameter]
        return update.parameter if entry is None else entry.name

    wholes = {changed(u): first_shape(adapter, u) for u in adapter.updates if u.kind == "whole"}
    labels.update(with_experts(adapter, labels, changed))
    alphas = selection.alphas(labels if base is not None else labels | _stand_ins())
    if formula is not None:
        alphas = formula.fitted(labels).weighed(alphas, labels)
    items = []
    for update in adapter.updates:
        name = name_of(update.kind, changed(update))
        entry, alpha = entries[update.parameter], alphas[name]
        transposed = is_transposed(adapter, update, entry, base)
        if entry is not None and alpha != 0.0:
            check_shape(adapter, update, entry, wholes.get(entry.name), labels[name], transposed)
        items.append(Placed(update, entry, labels[name], alpha, transposed))
    _check_together(items)
    return Placement(tuple(items), labels, alphas)


def _entries(adapter: Adapter, base: Checkpoint | None) -> dict[str, Entry | None]:
    """Parameter → the base's tensor of it.

    Raises:
        MismatchError: If there is a base, and it has none of them, or lacks the layer of one.
    """
    if base is None:
        return {update.parameter: None for update in adapter.updates}
    finder = Finder(base)
    packed = is_quantised(base)
    found: dict[str, Entry | None] = {}
    known = False
    for update in adapter.updates:
        name = finder.find(update.parameter)
        entry = None if name is None else base.tensors[name]
        known = known or entry is not None or bool(unstacked(update.parameter, base))
        if packed and (entry is None or entry.dtype not in FLOATS):
            # Its bytes are not numbers of the weight, nor its shape the weight's.
            entry, known = None, known or finder.has_module(update.module)
        found[update.parameter] = entry
    if not known:
        raise MismatchError(
            f"none of the modules that {adapter.folder} adapts is in {base.folder}; the first is "
            f"{adapter.updates[0].module!r}",
            _ITS_BASE,
        )
    for update in adapter.updates:
        layer = _layer(update.module)
        if found[update.parameter] is None and layer and not finder.has_module(layer):
            raise MismatchError(
                f"{adapter.folder} adapts {update.module!r}, and {base.folder} has no {layer!r}",
                _ITS_BASE,
            )
    return found


def _layer(module: str) -> str | None:
    """Path of the layer that a module lies in, ``None`` outside of all."""
    parts = module.split(".")
    ends = (at for at, part in enumerate(parts, start=1) if number(part) is not None)
    return ".".join(parts[:end]) if (end := next(ends, None)) else None


def _stand_ins() -> dict[str, Label]:
    """One label of each component, so that ``all - mlp`` also reads on an adapter without mlp."""
    return {
        f"({component})": Label(TensorInfo(f"({component})"), component, None, component)
        for component in COMPONENTS
    }


# --- MoLoRA: a router and experts beside the LoRA of a module -----------------------------------


def relabelled(label: Label, kind: str) -> Label:
    """The label of an update of a kind, on a module that has experts.

    In the feed-forward block its LoRA is the shared expert. Elsewhere everything is labelled as the
    tensor that it changes.
    """
    component = label.component
    if GROUPS["mlp"](label):
        component = _COMPONENTS.get(kind, component)
    tensor = replace(label.tensor, name=name_of(kind, label.tensor.name))
    return replace(label, component=component, tensor=tensor)


def with_experts(
    adapter: Adapter, labels: Mapping[str, Label], tensor: Callable[[ParameterUpdate], str]
) -> dict[str, Label]:
    """Labels of what an adapter changes, by :func:`name_of`.

    Args:
        adapter: The adapter.
        labels: The labels of the tensors that it changes.
        tensor: The name there of the one that an update changes.
    """
    found = {}
    for update in adapter.updates:
        label = labels[tensor(update)]
        if update.module in adapter.routed:
            label = relabelled(label, update.kind)
        found[label.tensor.name] = label
    return found


def check_router(module: str, experts: Alpha, router: Alpha) -> None:
    """Check that a selection treats the experts and the router of a module as one.

    Raises:
        AdapterError: If it keeps one of the two, or a fraction of the router that is not its
            experts' own.
    """
    if (experts == 0.0) != (router == 0.0):
        kept, dropped = ("router", "experts") if experts == 0.0 else ("experts", "router")
        raise AdapterError(
            f"the selection keeps the {kept} of {module!r} and drops its {dropped}: one is "
            "nothing without the other",
            "select both (experts + router) or none of the two",
        )
    if router not in (1.0, experts):
        raise AdapterError(
            f"α of the router of {module!r} is {shown(router)}: it chooses, and has no fraction",
            "give the fraction to its experts: experts and router are scaled as one by "
            "0.5*(experts + router)",
        )


def _check_together(placed: Iterable[Placed]) -> None:
    alphas: dict[str, dict[str, Alpha]] = defaultdict(dict)
    for item in placed:
        if item.update.kind in BESIDE:
            alphas[item.update.module][item.update.kind] = item.alpha
    for module, of in alphas.items():
        check_router(module, of["experts"], of["router"])
