"""An adapter and its base model, merged into a whole checkpoint: W = W_base + α·ΔW."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from taia.checkpoint import companions
from taia.checkpoint.adapters.card import adapter_identity
from taia.checkpoint.adapters.experts import check_merge
from taia.checkpoint.adapters.place import Placement, place
from taia.checkpoint.adapters.read import Adapter
from taia.checkpoint.card import write_card
from taia.checkpoint.composition import Composition, Progress
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.locate import Located
from taia.checkpoint.manifest import identity, write_json, write_manifest
from taia.checkpoint.merging.change import Change, changes_of, merged
from taia.checkpoint.merging.tied import Untied, untie, untied_config
from taia.checkpoint.merging.write import rows, write_tensors
from taia.checkpoint.staging import staged
from taia.errors import AdapterError
from taia.selection import Alpha, Selection

_ADAPTER_INSTEAD: Final = "compose without --merge: the adapter loads on top of the base as it is"


@dataclass(frozen=True, slots=True)
class Inputs:
    """An adapter and its base.

    Attributes:
        base: The base's headers.
        adapter: The adapter's.
        base_at: Where the base was found.
        adapter_at: Where the adapter was found.
        doubts: What speaks against their belonging together, for the notes.
    """

    base: Checkpoint
    adapter: Adapter
    base_at: Located
    adapter_at: Located
    doubts: tuple[str, ...] = ()


def merge_adapter(
    inputs: Inputs,
    output: Path | None,
    selection: Selection,
    *,
    hash_inputs: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    declare: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Composition:
    """Writes the base with what a selection keeps of an adapter merged into it.

    Tensors without an update are copied byte for byte. The others are calculated one at a time, in
    float32, and rounded once to the base's dtype.

    Args:
        inputs: The adapter and its base.
        output: Where the checkpoint shall appear; ``None`` only for a dry run.
        selection: What to keep.
        hash_inputs: Record SHA-256 of all input files, which means reading all of them.
        dry_run: Say what would happen, and write nothing.
        overwrite: Replace a model that is already at ``output``.
        declare: Labels for tensors that no rule knows.
        progress: Called with the bytes written so far and the bytes there will be.

    Raises:
        AdapterError: If the update cannot be merged; the message says what to do instead.
        MismatchError: If the base lacks a module that the adapter changes.
        OutputError: If the output cannot be written.
    """
    base, adapter = inputs.base, inputs.adapter
    _check(base, adapter)
    placement = place(adapter, base, selection, declare)
    check_merge(placement.items)
    untied = untie(base, adapter, placement)
    changes = changes_of(base, adapter, placement, untied)
    composition = Composition(
        output=output,
        kind="checkpoint",
        selection=str(selection),
        rows=rows(base, placement, changes, untied),
        alphas=_alphas(base, placement, untied),
        notes=(*inputs.doubts, *_notes(adapter, placement, changes, untied)),
        written=not dry_run,
    )
    if dry_run or output is None:
        return composition
    make = {name: partial(merged, adapter, some) for name, some in changes.items()}
    added = None
    if untied is not None and untied.head not in base.tensors:
        added = replace(untied.source, name=untied.head)
    keep = selection.text
    needed = sum(shard.size for shard in base.shards)
    with staged(output, overwrite, needed=needed) as folder:
        write_tensors(base, folder, make, added, progress)
        _write_companions(inputs, folder, untied)
        write_card(folder, composition, inputs.base_at, inputs.adapter_at, keep, ("--merge",))
        write_manifest(
            folder,
            composition,
            keep=keep,
            base=identity(inputs.base_at, base, hash_inputs),
            tuned=adapter_identity(inputs.adapter_at, adapter, hash_inputs),
            merge=True,
            declare=declare,
        )
    return composition


def _write_companions(inputs: Inputs, folder: Path, untied: Untied | None) -> None:
    base, adapter = inputs.base, inputs.adapter.folder
    files, _ = companions.companions(base.folder, adapter, companions.has_tokenizer(adapter))
    companions.copy(files, folder)
    if base.config is not None:
        config = base.config if untied is None else untied_config(base.config)
        write_json(folder / "config.json", config)


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


def _alphas(base: Checkpoint, placement: Placement, untied: Untied | None) -> dict[str, Alpha]:
    alphas = {name: placement.alphas[name] for name in base.tensors}
    if untied is not None and untied.head not in alphas:
        alphas[untied.head] = untied.alpha
    return alphas


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
