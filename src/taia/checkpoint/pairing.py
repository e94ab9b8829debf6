"""Base and tuned, tensor by tensor, or the first reason why they do not belong together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal, TypeAlias

from taia.anatomy.labels import Label
from taia.checkpoint.alignment import Part, align, part
from taia.checkpoint.configs import check_kinship
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.labels import Labeller
from taia.checkpoint.sources import FLOATS, Runs, Sources, cut, runs_of
from taia.checkpoint.steps import Pair
from taia.errors import MismatchError

#: Whose vocabulary the output has where the two differ in size.
Vocab: TypeAlias = Literal["base", "tuned"]

#: Embeddings that are not of the vocabulary.
_POSITIONS: Final = frozenset({"wpe", "embed_positions", "position_embeddings"})


@dataclass(frozen=True)
class Pairing:
    """What can be composed.

    Attributes:
        pairs: Every tensor of the output by name, in the base's order.
        untied: ``(head, embedding)``, or the other way round, where the base ties the two and only
            keeps the second; the pair of the first is last, and its base is that of the second.
        resized: ``(base's, tuned's)`` numbers of vocabulary rows where they differ.
        notes: What was respelled, resized, untied, kept or rounded.
    """

    pairs: dict[str, Pair]
    untied: tuple[str, str] | None
    resized: tuple[int, int] | None
    notes: tuple[str, ...]


def pair_up(
    base: Checkpoint,
    tuned: Checkpoint,
    vocab: Vocab | None = None,
    labeller: Labeller | None = None,
) -> Pairing:
    """Pair every tensor of the base with the tuned model's.

    The output has the base's names, dtypes and order.

    Args:
        base: The model before fine-tuning.
        tuned: The model after.
        vocab: Whose vocabulary to take where their sizes differ.
        labeller: Labels tensors, where heads and embeddings must be told apart.

    Raises:
        MismatchError: If they do not belong together; it names the first difference.
        AnatomyError: If heads or embeddings must be told apart and a name is unknown.
    """
    check_kinship(base.config, tuned.config)
    labeller = labeller or Labeller()
    alignment = align(base, tuned)
    notes = list(alignment.notes)
    parts, missing, extra = dict(alignment.parts), list(alignment.missing), list(alignment.extra)
    untied = None
    ours, theirs = _Vocabulary(base, labeller), _Vocabulary(tuned, labeller)
    if missing:
        missing, extra = _tied_in_tuned(ours, theirs, missing, extra, parts, notes)
    if extra and not missing:
        extra, untied = _tied_in_base(theirs, tuned, extra, parts, notes)
    _refuse_rest(missing, extra)

    sides: dict[str, tuple[Entry, Part | None]] = {
        name: (entry, parts[name]) for name, entry in base.tensors.items()
    }
    if untied is not None:
        added, kept = untied
        sides[added] = replace(base.tensors[kept], name=added), part(tuned.tensors[added])
    resized = _resized(sides, base, vocab, labeller)
    pairs = {name: _pair(*side, resized, vocab) for name, side in sides.items()}
    notes += vocab_notes(resized, vocab) + _dtype_notes(sides)
    return Pairing(pairs, untied, resized, tuple(notes))


class _Vocabulary:
    """A checkpoint's heads and embeddings; its tensors are labelled once, and only if need be."""

    def __init__(self, checkpoint: Checkpoint, labeller: Labeller) -> None:
        self._checkpoint, self._labeller = checkpoint, labeller

    @cached_property
    def kinds(self) -> Mapping[str, str]:
        """Name → ``"head"`` or ``"embedding"``, of the matrices with a row for each token."""
        infos = (entry.info for entry in self._checkpoint.tensors.values())
        labels = self._labeller(infos, self._checkpoint.config)
        return {
            name: label.component
            for name, label in labels.items()
            if is_of_vocabulary(label) and len(self._checkpoint.tensors[name].shape) == 2
        }

    def twin(self, name: str) -> str | None:
        """The embedding that a head may be tied to, or the other way round; ``None`` if unclear."""
        tensors = self._checkpoint.tensors
        alike = [
            other
            for other, kind in self.kinds.items()
            if kind != self.kinds.get(name) and tensors[other].shape == tensors[name].shape
        ]
        return alike[0] if name in self.kinds and len(alike) == 1 else None


def is_of_vocabulary(label: Label) -> bool:
    """Whether a tensor has a row for each token: an embedding of tokens, or a head."""
    return label.component in ("embedding", "head") and label.projection not in _POSITIONS


def _tied_in_tuned(
    base: _Vocabulary,
    tuned: _Vocabulary,
    missing: list[Entry],
    extra: list[Entry],
    parts: dict[str, Part | None],
    notes: list[str],
) -> tuple[list[Entry], list[Entry]]:
    """Find what the base has as a head or embedding and the tuned model ties to its other.

    A tied pair is on disk once, most often as the embedding and sometimes as the head.

    Returns:
        What is still missing, and what is still extra.
    """
    rest = []
    for entry in missing:
        kind, twin = base.kinds.get(entry.name), base.twin(entry.name)
        if kind and twin and parts.get(twin) is not None:
            parts[entry.name], stand_in = parts[twin], twin
        elif kind and not twin:
            others = [x for x in extra if tuned.kinds.get(x.name, kind) != kind]
            if len(others) != 1:
                rest.append(entry)
                continue
            parts[entry.name], stand_in = part(others[0]), others[0].name
            extra = [x for x in extra if x is not others[0]]
        else:
            rest.append(entry)
            continue
        notes.append(
            f"The tuned model ties its head to its embedding: its {stand_in!r} stands in for "
            f"{entry.name!r}."
        )
    return rest, extra


