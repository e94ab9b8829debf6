"""A method on files: W = W_base + α · f(Δ), one tensor at a time.

A method that is a number for each place becomes a part of α. Of others the tensors that their
formula is for are calculated, and nothing but these is in memory; what is kept whole or taken back
to the base is copied as ever.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taia.anatomy.labels import Label, depths
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.locate import Located, locate
from taia.checkpoint.output.manifest import identity
from taia.checkpoint.sources import FLOATS, Sources, cut, runs_of
from taia.checkpoint.spelling import newer
from taia.checkpoint.statistics import CalibrationStatistics, shape_wanted
from taia.checkpoint.steps import TensorPair
from taia.errors import MethodError
from taia.methods import Applied, Given
from taia.methods.method import is_stack
from taia.selection.alpha import Alpha, times

if TYPE_CHECKING:
    from taia.methods.given import Array


@dataclass(frozen=True)
class Formula:
    """A method, and what it reads beside base and tuned.

    Attributes:
        applied: The method.
        statistics: Of calibration rows, ``None`` where it needs none.
        unaligned: The model before its alignment, ``None`` where it needs none.
        unaligned_at: Where that was found.
        depths: How many layers each stack of the model has.
        base: The base of an adapter.
    """

    applied: Applied
    statistics: CalibrationStatistics | None = None
    unaligned: Checkpoint | None = None
    unaligned_at: Located | None = None
    depths: Mapping[str, int] = field(default_factory=dict)
    base: Checkpoint | None = None

    @classmethod
    def open(
        cls, method: str | Applied, statistics: str | Path | None, unaligned: str | Path | None
    ) -> Formula:
        """A method with what it reads.

        Raises:
            CheckpointError: If what it reads is damaged, or not there.
            DownloadError: If the unaligned model cannot be fetched.
            MethodError: If the method cannot be read, or lacks what it needs, or is given what it
                does not need.
        """
        applied = Applied.parse(method) if isinstance(method, str) else method
        needs = set(applied.method.needs)
        measured = sorted(needs - {"unaligned"})
        rows = f"statistics of calibration rows ({', '.join(measured)})"
        for flag, given, needed, what in (
            ("--statistics", statistics, bool(measured), rows),
            ("--unaligned", unaligned, "unaligned" in needs, "the model before its alignment"),
        ):
            if needed and given is None:
                raise MethodError(
                    f"The method {applied.method.name} needs {what}.",
                    f"Give its folder with {flag}; docs/methods.md says what must be in it.",
                )
            if given is not None and not needed:
                raise MethodError(
                    f"{flag} has no effect with the method {applied.method.name}.",
                    "Leave it out, or choose a method that needs it.",
                )
        there = None if unaligned is None else locate(unaligned)
        return cls(
            applied,
            None if statistics is None else CalibrationStatistics.open(statistics),
            None if there is None else Checkpoint.open(there.path),
            there,
        )

    @property
    def folders(self) -> tuple[Path, ...]:
        """What it reads beside base and tuned."""
        read = (self.statistics, self.unaligned)
        return tuple(one.folder for one in read if one is not None)

    def read(self, full: bool) -> dict[str, Any]:
        """What that is, for the record; every byte hashed if ``full``."""
        found = {}
        if self.statistics is not None:
            place = Located(str(self.statistics.folder), self.statistics.folder)
            found["statistics"] = identity(place, self.statistics, full)
        if self.unaligned is not None and self.unaligned_at is not None:
            found["unaligned"] = identity(self.unaligned_at, self.unaligned, full)
        return found

    def fitted(self, labels: Mapping[str, Label], base: Checkpoint | None = None) -> Formula:
        """The same, knowing how deep a model is, and where its own numbers lie."""
        return replace(self, depths=depths(labels.values()), base=base)

    def depth(self, label: Label) -> int:
        """How many layers a tensor's stack has, 0 outside of one."""
        return self.depths.get(label.stack, 0) if label.layer is not None else 0

    def weighed(self, alphas: Mapping[str, Alpha], labels: Mapping[str, Label]) -> dict[str, Alpha]:
        """The selection's α of every tensor, with what the method makes of it by its place."""
        return {
            name: times(alpha, self.applied.scale(labels[name], self.depth(labels[name])))
            for name, alpha in alphas.items()
        }

    def on(
        self, label: Label, inputs_first: bool = False, rank: int | None = None
    ) -> TensorFormula | None:
        """The method on one tensor; ``None`` where its numbers are not calculated with.

        Args:
            label: What the tensor is.
            inputs_first: Whether it is stored [inputs, outputs].
            rank: Of its update, where that is known to be low.

        Raises:
            MethodError: If what the method needs of the tensor is not there, or of another shape.
        """
        if not self.applied.calculates(label):
            return None
        found = {
            need: self._needed(need, label, shape_wanted(need, label, inputs_first, rank))
            for need in self.applied.method.needs
        }
        return TensorFormula(self, label, inputs_first, found)

    def _needed(self, need: str, label: Label, shape: tuple[int, ...]) -> Entry:
        name = label.tensor.name
        if self.unaligned is not None and need == "unaligned":
            folder = self.unaligned.folder
            entry = self.unaligned.tensors.get(name) or self._unaligned.get(newer(name))
        else:
            assert self.statistics is not None
            folder = self.statistics.folder
            entry = self.statistics.entries.get(f"{name}.{need}")
        told = "tensor" if need == "unaligned" else f"statistic {need!r} of"
        if entry is None:
            raise MethodError(
                f"{folder} has no {told} {name!r}, which {self.applied.method.name} needs.",
                "Give one that belongs to this base and this update, or leave the tensor out of "
                "--keep.",
            )
        if entry.shape != shape or entry.dtype not in FLOATS:
            raise MethodError(
                f"In {folder} the {told} {name!r} is {entry.dtype} {list(entry.shape)} where "
                f"floating point {list(shape)} is needed.",
                "Give one that belongs to this base and this update.",
            )
        return entry

    @cached_property
    def _unaligned(self) -> dict[str, Entry]:
        """The unaligned model's tensors by the names that the newest version gives them."""
        tensors = {} if self.unaligned is None else self.unaligned.tensors
        return {newer(name): entry for name, entry in tensors.items()}

    def note(self, labels: Mapping[str, Label], alphas: Mapping[str, Alpha]) -> str:
        """What it does to a checkpoint's tensors, in a sentence."""
        method, kept = self.applied.method, [n for n, alpha in alphas.items() if alpha != 0.0]
        if method.scale is not None:
            return f"{self.applied} ({method.title}): α is multiplied with a number for each place."
        count = sum(self.applied.calculates(labels[name]) for name in kept)
        told = f"{self.applied} ({method.title}) is calculated for {count} tensors"
        rest = len(kept) - count
        if not method.elsewhere:
            return f"{told}; all others are the base's."
        return f"{told}; {rest} that its formula is not for are kept whole." if rest else f"{told}."


