"""Tied embeddings: what merging does when an adapter changes one side of the tie.

PEFT adapts the embedding and the head as two modules, also where they share a tensor: an update of
one leaves the other as it was. One tensor cannot hold both, so the head gets its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from taia.anatomy.labels import Label
from taia.checkpoint.adapters.place import Placed, Placement
from taia.checkpoint.adapters.read import Adapter
from taia.checkpoint.adapters.shapes import check_shape
from taia.checkpoint.configs import text_config
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.sources import Runs, Sources, runs_of
from taia.errors import AdapterError
from taia.selection import Alpha

_HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True)
class Untied:
    """A head that becomes a tensor of its own.

    Attributes:
        head: Its name.
        source: The base's tensor that holds it.
        updates: What the adapter does to it.
        alpha: Its α.
    """

    head: str
    source: Entry
    updates: tuple[Placed, ...]
    alpha: Alpha


def as_embedding(base: Checkpoint, placement: Placement) -> Checkpoint:
    """A tied base with its one tensor under the embedding's name, where the file has the head's.

    Some savers keep the head of the two, and may say in the file's metadata what the other is
    called. Where the adapter changes neither, the base stays as it is.
    """
    labels = placement.labels
    heads = [n for n in base.tensors if labels[n].component == "head" and n.endswith(".weight")]
    if base.config is None or not _ties(base) or len(heads) != 1:
        return base
    (head,) = heads
    shape = base.tensors[head].shape
    if any(
        labels[n].component == "embedding" and e.shape == shape for n, e in base.tensors.items()
    ):
        return base
    changed = [item for item in placement.items if item.label.component in ("embedding", "head")]
    names = [item.update.parameter for item in changed if item.label.component == "embedding"]
    for shard in base.shards:
        names += [name for name, other in shard.metadata.items() if other == head]
    if not changed or not names:
        return base
    tensors = {
        names[0] if name == head else name: replace(entry, name=names[0]) if name == head else entry
        for name, entry in base.tensors.items()
    }
    return replace(base, tensors=tensors)


def untie(
    base: Checkpoint, adapter: Adapter, placement: Placement
) -> tuple[Placement, Untied | None]:
    """Decide whether the head must be untied from the embedding.

    Returns:
        The updates of the output's tensors, without those of a head that only repeat the
        embedding's (PEFT saves both where the vocabulary was resized); and the head, if it becomes
        a tensor of its own.

    Raises:
        AdapterError: If the adapter changes a tied head and the embedding cannot be found, or it
            was trained with ``ensure_weight_tying``.
        MismatchError: If its update of the head is not one of the base's embedding.
    """
    if not _ties(base):
        return placement, None
    labels = placement.labels
    heads = [n for n in base.tensors if labels[n].component == "head" and n.endswith(".weight")]
    embedding = _embedding(base, labels)
    stated = "tie_word_embeddings" in {**text_config(base.config or {}), **(base.config or {})}
    sides = _Sides([], [])
    for item in placement.items:
        if item.update.kind in ("bias", "unused"):
            continue
        if item.label.component == "head" and (item.base is None or item.base.name in heads):
            sides.head.append(item)
        elif embedding is not None and item.base == embedding:
            sides.embedding.append(item)
    rest = [item for item in placement.items if item not in (*sides.embedding, *sides.head)]
    name = next((item.update.parameter for item in sides.head), (heads or [_HEAD])[0])
    # Where the config does not say, a head on the disk may be a head of its own.
    one_tensor = stated or not heads
    if one_tensor and embedding is not None:
        sides = _shared(adapter, embedding, placement, sides)
    on_head = [item for item in sides.head if not item.dropped]
    on_embedding = [item for item in sides.embedding if not item.dropped]
    # Trained tokens of the embedding are the head's as well, unless that has its own.
    follows = _trains_tokens(on_embedding) and not _trains_tokens(sides.head)
    as_one = follows and all(
        _is_below(item) or item.update.kind == "tokens" for item in (*on_head, *on_embedding)
    )
    alike = as_one or _repeats(adapter, on_head, on_embedding)
    if (alike and one_tensor) or (not on_head and (not on_embedding or as_one)):
        return replace(placement, items=(*rest, *sides.embedding)), None
    placement = replace(placement, items=(*rest, *sides.embedding, *sides.head))
    source = embedding if one_tensor else base.tensors[heads[0]]
    if source is None or len(heads) > 1:
        raise AdapterError(
            f"the adapter changes {name!r}, which {base.folder} ties to an embedding that taia "
            "cannot tell",
            "compose without --merge",
        )
    if adapter.config.get("ensure_weight_tying"):
        raise AdapterError(
            f"{adapter.folder} adapts tied embeddings as one (ensure_weight_tying)",
            "compose without --merge, or merge with PEFT and compose the checkpoints",
        )
    if follows:
        raise AdapterError(
            f"{adapter.folder} trains tokens of an embedding and adapts the head tied to it: "
            "how PEFT combines the two is not settled",
            "compose without --merge, or leave the head or the embedding out of the selection",
        )
    wholes = (i.update.parts["whole"] for i in on_head if i.update.kind == "whole")
    whole = next(map(adapter.shape, wholes), None)
    for item in on_head:
        check_shape(adapter, item.update, source, whole, item.label, item.transposed)
    alpha = on_head[0].alpha if on_head else 0.0
    return placement, Untied(heads[0] if heads else name, source, tuple(on_head), alpha)


class _Sides(NamedTuple):
    """What an adapter does to a head and to the embedding that it is tied to."""

    head: list[Placed]
    embedding: list[Placed]


def _shared(adapter: Adapter, base: Entry, placement: Placement, sides: _Sides) -> _Sides:
    """The same, with what replaces the tensor that both share on either side.

    What lies below updates is loaded into the one tensor, the head's last; a module that is listed
    in ``modules_to_save`` has a tensor of its own.
    """
    given = [*sides.embedding, *sides.head]
    below = [item for item in given if _is_below(item)]
    if not below:
        return sides
    with Sources() as sources:
        same = sources.same(runs_of(base, "base"), _runs(adapter, below[-1], "whole"))
    label, alpha = placement.labels[base.name], placement.alphas[base.name]
    of_embedding = replace(below[-1], base=base, label=label, alpha=alpha)
    of_head = replace(of_embedding, label=replace(label, component="head"))
    if sides.head:
        of_head = replace(of_head, label=sides.head[0].label, alpha=sides.head[0].alpha)
    return _Sides(
        *(
            [*([] if same else [shared]), *(item for item in side if item not in below)]
            for shared, side in ((of_head, sides.head), (of_embedding, sides.embedding))
        )
    )


def with_tied_heads(base: Checkpoint | None, placement: Placement) -> tuple[Placed, ...]:
    """All updates; those of a head that is the embedding on the disk are placed there."""
    embedding = None
    if base is not None and _ties(base):
        embedding = _embedding(base, placement.labels)
    return tuple(
        replace(item, base=embedding)
        if item.base is None and item.label.component == "head"
        else item
        for item in placement.items
    )


def _repeats(adapter: Adapter, head: Iterable[Placed], embedding: Iterable[Placed]) -> bool:
    """Whether the updates of a head do what those of its embedding do."""
    ours = {item.update.kind: item for item in head}
    theirs = {item.update.kind: item for item in embedding}
    if ours.keys() != theirs.keys():
        return False
    with Sources() as sources:
        return all(
            item.alpha == theirs[kind].alpha
            and sources.same(_runs(adapter, item, part), _runs(adapter, theirs[kind], part))
            for kind, item in ours.items()
            for part in item.update.parts
        )


def _runs(adapter: Adapter, item: Placed, part: str) -> Runs:
    found = item.update.parts.get(part)
    return () if found is None else runs_of(adapter.entries[found.tensor], "tuned")


def _is_below(item: Placed) -> bool:
    """Whether an update replaces what lies below others."""
    return item.update.kind == "whole" and item.update.wrapper is None


def _trains_tokens(items: Iterable[Placed]) -> bool:
    return any(item.update.kind == "tokens" for item in items)


def _ties(base: Checkpoint) -> bool:
    """Whether a config says that head and embedding are one; transformers' own default is yes."""
    config = base.config or {}
    for side in (config, text_config(config)):
        if "tie_word_embeddings" in side:
            return bool(side["tie_word_embeddings"])
    return True


def _embedding(base: Checkpoint, labels: Mapping[str, Label]) -> Entry | None:
    config = base.config or {}
    vocabulary = text_config(config).get("vocab_size", config.get("vocab_size"))
    found = [
        entry
        for name, entry in base.tensors.items()
        if labels[name].component == "embedding" and entry.shape[:1] == (vocabulary,)
    ]
    return found[0] if len(found) == 1 else None