def _tied_in_base(
    theirs: _Vocabulary,
    tuned: Checkpoint,
    extra: list[Entry],
    parts: dict[str, Part | None],
    notes: list[str],
) -> tuple[list[Entry], tuple[str, str] | None]:
    """Find the head or embedding that only the tuned model has; return what else is extra, too."""
    for entry in extra:
        twin = theirs.twin(entry.name)
        if twin is None:
            continue
        there = part(tuned.tensors[twin])
        mine = next((name for name, found in parts.items() if found == there), None)
        if mine is None:
            continue
        rest = [other for other in extra if other is not entry]
        with Sources() as sources:
            redundant = sources.same(runs_of(entry, "tuned"), there.runs)
        if redundant:
            notes.append(
                f"The tuned model's {entry.name!r} repeats its {theirs.kinds[twin]}; like the "
                "base, the output ties them."
            )
            return rest, None
        notes.append(
            "The base ties its head to its embedding and the tuned model does not: the base's "
            f"{mine!r} stands in for its {entry.name!r}."
        )
        return rest, (entry.name, mine)
    return extra, None


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


def _resized(
    sides: Mapping[str, tuple[Entry, Part | None]],
    base: Checkpoint,
    vocab: Vocab | None,
    labeller: Labeller,
) -> tuple[int, int] | None:
    """The two numbers of vocabulary rows; refuses every other difference of shapes."""
    differing = {
        name: (entry, other)
        for name, (entry, other) in sides.items()
        if other is not None and entry.shape != other.shape
    }
    if not differing:
        return None
    labels = labeller((entry.info for entry, _ in sides.values()), base.config)
    sizes: tuple[int, int] | None = None
    for name, (entry, other) in differing.items():
        label = labels[name]
        rows = (entry.shape[:1] + other.shape[:1]) if entry.shape and other.shape else ()
        if (
            not is_of_vocabulary(label)
            or len(rows) != 2
            or entry.shape[1:] != other.shape[1:]
            or (sizes is not None and sizes != rows)
        ):
            raise MismatchError(
                f"Tensor {name!r} has shape {entry.shape} in the base and {other.shape} in the "
                "tuned model.",
                "Base must be the model that tuned was trained from: same architecture, same size.",
            )
        sizes = (rows[0], rows[1])
    if sizes is not None and vocab is None:
        raise MismatchError(
            f"The vocabularies differ: {next(iter(differing))!r} has {sizes[0]} rows in the base "
            f"and {sizes[1]} in the tuned model.",
            "Choose one: --vocab tuned keeps the tuned model's rows and tokenizer, --vocab base "
            "the base's.",
        )
    return sizes


def _pair(
    entry: Entry, other: Part | None, resized: tuple[int, int] | None, vocab: Vocab | None
) -> Pair:
    ours = runs_of(entry, "base")
    if other is None:
        return Pair(entry.name, entry.dtype, entry.shape, ours, None)
    if entry.dtype != other.dtype and not {entry.dtype, other.dtype} <= FLOATS:
        raise MismatchError(
            f"Tensor {entry.name!r} is {entry.dtype} in the base and {other.dtype} in the tuned "
            "model: one of them is quantised.",
            "Give both in one format; dequantise the quantised one first.",
        )
    if entry.shape == other.shape or resized is None:
        return Pair(entry.name, entry.dtype, entry.shape, ours, other.runs)
    rows = resized[0] if vocab == "base" else resized[1]
    width = math.prod(entry.shape[1:])
    return Pair(
        entry.name,
        entry.dtype,
        (rows, *entry.shape[1:]),
        with_rows(ours, other.runs, resized[0], rows, width),
        with_rows(other.runs, ours, resized[1], rows, width),
    )


def with_rows(own: Runs, other: Runs, has: int, wants: int, width: int) -> Runs:
    """Byte runs of so many rows: its own, and past their end the other side's."""
    if has >= wants:
        return cut(own, 0, wants * width)
    return own + cut(other, has * width, wants * width)


def vocab_notes(resized: tuple[int, int] | None, vocab: Vocab | None) -> list[str]:
    """What to say of vocabularies of different sizes."""
    if resized is None:
        return []
    mine, theirs = resized
    if vocab == "base":
        lost = "" if theirs < mine else f"; the tuned model's last {theirs - mine} are left out"
        return [f"The output has the base's {mine} vocabulary rows{lost}."]
    more = "" if mine > theirs else f"; the last {theirs - mine} are its alone, whatever α"
    return [f"The output has the tuned model's {theirs} vocabulary rows{more}."]


def _dtype_notes(sides: Mapping[str, tuple[Entry, Part | None]]) -> list[str]:
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