@dataclass(frozen=True)
class TensorFormula:
    """A method on one tensor.

    Attributes:
        formula: The method.
        label: What the tensor is.
        inputs_first: Whether it is stored [inputs, outputs].
        found: What the method needs of it → where that lies.
    """

    formula: Formula
    label: Label
    inputs_first: bool
    found: Mapping[str, Entry]

    def chunks(self, pair: TensorPair, alpha: Alpha, sources: Sources) -> Iterator[memoryview]:
        """The tensor's bytes: of a stack of experts matrix after matrix, else all at once."""
        from taia.checkpoint.arithmetic import dump, of_rows, read, wide

        assert pair.tuned is not None
        stacked = is_stack(self.label)
        count = pair.shape[0] if stacked else 1
        size = math.prod(pair.shape) // count
        shape = pair.shape[1:] if stacked else pair.shape
        dtype = wide(*(run.dtype for run in (*pair.base, *pair.tuned)))
        for index in range(count):
            first = index * size
            base, tuned = (
                read(cut(runs, first, first + size), sources).reshape(shape).astype(dtype)
                for runs in (pair.base, pair.tuned)
            )
            if stacked:
                part = of_rows(alpha, index, index + 1)
                made = self.moved(base, tuned, tuned - base, part, sources, index)
            else:
                made = self.moved(base, tuned, tuned - base, alpha, sources)
            yield dump(made, pair.dtype)

    def moved(
        self,
        base: Array,
        tuned: Array,
        update: Array,
        alpha: Alpha,
        sources: Sources,
        expert: int | None = None,
    ) -> Array:
        """``base + α·f(update)``.

        Args:
            base: The tensor, or one matrix of it.
            tuned: The same of the tuned model.
            update: tuned − base.
            alpha: How much of it; of one matrix with an axis before the two.
            sources: What to read statistics with.
            expert: Which matrix, ``None`` for the tensor.
        """
        from taia.checkpoint.arithmetic import moved
        from taia.methods.calculate import changed

        given = self.given(base, update, sources, expert)
        change = changed(self.formula.applied, given)
        if expert is None:
            return moved(base, tuned, update, change, alpha)
        matrix: Array = moved(base[None], tuned[None], update[None], change[None], alpha)[0]
        return matrix

    def given(
        self,
        weight: Array | None,
        update: Array | None,
        sources: Sources,
        expert: int | None = None,
    ) -> Given:
        """What the formula is given.

        Args:
            weight: The base's numbers, ``None`` for a method that does not read them.
            update: Δ, ``None`` where its factors are there instead.
            sources: What to read statistics with.
            expert: Which matrix of a stack these are, ``None`` for a tensor.
        """

        def numbers(array: Array | None) -> Array:
            assert array is not None
            return array

        def statistic(name: str) -> Array:
            from taia.checkpoint.arithmetic import load, read

            entry = self.found[name]
            if expert is None:
                return load(entry, sources)
            size = math.prod(entry.shape[1:])
            runs = cut(runs_of(entry, "base"), expert * size, (expert + 1) * size)
            return read(runs, sources).reshape(entry.shape[1:])

        return Given(
            self.label,
            self.formula.depth(self.label),
            lambda: numbers(weight),
            lambda: numbers(update),
            statistic,
            self.inputs_first,
            expert,
        )
