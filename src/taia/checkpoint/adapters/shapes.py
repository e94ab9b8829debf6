"""Whether an update is one of the base's tensor: which way round it lies, and its sizes."""

from __future__ import annotations

from taia.anatomy.fused import INPUTS_FIRST_EXPERTS
from taia.anatomy.label import number
from taia.anatomy.labels import Label
from taia.checkpoint.adapters.find import unstacked
from taia.checkpoint.adapters.read import SIDES, Adapter, ParameterUpdate
from taia.checkpoint.header import Entry
from taia.checkpoint.heads import is_of_vocabulary
from taia.checkpoint.index import Checkpoint
from taia.errors import MismatchError


def is_quantised(base: Checkpoint) -> bool:
    """Whether a checkpoint holds weights packed into fewer bits."""
    return bool((base.config or {}).get("quantization_config"))


def low_rank_sizes(adapter: Adapter, update: ParameterUpdate) -> tuple[int, int]:
    """``(outputs, inputs)`` of a low-rank update; for an embedding, ``(width, vocabulary)``."""
    a, b = (adapter.shape(update.parts[side]) for side in SIDES[update.kind])
    return b[-1 if update.kind == "experts" else 0], a[-1]


def experts(adapter: Adapter, update: ParameterUpdate) -> int:
    """How many experts of the base a low-rank update is stacked of; 1 for a plain matrix."""
    if update.kind == "experts":  # MoLoRA's own, on a plain matrix
        return 1
    return adapter.shape(update.parts[SIDES[update.kind][0]])[0] // adapter.rank(update)


def first_shape(adapter: Adapter, update: ParameterUpdate) -> tuple[int, ...]:
    """Of the first of an update's tensors."""
    return adapter.shape(next(iter(update.parts.values())))


def stored_shape(
    adapter: Adapter, update: ParameterUpdate, base: Checkpoint | None
) -> tuple[int, ...] | None:
    """The shape of a parameter that the base has no tensor for, ``None`` where it is not known."""
    if update.kind in ("whole", "bias"):
        return first_shape(adapter, update)
    if update.kind in ("tokens", "unused"):
        return None
    outputs, inputs = low_rank_sizes(adapter, update)
    if update.through_parameter:
        # transformers stacks experts as [experts, outputs, inputs] where it stacks them itself.
        known = base is not None and unstacked(update.parameter, base)
        return (experts(adapter, update), outputs, inputs) if known else None
    transposed = is_transposed(adapter, update, None, base)
    return (inputs, outputs) if transposed else (outputs, inputs)


def is_transposed(
    adapter: Adapter, update: ParameterUpdate, entry: Entry | None, base: Checkpoint | None
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
        return entry is not None and _model_type(base) in INPUTS_FIRST_EXPERTS
    in_a_layer = any(number(part) is not None for part in update.module.split("."))
    return in_a_layer and base is not None and base.is_conv1d


def _model_type(base: Checkpoint | None) -> object:
    return None if base is None or base.config is None else base.config.get("model_type")


def check_shape(
    adapter: Adapter,
    update: ParameterUpdate,
    entry: Entry,
    whole: tuple[int, ...] | None,
    label: Label,
    transposed: bool,
) -> None:
    """Refuse an update that is not one of the base's tensor.

    Args:
        adapter: The adapter.
        update: The update.
        entry: The base's tensor.
        whole: The shape of what the adapter replaces that tensor by, if it does. A vocabulary may
            be resized by it, and further updates are of what it replaces.
        label: What the tensor is.
        transposed: Whether it is stored [inputs, outputs].
    """
    wanted: tuple[object, ...]
    below = whole or entry.shape
    if update.kind in ("whole", "bias"):
        wanted = first_shape(adapter, update)
        fits = entry.shape == wanted or (
            is_of_vocabulary(label) and entry.shape[1:] == wanted[1:] and len(wanted) == 2
        )
    elif update.kind == "tokens":
        wanted = ("…", *first_shape(adapter, update)[1:])
        fits = below[1:] == wanted[1:]
    elif update.kind in SIDES:
        outputs, inputs = low_rank_sizes(adapter, update)
        count = experts(adapter, update)
        matrix = (inputs, outputs) if transposed else (outputs, inputs)
        wanted = matrix if count == 1 else (count, *matrix)
        fits = below == wanted
    else:
        return  # a router's shape says nothing of the parameter's
    if not fits:
        raise MismatchError(
            f"{update.parameter!r} is {list(entry.shape)} in {entry.file}, and {list(wanted)} in "
            f"{adapter.folder}",
            "give the base model that the adapter was trained on",
        )
