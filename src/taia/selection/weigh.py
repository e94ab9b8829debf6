"""From a selection's tree to the α of every tensor.

A tensor is weighed cell by cell: its layout's segments are the cells, or it is one cell whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import fields, replace
from functools import lru_cache
from operator import attrgetter
from typing import Final

from taia.anatomy.components import GROUPS, TOWERS
from taia.anatomy.labels import Label, Layout, Segment, depths
from taia.selection.alpha import Alpha, Pieces
from taia.selection.modes import MODES
from taia.selection.parser import fail, parse
from taia.selection.tree import Name, Node, Pattern, Range, Scaled, Sliced, Sum, below
from taia.selection.trial import repeats, slow
from taia.text import closest

_Cells = tuple[float, ...]
#: What one tensor may be at once: the file has it under one of the two names.
_TIED: Final = {"head": "embedding", "embedding": "head"}

#: All of a label but which tensor it is of.
_KIND: Final = attrgetter(*(field.name for field in fields(Label) if field.name != "tensor"))


def weigh(node: Node, text: str, anatomy: Mapping[str, Label]) -> dict[str, Alpha]:
    """α of every tensor.

    Args:
        node: The selection.
        text: What it was read from, for error messages.
        anatomy: Name → label.

    Returns:
        Name → α, in the anatomy's order.

    Raises:
        SelectionError: If a name, pattern or slice in the selection matches nothing.
    """
    _check_patterns(node, text, anatomy)
    weigher = _Weigher(depths(anatomy.values()))
    by_name = any(isinstance(leaf, Pattern) for leaf in _leaves(node))
    known: dict[object, Alpha] = {}  # all experts of a layer, say, are weighed alike
    alphas: dict[str, Alpha] = {}
    for name, label in anatomy.items():
        kind = _KIND(label), name if by_name else None
        if kind not in known:
            alike, places = _alike(label)
            cells = weigher.cells(node, alike)
            known[kind] = _alpha(label, tuple(cells[place] for place in places))
        alphas[name] = known[kind]
    for leaf in _leaves(node):
        if leaf not in weigher.matched:
            _matches_nothing(leaf, text, anatomy)
        if isinstance(leaf, Name) and leaf.text in MODES:
            _check_whole(leaf, text, anatomy, weigher.matched)
    if not all(map(_is_finite, known.values())):
        fail(text, 0, "its factors multiply to more than a number can hold", "use smaller factors")
    return alphas


def check_names(node: Node, text: str, anatomy: Mapping[str, Label]) -> None:
    """Refuses names that are no mode, no component, and nothing in a model.

    Args:
        node: The selection.
        text: What it was read from.
        anatomy: Name → label.

    Raises:
        SelectionError: Naming what the model has.
    """
    known = {*GROUPS, *MODES, *_vocabulary(anatomy)}
    for leaf in _leaves(node):
        if isinstance(leaf, Name) and not {leaf.text, leaf.within or leaf.text} <= known:
            _matches_nothing(leaf, text, anatomy)


def _check_patterns(node: Node, text: str, anatomy: Mapping[str, Label]) -> None:
    """Refuses regular expressions that take too long on a model's names."""
    doubtful = [
        leaf for leaf in _leaves(node) if isinstance(leaf, Pattern) and repeats(leaf.regex) > 1
    ]
    if not doubtful:
        return
    first = slow([leaf.regex for leaf in doubtful], anatomy, ("search",))
    if first is not None:
        leaf = doubtful[first]
        mend = "write it without a repeat inside a repeat"
        fail(text, leaf.at, "this regular expression takes too long", mend)


def _alike(label: Label) -> tuple[Label, Sequence[int]]:
    """The label with one segment of each kind, and for every segment which one that is.

    Fused experts may alternate thousands of times between two kinds.
    """
    if label.layout is None:
        return label, (0,)
    kinds: dict[object, int] = {}
    places = [kinds.setdefault((s.role, s.heads), len(kinds)) for s in label.layout.segments]
    firsts = [label.layout.segments[places.index(place)] for place in kinds.values()]
    return replace(label, layout=Layout(label.layout.axis, tuple(firsts))), places


def _alpha(label: Label, cells: _Cells) -> Alpha:
    if label.layout is None or len(set(cells)) == 1:
        return cells[0]
    pieces: list[tuple[int, int, float]] = []
    for segment, alpha in zip(label.layout.segments, cells, strict=True):
        if pieces and pieces[-1][2] == alpha:
            pieces[-1] = (pieces[-1][0], segment.stop, alpha)
        else:
            pieces.append((segment.start, segment.stop, alpha))
    return Pieces(label.layout.axis, tuple(pieces))


class _Weigher:
    """Weighs labels one after another, remembering which leaves have matched something."""

    def __init__(self, depths: Mapping[str, int]) -> None:
        self.depths = depths
        self.matched: set[Node] = set()

    def cells(self, node: Node, label: Label) -> _Cells:
        if isinstance(node, Sum):
            cells = self.cells(node.first, label)
            for sign, part in node.rest:
                cells = _each(_COMBINE[sign], cells, self.cells(part, label))
            return cells
        if isinstance(node, Scaled):
            return tuple(node.factor * alpha for alpha in self.cells(node.of, label))
        if isinstance(node, Sliced):
            inside, kept = self.cells(node.of, label), self._slice(node, label)
            return self._note(
                node, tuple(a if k else 0.0 for a, k in zip(inside, kept, strict=True))
            )
        if isinstance(node, Name) and node.text in MODES and node.within is None:
            expanded = _expansion(node.text)
            cells = self.cells(expanded, label)
            if node not in self.matched and not self.matched.isdisjoint(_leaves(expanded)):
                self.matched.add(node)
            return cells
        return self._note(node, tuple(float(_matches(node, label, c)) for c in _cells_of(label)))

    def _note(self, node: Node, cells: _Cells) -> _Cells:
        if any(cells):
            self.matched.add(node)
        return cells

    def _slice(self, node: Sliced, label: Label) -> list[bool]:
        in_layers = label.layer in _indices(node.layers, self.depths.get(label.stack, 0))
        if not in_layers or node.heads is None:
            return [in_layers for _ in _cells_of(label)]
        if label.layout is None:
            return [False]
        count = max((s.heads[1] for s in label.layout.segments if s.heads), default=0)
        heads = _indices(node.heads, count)
        return [
            segment.heads is not None and all(h in heads for h in range(*segment.heads))
            for segment in label.layout.segments
        ]


