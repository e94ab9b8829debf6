"""Two whole checkpoints, paired tensor by tensor."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from taia.anatomy import Anatomy
from taia.anatomy.labels import Label, TensorInfo
from taia.checkpoint.alignment import SidePart, align, part
from taia.checkpoint.configs import check_kinship
from taia.checkpoint.header import Entry
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
from taia.checkpoint.sources import FLOATS, runs_of
from taia.checkpoint.steps import TensorPair
from taia.errors import MismatchError


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
