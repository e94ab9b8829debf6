"""Tied embeddings: what merging does when an adapter changes one side of the tie.

PEFT adapts the embedding and the head as two modules, also where they share a tensor: an update of
one leaves the other as it was. One tensor cannot hold both, so the head gets its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from taia.anatomy.labels import Label
from taia.checkpoint.adapters.place import Placed, Placement
from taia.checkpoint.adapters.read import Adapter
from taia.checkpoint.configs import text_config
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
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


def untie(base: Checkpoint, adapter: Adapter, placement: Placement) -> Untied | None:
    """Decides whether the head must be untied from the embedding.

    Raises:
        AdapterError: If the adapter changes a tied head and the embedding cannot be found, or it
            was trained with ``ensure_weight_tying``.
    """
    config = base.config or {}
    heads = [n for n in base.tensors if _is(placement.labels[n], "head") and n.endswith(".weight")]
    if not _ties(config):
        return None
    embedding = _embedding(base, placement.labels, config)
    stated = "tie_word_embeddings" in {**text_config(config), **config}
    on_head: list[Placed] = []
    on_embedding: list[Placed] = []
    tokens: list[Placed] = []
    for item in placement.items:
        if item.dropped or item.update.kind == "bias":
            continue
        if _is(item.label, "head") and (item.base is None or item.base.name in heads):
            on_head.append(item)
        elif embedding is not None and item.base == embedding:
            (tokens if item.update.kind == "tokens" else on_embedding).append(item)
    if not on_head and not on_embedding:
        return None
    name = on_head[0].update.parameter if on_head else (heads or [_HEAD])[0]
    # Where the config does not say, a head on the disk may be a head of its own.
    source = embedding if stated or not heads else base.tensors[heads[0]]
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
    if tokens:
        raise AdapterError(
            f"{adapter.folder} trains tokens of an embedding and adapts the head tied to it: "
            "how PEFT combines the two is not settled",
            "compose without --merge, or leave the head or the embedding out of the selection",
        )
    alpha = on_head[0].alpha if on_head else 0.0
    return Untied(heads[0] if heads else name, source, tuple(on_head), alpha)


def untied_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the model whose head has a tensor of its own."""
    new = {**config, "tie_word_embeddings": False}
    text = config.get("text_config")
    if isinstance(text, dict) and "tie_word_embeddings" in text:
        new["text_config"] = {**text, "tie_word_embeddings": False}
    return new


def _ties(config: Mapping[str, Any]) -> bool:
    """Whether a config says that head and embedding are one; transformers' own default is yes."""
    for side in (config, text_config(config)):
        if "tie_word_embeddings" in side:
            return bool(side["tie_word_embeddings"])
    return True


def _embedding(
    base: Checkpoint, labels: Mapping[str, Label], config: Mapping[str, Any]
) -> Entry | None:
    vocabulary = text_config(config).get("vocab_size", config.get("vocab_size"))
    found = [
        entry
        for name, entry in base.tensors.items()
        if _is(labels[name], "embedding") and _rows(entry.shape) == vocabulary
    ]
    return found[0] if len(found) == 1 else None


def _rows(shape: Iterable[int]) -> int | None:
    return next(iter(shape), None)


def _is(label: Label, component: str) -> bool:
    return label.component == component