_COMBINE: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": max,
    "-": lambda a, b: max(a - b, 0.0),
}


def _each(combine: Callable[[float, float], float], left: _Cells, right: _Cells) -> _Cells:
    return tuple(combine(a, b) for a, b in zip(left, right, strict=True))


@lru_cache(maxsize=256)
def _indices(wanted: Range, size: int) -> frozenset[int]:
    return frozenset(wanted.of(size))


@lru_cache
def _expansion(mode: str) -> Node:
    return parse(MODES[mode])


def _cells_of(label: Label) -> tuple[Segment | None, ...]:
    return (None,) if label.layout is None else label.layout.segments


def _matches(leaf: Name | Pattern, label: Label, cell: Segment | None) -> bool:
    if isinstance(leaf, Pattern):
        return re.search(leaf.regex, label.tensor.name) is not None
    if leaf.within is not None and not _named(leaf.within, label, cell):
        return False
    if leaf.within not in TOWERS and label.component in TOWERS and leaf.text not in GROUPS:
        return False  # q_proj is the language model's; vision.q_proj the image encoder's
    return _named(leaf.text, label, cell)


def _named(name: str, label: Label, cell: Segment | None) -> bool:
    if (group := GROUPS.get(name)) is not None:
        return group(label)
    return name in (label.projection, label.role) or (cell is not None and name == cell.role)


def _leaves(node: Node) -> list[Node]:
    """The parts that must each match something; ``all`` and ``none`` always do."""
    leaves = [leaf for inner in below(node) for leaf in _leaves(inner)]
    if isinstance(node, Sliced):
        return [*leaves, node]
    if isinstance(node, (Sum, Scaled)):
        return leaves
    always = isinstance(node, Name) and _is_whole(node.text)
    return [] if always else [node]


def _is_whole(name: str) -> bool:
    return name in ("all", "none") or MODES.get(name) in ("all", "none")


def _is_opaque(label: Label) -> bool:
    """Whether it is a projection, or several in one, without a canonical name or known rows."""
    shape = label.tensor.shape
    return label.role is None and label.layout is None and (shape is None or len(shape) > 1)


def _is_finite(alpha: Alpha) -> bool:
    values = [value for *_, value in alpha.pieces] if isinstance(alpha, Pieces) else [alpha]
    return all(map(math.isfinite, values))


def _matches_nothing(leaf: Node, text: str, anatomy: Mapping[str, Label]) -> None:
    assert isinstance(leaf, (Name, Pattern, Sliced))
    known = _vocabulary(anatomy)
    mend = f"this model has: {', '.join(known)}"
    if isinstance(leaf, Name) and _TIED.get(leaf.text) in known and leaf.within is None:
        mend = f"{leaf} and {_TIED[leaf.text]} are one tensor here: select {_TIED[leaf.text]}"
    elif isinstance(leaf, Name) and (close := _close(leaf, known)):
        mend = f"did you mean {close}? {mend}"
    if isinstance(leaf, Sliced):
        stacks = depths(anatomy.values()).items()
        known_layers = (f"{stack} has layers 0 to {count - 1}" for stack, count in stacks)
        mend = "; ".join(known_layers) or "this model has no layers"
        if leaf.heads is not None:
            mend += "; only tensors whose rows divide into heads can be sliced by head"
    fail(text, leaf.at, f"{leaf} matches none of the {len(anatomy)} tensors", mend)


def _check_whole(mode: Name, text: str, anatomy: Mapping[str, Label], matched: Set[Node]) -> None:
    """Refuses part of a mode where the rest may lie unseen in a tensor of no canonical name.

    An adapter that has no ``k_proj`` is none the worse for ``taia-qkvo``; a ``c_attn`` whose rows
    are not told apart would silently stay behind.
    """
    missing = [leaf for leaf in _leaves(_expansion(mode.text)) if leaf not in matched]
    for label in anatomy.values() if missing else ():
        if label.component == "attention" and _is_opaque(label):
            fail(
                text,
                mode.at,
                f"{mode} needs {missing[0]}; the rows of {label.tensor.name} are not told apart",
                f"give the model's config.json, or select {label.projection} itself",
            )


def _close(leaf: Name, known: list[str]) -> str | None:
    """The name with what is misspelt in it put right, ``None`` where nothing is known like it."""
    parts = []
    for part in filter(None, (leaf.within, leaf.text)):
        close = closest(part, known, first=() if leaf.within else MODES)
        if close is None:
            return None
        parts.append(close)
    meant = ".".join(parts)
    return None if meant == str(leaf) else meant


def _vocabulary(anatomy: Mapping[str, Label]) -> list[str]:
    names = {name for name, group in GROUPS.items() if any(map(group, anatomy.values()))}
    for label in anatomy.values():
        names |= {label.projection} | ({label.role} if label.role else set())
        if label.layout:
            names |= {segment.role for segment in label.layout.segments if segment.role}
    return sorted(names)
