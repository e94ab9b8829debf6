"""A fraction of an update as the adapter's own tensors: α in B, or blended with the base."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from taia.checkpoint.adapters.find import token_rows
from taia.checkpoint.adapters.names import Part
from taia.checkpoint.adapters.place import Placed, experts
from taia.checkpoint.adapters.read import SIDES, Adapter
from taia.checkpoint.plan import Tensor
from taia.checkpoint.sources import Sources
from taia.checkpoint.steps import Made, Pair, cut, runs_of
from taia.errors import AdapterError
from taia.selection import Alpha, Pieces


def changed(adapter: Adapter, item: Placed) -> Iterator[tuple[str, Tensor]]:
    """The tensors of an update that a fraction of α changes.

    Args:
        adapter: The adapter.
        item: The update.

    Yields:
        The kind of a part, and the output's tensor under PEFT's name for it.

    Raises:
        AdapterError: If the α cannot be folded into the adapter; the message says what to do.
    """
    update = item.update
    if update.kind == "router":
        return  # chooses as before; its experts have the fraction
    if update.kind in SIDES:
        yield from _scaled(adapter, item)
        return
    (part,) = update.parts.values()
    if item.base is None:
        raise AdapterError(
            f"α of {update.parameter!r} is {_show(item.alpha)}: the adapter replaces it, so a "
            "part of the change needs the base's values",
            "give the base model's folder, or an α of 0 or 1",
        )
    ours = runs_of(item.base, "base")
    if update.kind == "tokens":
        if isinstance(item.alpha, Pieces):
            raise AdapterError(
                f"α of {update.parameter!r} is {_show(item.alpha)}, but only some of its rows "
                "were trained",
                "give the embedding one α",
            )
        width = item.base.shape[1]
        rows = token_rows(adapter, update, item.base)
        ours = tuple(run for row in rows for run in cut(ours, row * width, (row + 1) * width))
    entry = adapter.entries[part.tensor]
    pair = Pair(part.name, entry.dtype, entry.shape, ours, runs_of(entry, "tuned"))
    yield part.kind, Tensor.of_pair(pair, item.alpha)


def _scaled(adapter: Adapter, item: Placed) -> Iterator[tuple[str, Tensor]]:
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
    if isinstance(alpha, Pieces):
        # PEFT's factors are always [rank, inputs] and [outputs, rank].
        axis = alpha.axis - (1 if experts(adapter, update) > 1 else 0)
        on_inputs = (axis == 0) == item.transposed
        changes = ["a"] if axis >= 0 and on_inputs else ["b"]
    else:
        changes = [key for key in ("b", "bias") if sides.get(key) in update.parts]
    for key in changes:
        part = update.parts[sides[key]]
        step = Made(partial(_fold, adapter, item, key, part))
        yield sides[key], Tensor.made(adapter.entries[part.tensor], step, part.name)


def _fold(
    adapter: Adapter, item: Placed, key: str, part: Part, sources: Sources
) -> Iterator[memoryview]:
    from taia.checkpoint.arithmetic import dump, fold_low_rank, load

    tensor = load(adapter.entries[part.tensor], sources)
    stacked = item.update.kind == "experts"
    if stacked:  # one LoRA of rank experts · r
        tensor = tensor.flatten(0, 1)
        tensor = tensor.T if key == "b" else tensor
    folded = fold_low_rank(
        {key: tensor},
        item.alpha,
        stored_inputs_first=item.transposed,
        experts=experts(adapter, item.update),
    )[key]
    yield dump(folded.T if stacked and key == "b" else folded)


def _show(alpha: Alpha) -> str:
    return "different for some rows" if isinstance(alpha, Pieces) else f"{alpha:g}"
