"""TAIA of an adapter: a filter. A PEFT adapter in, a standard PEFT adapter out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from taia.checkpoint.adapters.change import resized_to
from taia.checkpoint.adapters.factors import on_factors
from taia.checkpoint.adapters.fold import folded
from taia.checkpoint.adapters.method import check_method
from taia.checkpoint.adapters.names import PEFT_TYPE, PREFIX, AdapterTensor
from taia.checkpoint.adapters.narrow import narrowed
from taia.checkpoint.adapters.place import Placed, place
from taia.checkpoint.adapters.read import FILE, Adapter, ParameterUpdate
from taia.checkpoint.adapters.shapes import is_quantised
from taia.checkpoint.adapters.tied import with_tied_heads
from taia.checkpoint.composition import MatchRow, match_table, row_of
from taia.checkpoint.folders import ADAPTER_CONFIG
from taia.checkpoint.formula import Formula
from taia.checkpoint.heads import Vocab
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.output import tokenizer_files
from taia.checkpoint.plan import FilePlan, OutputPlan, Tensor, Weights, as_json
from taia.errors import AdapterError
from taia.selection import Alpha, Selection


def plan_filter(
    base: Checkpoint | None,
    adapter: Adapter,
    selection: Selection,
    *,
    vocab: Vocab | None = None,
    declare: Mapping[str, str] | None = None,
    formula: Formula | None = None,
) -> OutputPlan:
    """Plan what a selection keeps of a LoRA, rsLoRA, DoRA or MoLoRA adapter.

    Where α is 0 or 1 bytes are copied; a fraction is folded into B.

    Args:
        base: The base model. Without it updates are labelled by their names alone, rows
            of fused projections cannot be told apart, and no fraction of a whole module is
            possible.
        adapter: The adapter.
        selection: What to keep.
        vocab: Whose vocabulary to take. An adapter that has resized it keeps its own.
        declare: Labels for tensors that no rule knows.
        formula: The method that makes of the updates what is kept, ``None`` for all of them.

    Raises:
        AdapterError: If nothing is kept, or an α cannot be folded into the adapter; or the method
            leaves no adapter.
        AnatomyError: If a tensor has no label.
        MismatchError: If the adapter does not fit the base.
        SelectionError: If a part of the selection matches nothing.
    """
    placement = place(adapter, base, selection, declare, formula)
    placed = with_tied_heads(base, placement)
    told: tuple[str, ...] = ()
    if formula is not None:
        formula = formula.fitted(placement.labels, base)
        told = check_method(adapter, placed, formula, merge=False)
    parts = _parts(adapter, placed, formula)
    kept = [part.tensor for part in parts if part.tensor is not None]
    if not kept:
        by = "" if formula is None else f" by {formula.applied}"
        raise AdapterError(
            f"{selection}{by} keeps nothing of {adapter.folder}: the result would be the base "
            "model",
            "use the base model, or select something that the adapter has; it has "
            + ", ".join(dict.fromkeys(part.row.component for part in parts)),
        )
    config = narrowed(adapter, placed, base)
    resized = _resized(adapter, placed, vocab)
    return OutputPlan(
        kind="adapter",
        weights=Weights((FilePlan.of(FILE, kept, {"format": "pt"}),)),
        beside=tokenizer_files.beside(adapter.folder, adapter.folder, True)[0],
        config=(ADAPTER_CONFIG, as_json(config)),
        rows=match_table(part.row for part in parts),
        alphas={part.name: part.alpha for part in parts},
        notes=(*told, *resized, *_notes(config, placed, parts, base)),
        alone=config["peft_type"] != PEFT_TYPE,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """What becomes of one tensor of the adapter.

    Attributes:
        name: Its name there.
        alpha: Of its update.
        row: Its line of the match table.
        tensor: The output's, ``None`` where it is left out.
    """

    name: str
    alpha: Alpha
    row: MatchRow
    tensor: Tensor | None


def _parts(
    adapter: Adapter, placed: Iterable[Placed], formula: Formula | None
) -> tuple[_Part, ...]:
    """One per tensor, in the file's order.

    Raises:
        AdapterError: If an α cannot be folded into the adapter; the message says what to do.
    """
    placed = tuple(placed)
    depths = _depths(placed)
    partial_wrappers = _partial_wrappers(placed)
    found: dict[str, _Part] = {}
    for item in placed:
        update, alpha = item.update, item.alpha
        made: Mapping[str, Tensor] = {}
        changed = alpha not in (0.0, 1.0) or on_factors(adapter, item, formula) is not None
        if changed or update.wrapper in partial_wrappers:
            made = dict(folded(adapter, item, formula))
        for part in update.parts.values():
            entry = adapter.entries[part.tensor]
            tensor = made.get(part.kind)
            taken: Alpha | None = None
            if tensor is None:
                taken = 0.0 if item.dropped else 1.0
                tensor = None if item.dropped else Tensor.copied(entry)
            if tensor is not None:
                name = _nested(part, depths.get(update.parameter, 0))
                tensor = replace(tensor, name=name)
            row = row_of(item.label.component, entry.dtype, entry.shape, taken)
            found[part.tensor] = _Part(part.tensor, alpha, row, tensor)
    return tuple(found[name] for name in adapter.entries)


# --- what lies inside what ----------------------------------------------------------------------


def _depths(placed: Iterable[Placed]) -> dict[str, int]:
    """How deep each kept update lies, once wrappers around it are gone."""
    inside: dict[str, list[tuple[int, ParameterUpdate]]] = defaultdict(list)
    for item in placed:
        update = item.update
        if update.kind in ("low rank", "embedding") and not item.dropped:
            depth = next(iter(update.parts.values())).depth
            inside[update.module].append((depth, update))
    return {
        update.parameter: depth
        for updates in inside.values()
        for depth, (_, update) in enumerate(sorted(updates, key=lambda pair: pair[0]))
    }


def _nested(part: AdapterTensor, depth: int) -> str:
    if part.depth == depth:
        return part.name
    tail = part.name.removeprefix(PREFIX + part.module + ".base_layer" * part.depth)
    return PREFIX + part.module + ".base_layer" * depth + tail


def _partial_wrappers(placed: Iterable[Placed]) -> set[str]:
    """Modules kept whole that need values of the base, because some of their tensors go.

    PEFT loads such a module with all of its tensors or not at all.
    """
    dropped: dict[str, list[bool]] = defaultdict(list)
    for item in placed:
        if item.update.wrapper is not None:
            dropped[item.update.wrapper].append(item.dropped)
    return {wrapper for wrapper, values in dropped.items() if any(values) and not all(values)}


def _resized(adapter: Adapter, placed: Iterable[Placed], vocab: Vocab | None) -> tuple[str, ...]:
    """What to say of a vocabulary that the adapter has resized.

    Raises:
        AdapterError: If the base's is wanted.
    """
    for item in placed:
        rows = None if item.dropped else resized_to(adapter, item)
        if rows is None or item.base is None:
            continue
        if vocab == "base":
            raise AdapterError(
                f"{item.update.parameter!r} has {rows} rows in {adapter.folder} and "
                f"{item.base.shape[0]} in the base, and an adapter cannot keep fewer than it has",
                "use --merge with --vocab base, or leave embedding and head out of the selection",
            )
        return (
            f"The adapter has {rows} vocabulary rows and the base {item.base.shape[0]}: before it "
            f"is loaded, the base must be resized (resize_token_embeddings({rows})).",
        )
    return ()


# --- notes --------------------------------------------------------------------------------------


def _notes(
    config: Mapping[str, Any],
    placed: Iterable[Placed],
    parts: tuple[_Part, ...],
    base: Checkpoint | None,
) -> tuple[str, ...]:
    notes = []
    left_out = sum(part.tensor is None for part in parts)
    if left_out:
        notes.append(f"{left_out} of {len(parts)} tensors of the adapter are left out.")
    if _scattered(placed):
        notes.append(
            "Updates of single experts are kept in some layers or projections and not in others. "
            "With transformers 5, which fuses experts, PEFT puts them on all layers or refuses to "
            "load them: use --merge."
        )
    rounded = sorted(
        {part.tensor.dtype for part in parts if part.tensor and part.row.blended.tensors}
    )
    if rounded:
        notes.append(
            f"Fractions were calculated in float32 and rounded to {' and '.join(rounded)}: unless "
            "α is a power of two, each number may be off by half a unit in its last place."
        )
    if base is None:
        notes.append("Without the base model, modules were told apart by their names alone.")
    elif is_quantised(base):
        notes.append("The base model is quantised: shapes were not compared with its.")
    elif missing := [item.update.parameter for item in placed if item.base is None]:
        notes.append(
            f"{len(missing)} adapted parameters are stored under other names in the base "
            f"checkpoint ({missing[0]} …) and were labelled by their own."
        )
    return (*notes, *_servers(config))


def _scattered(placed: Iterable[Placed]) -> bool:
    """Whether single experts (an older adapter's) are kept in part."""
    dropped = {
        item.dropped for item in placed if re.search(r"\.experts\.\d+\.", item.update.parameter)
    }
    return len(dropped) > 1


def _servers(config: Mapping[str, Any]) -> Iterable[str]:
    """What vLLM 0.33 and llama.cpp cannot load, or load wrongly."""
    if config["peft_type"] == PEFT_TYPE:
        yield "MoLoRA is loaded by PEFT only, once taia.molora is imported."
    if config.get("use_dora"):
        yield "DoRA is loaded by PEFT only; for vLLM and llama.cpp use --merge."
    if config.get("modules_to_save"):
        yield (
            f"modules_to_save ({', '.join(config['modules_to_save'])}) is rejected by vLLM and "
            "llama.cpp; leave it out of the selection, or use --merge."
        )
    if config.get("trainable_token_indices"):
        yield "Trained tokens are loaded by PEFT only; for vLLM and llama.cpp use --merge."
    if config.get("bias", "none") != "none":
        yield "Trained biases are loaded by PEFT only; for vLLM and llama.cpp use --merge."
    if config.get("target_parameters"):
        yield "target_parameters needs peft 0.17 or later; for others use --merge."
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        yield (
            "rank_pattern and alpha_pattern give modules different scales; vLLM and llama.cpp "
            "apply one scale to all; use --merge for them."
        )
    if config.get("use_rslora"):
        yield "llama.cpp ignores use_rslora and would scale by alpha / r; use --merge for it."
