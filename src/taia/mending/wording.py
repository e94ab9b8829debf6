"""The shortest words for an α at every place of an update.

Places are cells of a table: a column for each projection of a component, a row for each layer, and
one outside of all layers. A *word* is a name that a selection knows (``mlp``, ``q_proj``,
``attention.c_proj``), which covers some of the cells, or those of a run of layers. α are worded
from the smallest to the largest; since ``+`` keeps the larger α, a word may lie over cells that
have a larger one. Of all words that fit, the one that settles most cells for its length is first.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from taia.anatomy import Label, TensorInfo
from taia.anatomy.components import GROUPS
from taia.anatomy.fused import FUSED_EXPERTS
from taia.anatomy.labels import Segment
from taia.errors import SelectionError
from taia.selection import MODES, Selection

if TYPE_CHECKING:
    from taia.mending.places import Place


@dataclass(frozen=True, slots=True)
class Word:
    """A part of a selection, and what it covers.

    Attributes:
        name: Before any slice.
        slice: Such as ``"[4:12]"``; empty for none.
        cells: The places that it covers, wholly.
    """

    name: str
    slice: str
    cells: frozenset[Place]

    @property
    def text(self) -> str:
        """As a selection has it."""
        return self.name + self.slice


def worded(
    alphas: Mapping[Place, float],
    tensors: Mapping[Place, Sequence[str]],
    labels: Mapping[str, Label],
) -> str:
    """The text of a selection.

    Args:
        alphas: α of every place, none negative.
        tensors: The names of each place's tensors.
        labels: Their labels.
    """
    names = _names(*_kinds(tensors, labels), tensors)
    zero = frozenset(place for place, alpha in alphas.items() if alpha == 0)
    texts = [_sum(alphas, names, frozenset())]
    if zero and max(alphas.values(), default=0) <= 1 and len(zero) < len(alphas):
        kept = _sum(alphas, names, zero)
        gone = _cover(zero, zero, names)
        texts.append(" - ".join([kept, *(word.text for word in gone)]))
    return min(texts, key=len)


def _sum(alphas: Mapping[Place, float], names: Sequence[Word], also: Set[Place]) -> str:
    """The α but 0; cells that are taken away again may be covered as well."""
    terms = []
    for alpha in sorted({*alphas.values()} - {0.0}):
        wanted = frozenset(place for place, value in alphas.items() if value == alpha)
        free = frozenset(place for place, value in alphas.items() if value >= alpha) | also
        terms.append(_term(alpha, _cover(wanted, free, names)))
    return " + ".join(terms) or "none"


def _term(alpha: float, words: Sequence[Word]) -> str:
    """α times all words, of which those with one slice share it."""
    parts = []
    for cut, same in groupby(sorted(words, key=lambda word: word.slice), lambda word: word.slice):
        names = [word.name for word in same]
        parts += (
            [f"({' + '.join(names)}){cut}"]
            if len(names) > 1 and cut
            else [name + cut for name in names]
        )
    text = " + ".join(parts)
    if alpha == 1:
        return text
    factor = repr(float(alpha)).removesuffix(".0")
    return f"{factor}*({text})" if len(parts) > 1 else f"{factor}*{text}"


def _cover(wanted: Set[Place], free: Set[Place], names: Sequence[Word]) -> list[Word]:
    """Few short words that cover all cells wanted, and besides only those that are free."""
    words = [word for name in names for word in _runs(name, wanted, free)]
    left, chosen = set(wanted), list[Word]()
    while left:
        best = max(
            words, key=lambda word: (len(word.cells & left) / (len(word.text) + 3), word.text)
        )
        chosen.append(best)
        left -= best.cells
    for word in chosen[:]:  # what later ones cover, too, was chosen in vain
        others = [other.cells for other in chosen if other is not word]
        if wanted <= frozenset().union(*others):
            chosen.remove(word)
    return chosen


def _runs(name: Word, wanted: Set[Place], free: Set[Place]) -> Iterator[Word]:
    """A word, or its longest runs of layers, with nothing in them that is not free."""
    if name.cells <= free:
        if name.cells & wanted:
            yield name
        return
    layers: dict[int, set[Place]] = defaultdict(set)
    for place in name.cells:
        if place.layer is not None:
            layers[place.layer].add(place)
    last = max(layers, default=0)
    run: list[int] = []
    for layer in [*sorted(layers), None]:
        if layer is not None and layers[layer] <= free:
            run.append(layer)
            continue
        while run and not layers[run[0]] & wanted:
            run.pop(0)
        while run and not layers[run[-1]] & wanted:
            run.pop()
        if run:
            cells = frozenset().union(*(layers[one] for one in run))
            yield Word(name.name, _slice(run[0], run[-1], last), cells)
        run = []


def _slice(first: int, final: int, last: int) -> str:
    if first == final:
        return f"[{first}]"
    return f"[{first or ''}:{'' if final == last else final + 1}]"


def _kinds(
    tensors: Mapping[Place, Sequence[str]], labels: Mapping[str, Label]
) -> tuple[dict[Place, list[str]], dict[str, Label]]:
    """Of tensors that no name but their own tells apart, such as all experts of a layer, one."""
    brief = {name: _brief(label) for name, label in labels.items()}
    seen: set[Label] = set()
    kinds: dict[Place, list[str]] = {}
    for place, names in tensors.items():
        kinds[place] = []
        for name in names:
            kind = replace(brief[name], tensor=TensorInfo(""))
            if kind not in seen:
                seen.add(kind)
                kinds[place].append(name)
    return kinds, {name: brief[name] for names in kinds.values() for name in names}


def _brief(label: Label) -> Label:
    """A label with a segment of each kind: gate and up may take turns row by row."""
    if label.layout is None:
        return label
    kinds = dict.fromkeys((segment.role, segment.heads) for segment in label.layout.segments)
    segments = tuple(Segment(n, n + 1, *kind) for n, kind in enumerate(kinds))
    return replace(label, layout=replace(label.layout, segments=segments))


def _names(
    kinds: Mapping[Place, Sequence[str]],
    labels: Mapping[str, Label],
    tensors: Mapping[Place, Sequence[str]],
) -> list[Word]:
    """Every name that covers some places and cuts through none, the shortest of each extent."""
    found: dict[frozenset[Place], str] = {}

    def note(text: str) -> frozenset[Place]:
        cells = _covered(text, kinds, labels)
        if cells and len(text) < len(found.get(cells, text + " ")):
            found[cells] = text
        return cells

    for text in _candidates(labels.values()):
        cells = note(text)
        if {place.layer is None for place in cells} == {True, False}:
            note(f"({text} - {text}[:])")  # what it is of that lies outside of layers
    alone = {place for cells in found for place in _told_apart(cells)}
    for place, own in tensors.items():
        if place not in alone:
            note(_spelt(own))
    return [Word(text, "", cells) for cells, text in found.items()]


def _told_apart(cells: frozenset[Place]) -> Iterator[Place]:
    """The places that what covers these can be cut down to, each by itself."""
    layers: dict[int | None, list[Place]] = defaultdict(list)
    for place in cells:
        layers[place.layer].append(place)
    for layer, places in layers.items():
        if len(cells) == 1 or (layer is not None and len(places) == 1):
            yield from places


def _covered(
    text: str, tensors: Mapping[Place, Sequence[str]], labels: Mapping[str, Label]
) -> frozenset[Place]:
    """The places that a name covers; none at all where it covers a part of one."""
    try:
        alphas = Selection.parse(text).alphas(labels)
    except SelectionError:
        return frozenset()
    cells = set()
    for place, names in tensors.items():
        values = {alphas[name] for name in names}
        if values == {1.0}:
            cells.add(place)
        elif values != {0.0}:
            return frozenset()
    return frozenset(cells)


#: What a name may consist of.
_NAME: Final = re.compile(r"[^\W\d]\w*")


def _candidates(labels: Iterable[Label]) -> list[str]:
    """Names that may mean something here, plain and within a component."""
    names: dict[str, None] = dict.fromkeys(name for name in GROUPS if name != "none")
    for label in labels:
        own = {label.projection, label.role}
        if label.layout is not None:
            own |= {segment.role for segment in label.layout.segments}
            own -= {label.projection} if _of_experts(label) else set()
        plain = [n for n in own if n and _NAME.fullmatch(n) and n not in GROUPS and n not in MODES]
        for name in sorted(plain):
            names |= {name: None, f"{label.component}.{name}": None}
        if parts := _of_experts(label):
            names["(" + " + ".join(parts) + ")"] = None
    return list(names)


def _of_experts(label: Label) -> list[str]:
    """Fused experts by the projections of each, as files may have every expert by itself."""
    roles = FUSED_EXPERTS.get(label.projection, ())
    if label.component != "experts" or len(roles) < 2:
        return []
    return [f"experts.{role}" for role in roles]


def _spelt(names: Sequence[str]) -> str:
    """Tensors by their full names."""
    patterns = [f're:"^{re.escape(name)}$"' for name in names]
    return patterns[0] if len(patterns) == 1 else f"({' + '.join(patterns)})"
