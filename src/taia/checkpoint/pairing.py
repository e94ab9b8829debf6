"""Two whole checkpoints: paired tensor by tensor, and from which of them each byte comes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from taia.anatomy import Anatomy
from taia.anatomy.labels import Label, TensorInfo
from taia.checkpoint.alignment import SidePart, align, part
from taia.checkpoint.composition import match_table, row_of
from taia.checkpoint.configs import check_kinship, composed_config, may_tie
from taia.checkpoint.header import BITS, Entry
from taia.checkpoint.heads import (
    TokenRows,
    Vocab,
    resized_rows,
    rows_of,
    tied_in_base,
    tied_in_tuned,
    vocab_notes,
    with_rows,
)
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.output import tokenizer_files
from taia.checkpoint.plan import OutputPlan, Tensor, config_file, like_base
from taia.checkpoint.sources import FLOATS, Sources, runs_of
from taia.checkpoint.steps import TensorPair
from taia.errors import MismatchError, SelectionError
from taia.selection import Selection
from taia.selection.alpha import Alpha, Pieces

_EIGHT_BIT: Final = "8-bit weights mean nothing without their scales"
_WHOLE_NUMBERS: Final = "whole numbers have nothing between them"


@dataclass(frozen=True)
class Pairing:
    """What can be composed.

    Attributes:
        pairs: Every tensor of the output by name, in the base's order.
        labels: What each of them is.
        untied: ``(head, embedding)``, or the other way round, where the base ties the two and only
            keeps the second; the pair of the first is last, and its base is that of the second.
        resized: ``(base's, tuned's)`` numbers of vocabulary rows where they differ.
        notes: What was respelled, resized, untied, kept or rounded.
    """

    pairs: dict[str, TensorPair]
    labels: Mapping[str, Label]
    untied: tuple[str, str] | None
    resized: tuple[int, int] | None
    notes: tuple[str, ...]


def pair_up(
    base: Checkpoint,
    tuned: Checkpoint,
    vocab: Vocab | None = None,
    declare: Mapping[str, str] | None = None,
) -> Pairing:
    """Pair every tensor of the base with the tuned model's.

    The output has the base's names, dtypes and order.

    Args:
        base: The model before fine-tuning.
        tuned: The model after.
        vocab: Whose vocabulary to take where their sizes differ.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.

    Raises:
        AnatomyError: If a tensor has no label.
        MismatchError: If they do not belong together; it names the first difference.
    """
    check_kinship(base.config, tuned.config)
    alignment = align(base, tuned)
    notes = list(alignment.notes)
    parts, missing, extra = dict(alignment.parts), list(alignment.missing), list(alignment.extra)
    untied = None
    ours, theirs = TokenRows(base, declare), TokenRows(tuned, declare)
    if missing:
        missing, extra = tied_in_tuned(ours, theirs, missing, extra, parts, notes)
    if extra and not alignment.missing:  # a head in another place is none that was tied
        extra, untied = tied_in_base(theirs, tuned, extra, parts, notes)
    _refuse_rest(missing, extra)

    sides: dict[str, tuple[Entry, SidePart | None]] = {
        name: (entry, parts[name]) for name, entry in base.tensors.items()
    }
    if untied is not None:
        added, kept = untied
        sides[added] = replace(base.tensors[kept], name=added), part(tuned.tensors[added])
    resized = resized_rows(sides, ours, vocab)
    pairs = {name: _pair(*side, resized, vocab) for name, side in sides.items()}
    labels = ours.labels
    if untied or resized:
        infos = (TensorInfo(pair.name, pair.shape, pair.dtype) for pair in pairs.values())
        labels = Anatomy.of_tensors(infos, base.config, declare)
    notes += vocab_notes(resized, vocab) + _dtype_notes(sides)
    return Pairing(pairs, labels, untied, resized, tuple(notes))


def _refuse_rest(missing: list[Entry], extra: list[Entry]) -> None:
    if not missing and not extra:
        return
    first = (missing or extra)[0]
    has, lacks = ("base", "tuned model") if missing else ("tuned model", "base")
    more = len(missing or extra) - 1
    also = f" (and {more} more)" if more else ""
    raise MismatchError(
        f"The {has} has the tensor {first.name!r} of shape {first.shape}{also}, which the {lacks} "
        "lacks.",
        "Base must be the model that tuned was trained from: same architecture, same size.",
    )


def _pair(
    entry: Entry, other: SidePart | None, resized: tuple[int, int] | None, vocab: Vocab | None
) -> TensorPair:
    ours = runs_of(entry, "base")
    if other is None:
        return TensorPair(entry.name, entry.dtype, entry.shape, ours, None)
    if entry.dtype != other.dtype and not {entry.dtype, other.dtype} <= FLOATS:
        raise MismatchError(
            f"Tensor {entry.name!r} is {entry.dtype} in the base and {other.dtype} in the tuned "
            "model: one of them is quantised.",
            "Give both in one format; dequantise the quantised one first.",
        )
    rows = rows_of(resized, vocab)
    if entry.shape == other.shape or resized is None or rows is None:
        return TensorPair(entry.name, entry.dtype, entry.shape, ours, other.runs)
    width = math.prod(entry.shape[1:])
    return TensorPair(
        entry.name,
        entry.dtype,
        (rows, *entry.shape[1:]),
        with_rows(ours, other.runs, resized[0], rows, width),
        with_rows(other.runs, ours, resized[1], rows, width),
    )


def _dtype_notes(sides: Mapping[str, tuple[Entry, SidePart | None]]) -> list[str]:
    counts = Counter(
        (other.dtype, entry.dtype)
        for entry, other in sides.values()
        if other is not None and other.dtype != entry.dtype
    )
    return [
        f"{count} tensors are {theirs} in the tuned model; what is kept of them is rounded to the "
        f"base's {mine}."
        for (theirs, mine), count in counts.items()
    ]


# --- the plan -----------------------------------------------------------------------------------


def plan_checkpoints(
    base: Checkpoint,
    tuned: Checkpoint,
    selection: Selection,
    *,
    vocab: Vocab | None = None,
    declare: Mapping[str, str] | None = None,
) -> OutputPlan:
    """Plan the composition of two checkpoints, laid out like the base.

    Args:
        base: The model before fine-tuning.
        tuned: The model after.
        selection: What to keep of the difference.
        vocab: Whose vocabulary to take where their sizes differ.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.

    Raises:
        AnatomyError: If a tensor has no label.
        MismatchError: If the two do not belong together.
        SelectionError: If the selection matches nothing, or takes a part of what has none.
    """
    pairing = pair_up(base, tuned, vocab, declare)
    pairs, labels = dict(pairing.pairs), pairing.labels
    alphas = selection.alphas(labels)
    untied = _untie(pairs, labels, alphas, pairing, base.config)
    alphas = _settled(pairs, alphas)
    kept = {name for name, alpha in alphas.items() if alpha != 0.0}
    notes = list(pairing.notes)
    tokens_tuned = vocab == "tuned" or (vocab is None and bool(kept))
    if tokens_tuned and not tokenizer_files.has_tokenizer(tuned.folder):
        if tokenizer_files.has_tokenizer(base.folder):
            notes.append("The tuned model has no tokenizer; the output has the base's.")
        tokens_tuned = False
    config, more = composed_config(
        base.config,
        tuned.config,
        attention_tuned=any(labels[name].component == "attention" for name in kept),
        tokens_tuned=tokens_tuned,
        rows=rows_of(pairing.resized, vocab),
        untied=untied,
    )
    notes += more
    beside, more = tokenizer_files.beside(base.folder, tuned.folder, tokens_tuned)
    tensors = {name: Tensor.of_pair(pair, alphas[name]) for name, pair in pairs.items()}
    return OutputPlan(
        kind="checkpoint",
        weights=like_base(base, tensors),
        beside=beside,
        config=config_file(base, config),
        rows=match_table(
            row_of(labels[name].component, pair.dtype, pair.shape, alphas[name])
            for name, pair in pairs.items()
        ),
        alphas=alphas,
        notes=(*notes, *more),
    )


def _untie(
    pairs: dict[str, TensorPair],
    labels: Mapping[str, Label],
    alphas: Mapping[str, Alpha],
    pairing: Pairing,
    config: Mapping[str, object] | None,
) -> bool:
    """Whether the output's head differs from its embedding where the base's config ties them.

    Where only the tuned model has a head and neither it nor the embedding is kept, both are the
    base's embedding: the head is taken out of ``pairs`` and stays tied.
    """
    if pairing.untied is not None:
        head, embedding = pairing.untied
        if alphas[head] == 0.0 and alphas[embedding] == 0.0:
            del pairs[head]
            return False
        return True
    if not may_tie(config):
        return False
    heads = [name for name, label in labels.items() if label.component == "head"]
    embeddings = [name for name, label in labels.items() if label.component == "embedding"]
    return any(
        labels[head].tensor.shape == labels[embedding].tensor.shape
        and not _alike(alphas[head], alphas[embedding])
        for head in heads
        for embedding in embeddings
    )


def _alike(one: Alpha, other: Alpha) -> bool:
    return not isinstance(one, Pieces) and one == other


def _settled(pairs: Mapping[str, TensorPair], alphas: Mapping[str, Alpha]) -> dict[str, Alpha]:
    """Every α as it will be applied: 0 where the tuned model has nothing to give."""
    settled: dict[str, Alpha] = {}
    with Sources() as sources:
        for name, pair in pairs.items():
            alpha = alphas[name]
            if pair.tuned is None or (
                not _can(pair, alpha) and sources.same(pair.base, pair.tuned)
            ):
                alpha = 0.0
            elif not _can(pair, alpha):
                why = _EIGHT_BIT if pair.dtype.startswith("F") else _WHOLE_NUMBERS
                raise SelectionError(
                    f"Tensor {name!r} is {pair.dtype} and cannot be taken in part: {why}.",
                    "Select it whole or not at all, or dequantise both models first.",
                )
            settled[name] = alpha
    return settled


def _can(pair: TensorPair, alpha: Alpha) -> bool:
    """Whether a tensor's dtype allows its α."""
    if pair.dtype in FLOATS or alpha in (0.0, 1.0):
        return True
    if not isinstance(alpha, Pieces) or BITS[pair.dtype] % 8:
        return False
    return all(value in (0.0, 1.0) for _, _, value in alpha.pieces)
