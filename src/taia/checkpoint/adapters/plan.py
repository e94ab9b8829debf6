"""What becomes of each tensor of an adapter: dropped, copied, or changed by a fraction of α."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from taia.checkpoint.adapters.config import Kept
from taia.checkpoint.adapters.names import PREFIX, Part
from taia.checkpoint.adapters.place import Placed, experts
from taia.checkpoint.adapters.read import SIDES, Adapter, Update
from taia.checkpoint.header import Entry
from taia.errors import AdapterError
from taia.selection import Alpha, Pieces


@dataclass(frozen=True, slots=True)
class Step:
    """One tensor of the adapter.

    Attributes:
        entry: Where it is.
        name: What it is called in the output.
        component: Of the parameter that it changes.
        alpha: 0 where it is dropped, 1 where its bytes are copied.
        make: Its new bytes, ``None`` where they are not calculated.
    """

    entry: Entry
    name: str
    component: str
    alpha: Alpha
    make: Callable[[], bytes] | None = None


def plan(adapter: Adapter, placed: Iterable[Placed]) -> tuple[Step, ...]:
    """One step per tensor, in the file's order.

    Raises:
        AdapterError: If an α cannot be folded into the adapter; the message says what to do.
    """
    placed = tuple(placed)
    depths = _depths(placed)
    partial_wrappers = _partial_wrappers(placed)
    steps: dict[str, Step] = {}
    for item in placed:
        update = item.update
        makes: Mapping[str, Callable[[], bytes]] = {}
        alpha = item.alpha
        if update.wrapper in partial_wrappers or not is_whole(alpha):
            makes = _makers(adapter, item)
        for part in update.parts.values():
            make = makes.get(part.kind)
            name = part.name if alpha == 0 else _nested(part, depths.get(update.parameter, 0))
            steps[part.tensor] = Step(
                adapter.entries[part.tensor], name, item.label.component, alpha, make
            )
    return tuple(steps[name] for name in adapter.entries)


def is_whole(alpha: Alpha) -> bool:
    """Whether an α needs no calculation."""
    return not isinstance(alpha, Pieces) and alpha in (0.0, 1.0)


def is_nothing(alpha: Alpha) -> bool:
    """Whether an α keeps nothing at all."""
    return not isinstance(alpha, Pieces) and alpha == 0.0


def kept(placed: Iterable[Placed], select: Callable[[Placed], bool]) -> Kept:
    """The modules, parameters and so on of those updates that are selected."""
    groups: dict[str, set[str]] = defaultdict(set)
    for item in placed:
        if not select(item):
            continue
        update = item.update
        if update.kind == "router":
            continue  # goes where its experts go
        if update.kind in SIDES:
            groups[update.kind].add(update.module)
            if update.through_parameter:
                groups["parameters"].add(update.parameter)
            else:
                groups["modules"].add(update.module)
        elif update.kind == "whole" and update.wrapper is not None:
            groups["wholes"].add(update.wrapper)
        else:
            groups[update.kind].add(update.module)
    return Kept(
        modules=frozenset(groups["modules"]),
        parameters=frozenset(groups["parameters"]),
        wholes=frozenset(groups["wholes"]),
        tokens=frozenset(groups["tokens"]),
        biases=bool(groups["bias"]),
        low_rank=frozenset(groups["low rank"]),
        experts=frozenset(groups["experts"]),
    )


def _depths(placed: Iterable[Placed]) -> dict[str, int]:
    """How deep each kept update lies, once wrappers around it are gone."""
    inside: dict[str, list[tuple[int, Update]]] = defaultdict(list)
    for item in placed:
        update = item.update
        if update.kind in ("low rank", "embedding") and not is_nothing(item.alpha):
            depth = next(iter(update.parts.values())).depth
            inside[update.module].append((depth, update))
    return {
        update.parameter: depth
        for updates in inside.values()
        for depth, (_, update) in enumerate(sorted(updates, key=lambda pair: pair[0]))
    }


def _nested(part: Part, depth: int) -> str:
    if part.depth == depth:
        return part.name
    tail = part.name.removeprefix(PREFIX + part.module + ".base_layer" * part.depth)
    return PREFIX + part.module + ".base_layer" * depth + tail


def _partial_wrappers(placed: Iterable[Placed]) -> set[str]:
    """Modules kept whole that need values of the base, because some of their tensors go.

    PEFT loads such a module with all of its tensors or not at all.
    """
    alphas: dict[str, list[Alpha]] = defaultdict(list)
    for item in placed:
        if item.update.wrapper is not None:
            alphas[item.update.wrapper].append(item.alpha)
    return {
        wrapper
        for wrapper, values in alphas.items()
        if any(map(is_nothing, values)) and not all(map(is_nothing, values))
    }


def _makers(adapter: Adapter, item: Placed) -> dict[str, Callable[[], bytes]]:
    update = item.update
    if update.kind == "router":
        return {}  # chooses as before; its experts have the fraction
    if update.kind in SIDES:
        return _low_rank_makers(adapter, item)
    (part,) = update.parts.values()
    if item.base is None:
        raise AdapterError(
            f"α of {update.parameter!r} is {_show(item.alpha)}: the adapter replaces it, so a "
            "part of the change needs the base's values",
            "give the base model's folder, or an α of 0 or 1",
        )
    if update.kind == "tokens":
        return {"tokens": partial(_tokens, adapter, item, part)}
    return {"whole": partial(_whole, adapter, item.base, part, item.alpha)}


def _low_rank_makers(adapter: Adapter, item: Placed) -> dict[str, Callable[[], bytes]]:
    update, alpha = item.update, item.alpha
    if "magnitude" in update.parts:
        raise AdapterError(
            f"α of {update.parameter!r} is {_show(alpha)}, but DoRA's update is not linear in α: "
            "its magnitude and its norm hang together",
            "use --merge, which blends the merged weights; or an α of 0 or 1",
        )
    if isinstance(alpha, Pieces) and "lora_B_bias" in update.parts:
        raise AdapterError(
            f"α of {update.parameter!r} is {_show(alpha)}, and its update has a bias (lora_bias)",
            "give the whole tensor one α",
        )
    sides = dict(zip(("a", "b"), SIDES[update.kind], strict=True))
    if update.kind == "low rank":
        sides["bias"] = "lora_B_bias"
    count = experts(adapter, update)
    if isinstance(alpha, Pieces):
        # PEFT's factors are always [rank, inputs] and [outputs, rank].
        axis = alpha.axis - (1 if count > 1 else 0)
        on_inputs = (axis == 0) == item.transposed
        changes = ["a"] if axis >= 0 and on_inputs else ["b"]
    else:
        changes = [key for key in ("b", "bias") if sides.get(key) in update.parts]
    return {
        sides[key]: partial(_fold, adapter, item, {k: sides[k] for k in changes}, key, count)
        for key in changes
    }


def _fold(adapter: Adapter, item: Placed, sides: Mapping[str, str], key: str, count: int) -> bytes:
    from taia.checkpoint.adapters.fold import dump, fold_low_rank, load

    tensors = {
        k: load(adapter.entries[item.update.parts[kind].tensor]) for k, kind in sides.items()
    }
    stacked = item.update.kind == "experts"
    if stacked:  # one LoRA of rank experts · r
        flat = {k: tensor.flatten(0, 1) for k, tensor in tensors.items()}
        tensors = {k: tensor.T if k == "b" else tensor for k, tensor in flat.items()}
    folded = fold_low_rank(tensors, item.alpha, stored_inputs_first=item.transposed, experts=count)
    return dump(folded[key].T if stacked and key == "b" else folded[key])


def _whole(adapter: Adapter, base: Entry, part: Part, alpha: Alpha) -> bytes:
    from taia.checkpoint.adapters.fold import blended, dump, load

    return dump(blended(load(base), load(adapter.entries[part.tensor]), alpha))


def _tokens(adapter: Adapter, item: Placed, part: Part) -> bytes:
    from taia.checkpoint.adapters.fold import blended, dump, load

    assert item.base is not None
    if isinstance(item.alpha, Pieces):
        raise AdapterError(
            f"α of {item.update.parameter!r} is {_show(item.alpha)}, but only some of its rows "
            "were trained",
            "give the embedding one α",
        )
    tuned = load(adapter.entries[part.tensor])
    rows = token_rows(adapter, item.update, item.base)
    return dump(blended(load(item.base)[rows], tuned, item.alpha))


def token_rows(adapter: Adapter, update: Update, base: Entry) -> list[int]:
    """Which rows of an embedding ``trainable_token_indices`` names.

    Raises:
        AdapterError: If the config does not say so, names another number of rows, or rows that the
            base's embedding does not have.
    """
    indices = adapter.config.get("trainable_token_indices")
    if isinstance(indices, dict):
        indices = next(
            (rows for key, rows in indices.items() if f".{update.module}".endswith(f".{key}")), None
        )
    part = update.parts["tokens"]
    if not isinstance(indices, list) or len(indices) != adapter.shape(part)[0]:
        raise AdapterError(
            f"{part.tensor!r} has {adapter.shape(part)[0]} rows, which trainable_token_indices in "
            "adapter_config.json does not account for",
            "the config and the tensors are not of the same adapter; save it again",
        )
    if max(indices, default=0) >= base.shape[0]:
        raise AdapterError(
            f"trainable_token_indices names token {max(indices)}, and {base.name!r} in {base.file} "
            f"has {base.shape[0]} rows",
            "give the base model that the adapter was trained on, resized as it was then",
        )
    return list(indices)


def _show(alpha: Alpha) -> str:
    return "different for some rows" if isinstance(alpha, Pieces) else f"{alpha:g}"
