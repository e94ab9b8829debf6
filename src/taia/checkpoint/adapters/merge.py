"""An adapter and its base model as a whole checkpoint: W = W_base + α·ΔW."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from taia.checkpoint.adapters.change import Change, changes_of, merged, taken
from taia.checkpoint.adapters.place import Placed, Placement, place
from taia.checkpoint.adapters.read import Adapter
from taia.checkpoint.adapters.tied import Untied, untie, untied_config
from taia.checkpoint.composition import match_table, row_of
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.output import tokenizer_files
from taia.checkpoint.plan import Plan, Tensor, config_file, like_base
from taia.checkpoint.steps import Made
from taia.errors import AdapterError
from taia.selection import Selection

_ADAPTER_INSTEAD: Final = "compose without --merge: the adapter loads on top of the base as it is"


def plan_merge(
    base: Checkpoint,
    adapter: Adapter,
    selection: Selection,
    declare: Mapping[str, str] | None = None,
) -> Plan:
    """Plan the base with what a selection keeps of an adapter merged into it.

    Tensors without an update are copied byte for byte. The others are calculated one at a time, in
    float32, and rounded once to the base's dtype.

    Args:
        base: The base's headers.
        adapter: The adapter's.
        selection: What to keep.
        declare: Labels for tensors that no rule knows.

    Raises:
        AdapterError: If the update cannot be merged; the message says what to do instead.
        AnatomyError: If a tensor has no label.
        MismatchError: If the base lacks a module that the adapter changes.
        SelectionError: If a part of the selection matches nothing.
    """
    _check(base, adapter)
    placement = place(adapter, base, selection, declare)
    _check_experts(placement.items)
    untied = untie(base, adapter, placement)
    changes = changes_of(base, adapter, placement, untied)
    sources = dict(base.tensors)
    components = {name: placement.labels[name].component for name in sources}
    alphas = {name: placement.alphas[name] for name in sources}
    if untied is not None and untied.head not in sources:
        sources[untied.head] = untied.source
        components[untied.head] = "head"
        alphas[untied.head] = untied.alpha
    config = base.config
    if untied is not None and config is not None:
        config = untied_config(config)
    return Plan(
        kind="checkpoint",
        weights=like_base(
            base,
            {
                name: Tensor.made(entry, Made(partial(merged, adapter, changes[name])), name)
                if name in changes
                else Tensor.copied(entry, name)
                for name, entry in sources.items()
            },
        ),
        beside=tokenizer_files.beside(
            base.folder, adapter.folder, tokenizer_files.has_tokenizer(adapter.folder)
        )[0],
        config=config_file(base, config),
        rows=match_table(
            row_of(components[name], entry.dtype, entry.shape, taken(changes.get(name, ())))
            for name, entry in sources.items()
        ),
        alphas=alphas,
        notes=_notes(adapter, placement, changes, untied),
    )


# --- what cannot be merged ----------------------------------------------------------------------


def _check(base: Checkpoint, adapter: Adapter) -> None:
    if (base.config or {}).get("quantization_config"):
        raise AdapterError(
            f"{base.folder} is quantised; merging would round the update away",
            f"{_ADAPTER_INSTEAD}; or give the unquantised base model",
        )
    if adapter.config.get("alora_invocation_tokens"):
        raise AdapterError(
            f"{adapter.folder} is an activated LoRA, which changes some tokens and not others",
            _ADAPTER_INSTEAD,
        )


def _check_experts(placed: Iterable[Placed]) -> None:
    for item in placed:
        if item.update.kind == "experts" and item.alpha != 0.0:
            raise AdapterError(
                f"the experts of {item.update.module!r} cannot be merged: which of them count "
                "depends on the token",
                "compose without --merge, or leave experts and router out of the selection, as "
                "--keep taia does",
            )


def _notes(
    adapter: Adapter,
    placement: Placement,
    changes: Mapping[str, tuple[Change, ...]],
    untied: Untied | None,
) -> tuple[str, ...]:
    notes = [
        f"{len(changes)} tensors were calculated in float32 and rounded once to the base's dtype; "
        "the others are the base's bytes."
    ]
    if not changes:
        notes = ["The selection keeps nothing of the adapter: this is the base model."]
    if any("magnitude" in item.update.parts for item in placement.items):
        notes.append("DoRA was merged with its norms taken in float32.")
    if untied is not None:
        notes.append(
            f"The adapter changes the embedding and the head differently, which the base model "
            f"shares: {untied.head} is now a tensor of its own and tie_word_embeddings is false."
        )
    return tuple(notes)
