"""A fraction of an update as the adapter's own tensors: α in B, or blended with the base."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from taia.checkpoint.adapters.factors import factored, on_factors
from taia.checkpoint.adapters.find import token_rows
from taia.checkpoint.adapters.names import AdapterTensor
from taia.checkpoint.adapters.place import Placed
from taia.checkpoint.adapters.read import SIDES, Adapter
from taia.checkpoint.adapters.shapes import experts
from taia.checkpoint.formula import Formula, TensorFormula
from taia.checkpoint.header import Entry
from taia.checkpoint.heads import with_rows
from taia.checkpoint.plan import Tensor
from taia.checkpoint.sources import ByteRun, Runs, Sources, cut, runs_of
from taia.checkpoint.steps import TensorPair
from taia.errors import AdapterError
from taia.selection import Pieces
from taia.selection.alpha import shown

if TYPE_CHECKING:
    from taia.methods.given import Array


def folded(
    adapter: Adapter, item: Placed, formula: Formula | None = None
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of an update that a fraction of α changes, or a method.

    Yields:
        The kind of a part, and the output's tensor under PEFT's name for it.

    Raises:
        AdapterError: If the α cannot be folded into the adapter; the message says what to do.
    """
    update = item.update
    if update.kind in ("router", "unused"):
        return  # a router chooses as before; its experts have the fraction
    if update.kind in SIDES:
        yield from _scaled(adapter, item, on_factors(adapter, item, formula))
        return
    (part,) = update.parts.values()
    if item.base is None:
        raise AdapterError(
            f"α of {update.parameter!r} is {shown(item.alpha)}: the adapter replaces it, so a "
            "part of the change needs the base's values",
            "give the base model's folder, or an α of 0 or 1",
        )
    entry = adapter.entries[part.tensor]
    ours, theirs = runs_of(item.base, "base"), runs_of(entry, "tuned")
    width = math.prod(entry.shape[1:])
    if update.kind == "tokens":
        if isinstance(item.alpha, Pieces):
            raise AdapterError(
                f"α of {update.parameter!r} is {shown(item.alpha)}, but only some of its rows "
                "were trained",
                "give the embedding one α",
            )
        ours = tuple(_token_runs(adapter, item, item.base, ours, theirs))
    elif update.kind == "whole" and entry.shape[:1] > item.base.shape[:1]:
        # Of rows that the base does not have, nothing is the base's.
        ours = with_rows(ours, theirs, item.base.shape[0], entry.shape[0], width)
    pair = TensorPair(part.name, entry.dtype, entry.shape, ours, theirs)
    yield part.kind, Tensor.of_pair(pair, item.alpha)


def _token_runs(
    adapter: Adapter, item: Placed, base: Entry, ours: Runs, theirs: Runs
) -> Iterator[ByteRun]:
    """The base's rows of trained tokens; of new tokens, the trained rows themselves."""
    width = base.shape[1]
    replaced = [u for u in adapter.updates if u.kind == "whole" and u.module == item.update.module]
    shapes = [base.shape, *(adapter.shape(update.parts["whole"]) for update in replaced)]
    rows = token_rows(adapter, item.update, max(shape[0] for shape in shapes))
    for at, row in enumerate(rows):
        runs, first = (ours, row) if row < base.shape[0] else (theirs, at)
        yield from cut(runs, first * width, (first + 1) * width)


def _scaled(
    adapter: Adapter, item: Placed, method: TensorFormula | None
) -> Iterator[tuple[str, Tensor]]:
    from taia.checkpoint.adapters.low_rank import changed_by

    update, alpha = item.update, item.alpha
    if "magnitude" in update.parts:
        raise AdapterError(
            f"α of {update.parameter!r} is {shown(alpha)}, but DoRA's update is not linear in α: "
            "its magnitude and its norm hang together",
            "use --merge, which blends the merged weights; or an α of 0 or 1",
        )
    if isinstance(alpha, Pieces) and "lora_B_bias" in update.parts:
        raise AdapterError(
            f"α of {update.parameter!r} is {shown(alpha)}, and its update has a bias (lora_bias)",
            "give the whole tensor one α",
        )
    sides = dict(zip(("a", "b"), SIDES[update.kind], strict=True))
    if update.kind == "low rank":
        sides["bias"] = "lora_B_bias"
    changed = changed_by(
        alpha, stored_inputs_first=item.transposed, experts=experts(adapter, update)
    )
    made = None
    if method is not None:
        changed = ("a", "b", *(key for key in changed if key == "bias" and alpha != 1.0))
        made = _Made(partial(_stacked, adapter, item, method))
    for key in (key for key in changed if sides.get(key) in update.parts):
        part = update.parts[sides[key]]
        fold = partial(_fold, adapter, item, key, part, None if key == "bias" else made)
        entry = adapter.entries[part.tensor]
        yield sides[key], Tensor.made(part.name, entry.dtype, entry.shape, fold)


def _fold(
    adapter: Adapter,
    item: Placed,
    key: str,
    part: AdapterTensor,
    made: _Made | None,
    sources: Sources,
) -> Iterator[memoryview]:
    from taia.checkpoint.adapters.low_rank import fold_low_rank
    from taia.checkpoint.arithmetic import dump, load

    entry = adapter.entries[part.tensor]
    tensor = load(entry, sources) if made is None else made.get(key, sources)
    routed = item.update.kind == "experts"
    if routed:  # one LoRA of rank experts · r
        tensor = tensor.reshape(math.prod(tensor.shape[:-1]), tensor.shape[-1])
        tensor = tensor.T if key == "b" else tensor
    values = fold_low_rank(
        {key: tensor},
        item.alpha,
        stored_inputs_first=item.transposed,
        experts=experts(adapter, item.update),
    ).get(key, tensor)
    yield dump(values.T if routed and key == "b" else values, entry.dtype)


class _Made:
    """Both factors as a method leaves them, made once, whichever thread first asks for one."""

    def __init__(self, make: Callable[[Sources], tuple[Array, Array]]) -> None:
        self._make, self._lock = make, Lock()
        self._waiting: dict[str, Array] = {}

    def get(self, key: str, sources: Sources) -> Array:
        """One of them, ``"a"`` or ``"b"``; the other waits until it is asked for."""
        with self._lock:
            if key not in self._waiting:
                a, b = self._make(sources)
                self._waiting = {"a": a, "b": b}
            return self._waiting.pop(key)


def _stacked(
    adapter: Adapter, item: Placed, method: TensorFormula, sources: Sources
) -> tuple[Array, Array]:
    from taia.checkpoint.adapters.low_rank import stacked

    each = factored(adapter, item, sources, method, item.base)
    return stacked([(one.a, one.b) for one in each])
