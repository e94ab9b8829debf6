"""Heads and embeddings, which have a row for each token: tied on one side, longer on one side."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Final, Literal, TypeAlias

from taia.anatomy import Anatomy
from taia.anatomy.labels import Label
from taia.checkpoint.alignment import SidePart, part
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.sources import Runs, Sources, cut, runs_of
from taia.errors import MismatchError

#: Whose vocabulary the output has where the two differ in size.
Vocab: TypeAlias = Literal["base", "tuned"]

#: Embeddings that are not of the vocabulary.
_POSITIONS: Final = frozenset({"wpe", "embed_positions", "position_embeddings"})


class TokenRows:
    """A checkpoint's heads and embeddings; its tensors are labelled once, and only if need be.

    Args:
        checkpoint: The checkpoint.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.
    """

    def __init__(self, checkpoint: Checkpoint, declare: Mapping[str, str] | None) -> None:
        self._checkpoint, self._declare = checkpoint, declare

    @cached_property
    def labels(self) -> Anatomy:
        """The labels of all of the checkpoint's tensors.

        Raises:
            AnatomyError: If one has none.
        """
        infos = (entry.info for entry in self._checkpoint.tensors.values())
        return Anatomy.of_tensors(infos, self._checkpoint.config, self._declare)

    @cached_property
    def kinds(self) -> Mapping[str, str]:
        """Name → ``"head"`` or ``"embedding"``, of the matrices with a row for each token."""
        return {
            name: label.component
            for name, label in self.labels.items()
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


def tied_in_tuned(
    base: TokenRows,
    tuned: TokenRows,
    missing: list[Entry],
    extra: list[Entry],
    parts: dict[str, SidePart | None],
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


def tied_in_base(
    theirs: TokenRows,
    tuned: Checkpoint,
    extra: list[Entry],
    parts: dict[str, SidePart | None],
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


def resized_rows(
    sides: Mapping[str, tuple[Entry, SidePart | None]], base: TokenRows, vocab: Vocab | None
) -> tuple[int, int] | None:
    """``(base's, tuned's)`` numbers of vocabulary rows where they differ.

    Raises:
        AnatomyError: If heads or embeddings must be told apart and a name is unknown.
        MismatchError: If any other shape differs, or nobody says whose vocabulary to take.
    """
    differing = {
        name: (entry, other)
        for name, (entry, other) in sides.items()
        if other is not None and entry.shape != other.shape
    }
    if not differing:
        return None
    sizes: tuple[int, int] | None = None
    for name, (entry, other) in differing.items():
        known = base.labels.get(name)  # a head that the base does not have is one
        rows = (entry.shape[:1] + other.shape[:1]) if entry.shape and other.shape else ()
        if (
            (known is not None and not is_of_vocabulary(known))
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


def rows_of(resized: tuple[int, int] | None, vocab: Vocab | None) -> int | None:
    """The output's number of vocabulary rows, where the two sides have different ones."""
    return resized and resized[0 if vocab == "base" else 1]


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
