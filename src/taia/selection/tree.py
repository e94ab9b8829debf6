"""The parts a selection is made of, and how each prints.

Printing and parsing are inverse: ``parse(str(node)) == node`` for every node the parser can make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias


@dataclass(frozen=True, slots=True)
class Name:
    """A component, a projection or a mode; with a qualifier, a projection inside a component.

    Attributes:
        text: ``"attention"``, ``"q_proj"``, ``"taia-strict"``, …
        within: ``"attention"`` in ``attention.c_proj``, else ``None``.
        at: Character in the text it was read from. Not part of what the node is.
    """

    text: str
    within: str | None = None
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.within}.{self.text}" if self.within else self.text


@dataclass(frozen=True, slots=True)
class Pattern:
    """Tensors whose full name a regular expression finds something in.

    Attributes:
        regex: The expression; double quotes in it are escaped.
        at: Character in the text it was read from. Not part of what the node is.
    """

    regex: str
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f're:"{self.regex}"'


@dataclass(frozen=True, slots=True)
class Range:
    """Python's slice, or a single index.

    Attributes:
        start: First, ``None`` for the beginning. Negative counts from the end.
        stop: One past the last, ``None`` for the end.
        step: Stride, ``None`` for one.
        single: Whether it was written as one index; then ``stop`` and ``step`` are ``None``.
    """

    start: int | None
    stop: int | None = None
    step: int | None = None
    single: bool = False

    def of(self, size: int) -> range:
        """The indices meant, out of ``size``; empty where they lie outside."""
        indices = range(size)
        if not self.single:
            return indices[slice(self.start, self.stop, self.step)]
        assert self.start is not None
        inside = -size <= self.start < size
        return indices[self.start % size : self.start % size + 1] if inside else range(0)

    def __str__(self) -> str:
        def show(value: int | None) -> str:
            return "" if value is None else str(value)

        if self.single:
            return show(self.start)
        tail = "" if self.step is None else f":{self.step}"
        return f"{show(self.start)}:{show(self.stop)}{tail}"


@dataclass(frozen=True, slots=True)
class Sliced:
    """Part of a selection: some layers, and of these some heads."""

    of: Node
    layers: Range
    heads: Range | None = None
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        inner = str(self.of) if isinstance(self.of, (Name, Pattern, Sliced)) else f"({self.of})"
        heads = "" if self.heads is None else f", {self.heads}"
        return f"{inner}[{self.layers}{heads}]"


@dataclass(frozen=True, slots=True)
class Scaled:
    """A selection, weakened (or, above one, strengthened)."""

    factor: float
    of: Node

    def __str__(self) -> str:
        inner = f"({self.of})" if isinstance(self.of, Sum) else str(self.of)
        return f"{repr(self.factor).removesuffix('.0')}*{inner}"


class Term(NamedTuple):
    """A later part of a sum.

    Attributes:
        sign: ``"+"`` joins: where both apply, the larger α holds. ``"-"`` removes: what remains of
            α, never below zero.
        of: What is joined or removed.
    """

    sign: Literal["+", "-"]
    of: Node


@dataclass(frozen=True, slots=True)
class Sum:
    """Parts joined and removed, from left to right.

    One node however many terms there are, so that a selection with a weight for every projection
    of every layer is not a deep tree.

    Attributes:
        first: The part begun with. Not itself a sum: brackets there change nothing.
        rest: What follows, at least one.
    """

    first: Node
    rest: tuple[Term, ...]

    def __str__(self) -> str:
        return str(self.first) + "".join(f" {sign} {_operand(part)}" for sign, part in self.rest)


Node: TypeAlias = Name | Pattern | Sliced | Scaled | Sum


def below(node: Node) -> tuple[Node, ...]:
    """The nodes a node is made of, in the order they are written."""
    if isinstance(node, Sum):
        return (node.first, *(part for _, part in node.rest))
    return (node.of,) if isinstance(node, (Sliced, Scaled)) else ()


def height(node: Node) -> int:
    """How many nodes lie one inside the other."""
    levels, nodes = 0, [node]
    while nodes:
        levels, nodes = levels + 1, [inner for outer in nodes for inner in below(outer)]
    return levels


def _operand(node: Node) -> str:
    return f"({node})" if isinstance(node, Sum) else str(node)
