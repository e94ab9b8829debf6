"""An adapter and its base model as a whole checkpoint: W = W_base + α·ΔW."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from taia.anatomy.labels import Label
from taia.checkpoint.adapters.change import (
    Change,
    changes_of,
    merged,
    resized_to,
    taken,
)
from taia.checkpoint.adapters.method import Work, check_method
from taia.checkpoint.adapters.place import Placed, Placement, place
from taia.checkpoint.adapters.read import Adapter
from taia.checkpoint.adapters.shapes import is_quantised
from taia.checkpoint.adapters.tied import Untied, as_embedding, untie, with_tied_heads
from taia.checkpoint.composition import match_table, row_of
from taia.checkpoint.configs import composed_config
from taia.checkpoint.formula import Formula, TensorFormula
from taia.checkpoint.header import Entry
from taia.checkpoint.heads import Vocab, is_of_vocabulary, rows_of, vocab_notes
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.output import tokenizer_files
from taia.checkpoint.plan import OutputPlan, Tensor, config_file, like_base
from taia.errors import AdapterError, MismatchError
from taia.selection import Selection

_ADAPTER_INSTEAD: Final = "compose without --merge: the adapter loads on top of the base as it is"


def plan_merge(
    base: Checkpoint,
    adapter: Adapter,
    selection: Selection,
    *,
    vocab: Vocab | None = None,
    declare: Mapping[str, str] | None = None,
    formula: Formula | None = None,
) -> OutputPlan:
    """Plan the base with what a selection keeps of an adapter merged into it.

    Tensors without an update are copied byte for byte. The others are calculated one at a time, in
    float32, and rounded once to the base's dtype.

    Args:
        base: The base's headers.
        adapter: The adapter's.
        selection: What to keep.
        vocab: Whose vocabulary to take where the adapter has resized it.
        declare: Labels for tensors that no rule knows.
        formula: The method that makes of the updates what is kept, ``None`` for all of them.

    Raises:
        AdapterError: If the update cannot be merged; the message says what to do instead.
        AnatomyError: If a tensor has no label.
        MismatchError: If the base lacks a module that the adapter changes.
        SelectionError: If a part of the selection matches nothing.
    """
    _check(base, adapter)
    files = base
    placement = place(adapter, base, selection, declare, formula)
    base = as_embedding(base, placement)
    if base is not files:
        placement = place(adapter, base, selection, declare, formula)
    _check_experts(placement.items)
    told: tuple[str, ...] = ()
    if formula is not None:
        formula = formula.fitted(placement.labels, base)
        told = check_method(adapter, with_tied_heads(base, placement), formula, merge=True)
    placement, untied = untie(base, adapter, placement)
    changes = changes_of(base, adapter, placement, untied, vocab)
    entries = dict(base.tensors)
    components = {name: placement.labels[name].component for name in entries}
    alphas = {name: placement.alphas[name] for name in entries}
    if untied is not None and untied.head not in entries:
        entries[untied.head] = replace(untied.source, name=untied.head)
        components[untied.head] = "head"
        alphas[untied.head] = untied.alpha
    resized = _resized(adapter, changes, vocab)
    rows = rows_of(resized, vocab)
    if resized and rows == resized[1]:
        _check_all_resized(placement.labels, entries, changes, resized[1])
    works: dict[str, Work] = {}
    if formula is not None:
        labels = {n: placement.labels.get(n) or some[0].placed.label for n, some in changes.items()}
        works = {n: Work(formula, _on_entries(formula, labels[n], base)) for n in changes}
        if formula.applied.method.entries is not None:
            told = (formula.note(labels, dict.fromkeys(labels, 1.0)),)
    tensors = {}
    for name, entry in entries.items():
        if name not in changes:
            tensors[name] = Tensor.copied(entry)
            continue
        shape = entry.shape
        if rows is not None and _resized(adapter, {name: changes[name]}, vocab) is not None:
            shape = (rows, *shape[1:])
        calculated = partial(merged, adapter, changes[name], vocab, works.get(name))
        tensors[name] = Tensor.made(name, entry.dtype, shape, calculated)
    shares = {name: taken(changes.get(name, ())) for name in entries}
    for name, work in works.items():
        if work.calculates(adapter, (change.placed for change in changes[name])):
            shares[name] = None
    config, _ = composed_config(base.config, rows=rows, untied=untied is not None)
    tokens_tuned = vocab != "base" and tokenizer_files.has_tokenizer(adapter.folder)
    return OutputPlan(
        kind="checkpoint",
        weights=like_base(files, _by_files_names(files, tensors)),
        beside=tokenizer_files.beside(base.folder, adapter.folder, tokens_tuned)[0],
        config=config_file(base, config),
        rows=match_table(
            row_of(components[name], tensor.dtype, tensor.shape, shares[name])
            for name, tensor in tensors.items()
        ),
        alphas=alphas,
        notes=(*told, *_notes(adapter, placement, changes, untied), *vocab_notes(resized, vocab)),
    )


def _on_entries(formula: Formula, label: Label, base: Checkpoint) -> TensorFormula | None:
    """The method on a tensor's numbers, where it is of these and not of factors."""
    if formula.applied.method.entries is None:
        return None
    return formula.on(label, base.inputs_first(label))


