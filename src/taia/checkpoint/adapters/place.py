"""Where an adapter's updates belong: the base checkpoint's tensor of each, its label and its α."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from taia.anatomy.components import COMPONENTS, GROUPS
from taia.anatomy.labels import Label, TensorInfo
from taia.checkpoint.adapters.find import Finder, unstacked
from taia.checkpoint.adapters.names import BESIDE, name_of
from taia.checkpoint.adapters.read import SIDES, Adapter, Update
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.labels import Labeller
from taia.errors import AdapterError, MismatchError
from taia.selection import Alpha, Pieces, Selection

#: Architectures of transformers 5 whose linear layers are Conv1D: weights stored [in, out].
_CONV1D: Final = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})

#: Architectures whose stacked experts PEFT takes as [experts, in, out] (their ``is_transposed``).
_INPUTS_FIRST_EXPERTS: Final = frozenset({"gpt_oss", "openai_privacy_filter", "aria", "aria_text"})

#: Kind of an update → what it is of, on a module of the feed-forward block that has experts.
_COMPONENTS: Final = {"low rank": "shared_experts", "experts": "experts", "router": "router"}


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

    @property
    def dropped(self) -> bool:
        """Whether nothing of it is kept."""
        return is_nothing(self.alpha)


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


def is_nothing(alpha: Alpha) -> bool:
    """Whether an α keeps nothing at all."""
    return not isinstance(alpha, Pieces) and alpha == 0.0


def place(
    adapter: Adapter,
    base: Checkpoint | None,
    selection: Selection,
    declare: Mapping[str, str] | None = None,
) -> Placement:
    """Find the place and the α of each of an adapter's updates.

    Args:
        adapter: The adapter.
        base: Its base model's checkpoint. Without it the updates are labelled by name alone.
        selection: What to keep. With the base, its names and layers are those of the whole model;
            without, only of what the adapter has, so negative layers count from its last layer.
        declare: Labels for tensors that no rule knows.

    Raises:
        AdapterError: If the selection parts experts from their router.
        AnatomyError: If a tensor cannot be labelled.
        MismatchError: If the adapter does not fit the base, in what is kept of it.
        SelectionError: If a part of the selection matches nothing.
    """
    labeller = Labeller(declare)
    config = None if base is None else base.config
    entries = _entries(adapter, base)
    labels: dict[str, Label] = {}
    if base is not None:
        labels.update(labeller((entry.info for entry in base.tensors.values()), config))
    unplaced = [
        TensorInfo(u.parameter, _stored(adapter, u, base))
        for u in adapter.updates
        if entries[u.parameter] is None and u.kind != "router"
    ]
    labels.update(labeller(unplaced, config))

    def changed(update: Update) -> str:
        entry = entries[update.parameter]
        return update.parameter if entry is None else entry.name

    labels.update(with_experts(adapter, labels, changed))
    alphas = selection.alphas(labels if base is not None else labels | _stand_ins())
    items = []
    for update in adapter.updates:
        name = name_of(update.kind, changed(update))
        entry, alpha = entries[update.parameter], alphas[name]
        transposed = _is_transposed(adapter, update, entry, base)
        if entry is not None and not is_nothing(alpha):
            _check_shape(adapter, update, entry, transposed)
        items.append(Placed(update, entry, labels[name], alpha, transposed))
    _check_together(items)
    return Placement(tuple(items), labels, alphas)


def low_rank_sizes(adapter: Adapter, update: Update) -> tuple[int, int]:
    """``(outputs, inputs)`` of a low-rank update; for an embedding, ``(width, vocabulary)``."""
    a, b = (adapter.shape(update.parts[side]) for side in SIDES[update.kind])
    return b[-1 if update.kind == "experts" else 0], a[-1]


def experts(adapter: Adapter, update: Update) -> int:
    """How many experts of the base a low-rank update is stacked of; 1 for a plain matrix."""
    if update.kind == "experts":  # MoLoRA's own, on a plain matrix
        return 1
    return adapter.shape(update.parts[SIDES[update.kind][0]])[0] // adapter.rank(update)


def _entries(adapter: Adapter, base: Checkpoint | None) -> dict[str, Entry | None]:
    """Parameter → the base's tensor of it.

    Raises:
        MismatchError: If there is a base, and it has none of them.
    """
    if base is None:
        return {update.parameter: None for update in adapter.updates}
    finder = Finder(base.tensors)
    found = {update.parameter: finder.find(update.parameter) for update in adapter.updates}
    if not any(name or unstacked(parameter, base.tensors) for parameter, name in found.items()):
        raise MismatchError(
            f"none of the modules that {adapter.folder} adapts is in {base.folder}; the first is "
            f"{adapter.updates[0].module!r}",
            "give the base model that the adapter was trained on",
        )
    return {parameter: base.tensors[name] if name else None for parameter, name in found.items()}


def _stored(adapter: Adapter, update: Update, base: Checkpoint | None) -> tuple[int, ...] | None:
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
    transposed = _is_transposed(adapter, update, None, base)
    return (inputs, outputs) if transposed else (outputs, inputs)


def _is_transposed(
    adapter: Adapter, update: Update, entry: Entry | None, base: Checkpoint | None
) -> bool:
    """Whether a parameter is stored [inputs, outputs].

    Its shape tells, and where that is square the architecture. Not ``fan_in_fan_out``: PEFT goes by
    the module's class, whatever the config says.
    """
    if update.kind == "embedding":
        return True
    if update.kind not in SIDES:
        return False
    outputs, inputs = low_rank_sizes(adapter, update)
    if entry is not None and outputs != inputs:
        return entry.shape[-2:] == (inputs, outputs)
    if update.through_parameter:
        return entry is not None and _model_type(base) in _INPUTS_FIRST_EXPERTS
    in_a_layer = any(part.isdigit() for part in update.module.split("."))
    return in_a_layer and _is_conv1d(base)


def _model_type(base: Checkpoint | None) -> object:
    return None if base is None or base.config is None else base.config.get("model_type")


def _is_conv1d(base: Checkpoint | None) -> bool:
    if base is None or base.config is not None:
        return _model_type(base) in _CONV1D
    return any(
        name.endswith(".c_attn.weight") and entry.shape[1:] == (3 * entry.shape[0],)
        for name, entry in base.tensors.items()
    )


def _check_shape(adapter: Adapter, update: Update, entry: Entry, transposed: bool) -> None:
    """Refuse an update that is not one of the base's tensor."""
    wanted: tuple[object, ...]
    if update.kind in ("whole", "bias"):
        wanted = adapter.shape(next(iter(update.parts.values())))
        fits = entry.shape == wanted
    elif update.kind == "tokens":
        wanted = ("…", *adapter.shape(update.parts["tokens"])[1:])
        fits = entry.shape[1:] == wanted[1:]
    elif update.kind == "router":
        return  # its shape says nothing of the parameter's
    else:
        outputs, inputs = low_rank_sizes(adapter, update)
        count = experts(adapter, update)
        matrix = (inputs, outputs) if transposed else (outputs, inputs)
        wanted = matrix if count == 1 else (count, *matrix)
        fits = entry.shape == wanted
    if not fits:
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
    adapter: Adapter, labels: Mapping[str, Label], tensor: Callable[[Update], str]
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


def check_pair(module: str, experts: Alpha, router: Alpha) -> None:
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
        shown = "different for some rows" if isinstance(router, Pieces) else f"{router:g}"
        raise AdapterError(
            f"α of the router of {module!r} is {shown}: it chooses, and has no fraction",
            "give the fraction to its experts: experts and router are scaled as one by "
            "0.5*(experts + router)",
        )


def _check_together(placed: Iterable[Placed]) -> None:
    alphas: dict[str, dict[str, Alpha]] = defaultdict(dict)
    for item in placed:
        if item.update.kind in BESIDE:
            alphas[item.update.module][item.update.kind] = item.alpha
    for module, of in alphas.items():
        check_pair(module, of["experts"], of["router"])