def _by_files_names(base: Checkpoint, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The output's tensors by the names that they have in the base's files.

    An embedding takes the place of the head that it was stored as, unless that is there as well.
    """
    stored = [name for name in base.tensors if name not in tensors]
    renamed = (name for name in tensors if stored and name not in base.tensors)
    names = dict(zip(renamed, stored, strict=False))
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


def _resized(
    adapter: Adapter, changes: Mapping[str, Iterable[Change]], vocab: Vocab | None
) -> tuple[int, int] | None:
    """The base's and the adapter's numbers of vocabulary rows where they differ.

    Raises:
        MismatchError: If they do and nobody says whose to take, or there are more than two.
    """
    found: tuple[int, int] | None = None
    for name, some in changes.items():
        for change in some:
            entry = change.target.entry
            rows = resized_to(adapter, change.placed, entry)
            if rows is None:
                continue
            if found not in (None, (entry.shape[0], rows)):
                raise MismatchError(
                    f"{name!r} is resized from {entry.shape[0]} to {rows} rows in "
                    f"{adapter.folder}, and another tensor of the vocabulary from {found}",
                    "give the base model that the adapter was trained on",
                )
            found = entry.shape[0], rows
            if vocab is None:
                raise MismatchError(
                    f"The vocabularies differ: {name!r} has {found[0]} rows in the base and "
                    f"{found[1]} in the adapter.",
                    "Choose one: --vocab tuned keeps the adapter's rows and tokenizer, --vocab "
                    "base the base's; or leave embedding and head out of the selection.",
                )
    return found


def _check_all_resized(
    labels: Mapping[str, Label],
    entries: Mapping[str, Entry],
    changes: Mapping[str, Iterable[Change]],
    rows: int,
) -> None:
    """Refuse an adapter that has resized one tensor of the vocabulary and not another."""
    whole = {
        name for name, some in changes.items() if any(c.placed.update.kind == "whole" for c in some)
    }
    vocabulary = {entry.shape[0] for name, entry in entries.items() if name in whole}
    for name, entry in entries.items():
        known = labels.get(name)
        of_vocabulary = known is None or is_of_vocabulary(known)
        if of_vocabulary and name not in whole and entry.shape[:1] and entry.shape[0] in vocabulary:
            raise MismatchError(
                f"{name!r} has {entry.shape[0]} rows, and the adapter resizes the vocabulary to "
                f"{rows} without saving that tensor",
                "use --vocab base; or merge with PEFT on the resized base and compose checkpoints",
            )


# --- what cannot be merged ----------------------------------------------------------------------


def _check(base: Checkpoint, adapter: Adapter) -> None:
    if is_quantised(base):
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
