"""How the rows of a projection divide into q, k, v and heads, by the config.

Everything is checked against the tensor's shape: where the numbers do not agree, the rows are left
whole, and slicing them by head is an error instead of a guess. Where a layer's queries cannot be
divided, its keys, values and outputs are not either: half a head is not a head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from taia.anatomy import fused
from taia.anatomy.components import FEED_FORWARD
from taia.anatomy.labels import Label, Layout, Segment

#: More segments than any model's rows have.
_MOST: Final = 1 << 16


def with_layouts(labels: list[Label], config: Mapping[str, Any] | None) -> list[Label]:
    """Adds to each label how its tensor's rows divide, where the config tells."""
    if config is None:
        return labels
    heads = _Heads.of(config)
    swapped = _swapped(labels, heads.model_type)
    found = ((label, _layout(label, heads, swapped)) for label in labels)
    labels = [replace(label, layout=layout) if layout else label for label, layout in found]
    whole = {(x.stack, x.layer) for x in labels if x.role == "q_proj" and not x.layout}
    return [
        replace(label, layout=None)
        if label.component == "attention" and (label.stack, label.layer) in whole
        else label
        for label in labels
    ]


@dataclass(frozen=True, slots=True)
class _Swapped:
    """Whose weights are kept ``[…, in, out]``: by their shapes, and else by the model's type."""

    linears: bool
    experts: bool


def _swapped(labels: list[Label], model_type: str) -> _Swapped:
    """Which weights are kept the other way round.

    A bias has one number for each output, and experts take in what they give out: either tells the
    axes apart.
    """
    shapes = {label.tensor.name: label.tensor.shape or () for label in labels}
    linears: bool | None = None
    experts: bool | None = None
    for label in labels:
        name, shape = label.tensor.name, label.tensor.shape or ()
        inside = label.component in ("attention", *FEED_FORWARD)
        if not inside:
            continue
        if linears is None and len(shape) == 2 and shape[0] != shape[1]:
            bias = shapes.get(f"{name.removesuffix('.weight')}.bias", ())
            if name.endswith(".weight") and bias in (shape[:1], shape[1:]):
                linears = bias == shape[1:]
        if experts is None and len(shape) == 3 and label.component == "experts":
            experts = _told_by_pair(name, shape, shapes)
    return _Swapped(
        model_type in fused.CONV1D if linears is None else linears,
        model_type in fused.TRANSPOSED_EXPERTS if experts is None else experts,
    )


def _told_by_pair(
    name: str, goes_in: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]
) -> bool | None:
    """Whether experts are kept transposed, by the other tensor of the pair."""
    for first, last in fused.EXPERT_PAIRS:
        comes_out = shapes.get(name.replace(f".{first}", f".{last}"), ())
        if f".{first}" not in name or len(comes_out) != 3:
            continue
        both = len(fused.FUSED_EXPERTS.get(first, (first,))) if first != "input_linear" else 2
        plain = goes_in[1:] == (both * comes_out[2], comes_out[1])
        turned = goes_in[1:] == (comes_out[2], both * comes_out[1])
        if plain != turned:
            return turned
    return None


@dataclass(frozen=True, slots=True)
class _Heads:
    """The numbers of a config that rows divide by; 0 where it has none."""

    model_type: str
    query: int
    key: int
    size: int
    value_size: int
    grouped: bool  # falcon's newer decoder
    multi_query: bool
    latent: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> _Heads:
        for nested in ("text_config", "llm_config", "decoder"):
            if isinstance(config.get(nested), Mapping):
                config = {**config, **config[nested]}

        def first(*keys: str) -> int:
            values = (config.get(key) for key in keys)
            return next((v for v in values if type(v) is int and v > 0), 0)

        query = first("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")
        query = query or first("decoder_attention_heads", "num_decoder_attention_heads")
        width = first("hidden_size", "n_embd", "d_model", "emb_dim")
        size = first("head_dim", "kv_channels", "attention_head_size") or (
            width // query if query else 0
        )
        multi_query = bool(config.get("multi_query"))
        grouped = bool(config.get("new_decoder_architecture"))
        key = first("num_key_value_heads", "num_kv_heads", "n_head_kv")
        if multi_query and not grouped:
            key = 1
        elif config.get("model_type") == "falcon" and not grouped:
            key = query
        attention = config.get("attn_config")
        if not key and isinstance(attention, Mapping):
            count = attention.get("kv_n_heads")
            key = count if isinstance(count, int) and count > 0 else 0
        latent = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        return cls(
            str(config.get("model_type", "")),
            query,
            key or query,
            size,
            first("v_head_dim") or size,
            grouped,
            multi_query,
            tuple((name, first(name)) for name in latent),
        )


def _layout(label: Label, heads: _Heads, swapped: _Swapped) -> Layout | None:
    shape = label.tensor.shape
    if not shape:
        return None
    if label.component == "attention":
        found = _attention(label, heads, swapped)
    else:
        order = _order(fused.FUSED_FEED_FORWARD, label, heads)
        found = None if order is None else (_outputs(label, swapped), order)
    if found is None or found[0] >= len(shape):
        return None
    axis, order = found
    segments = _segments(order, shape[axis], heads)
    return Layout(axis, segments) if segments else None


def _attention(label: Label, heads: _Heads, swapped: _Swapped) -> tuple[int, str] | None:
    """The axis that divides, and the order of what is on it."""
    if not heads.query or label.block == "linear_attention" or label.stack.startswith("vision"):
        return None
    outputs = _outputs(label, swapped)
    if order := _order(fused.FUSED_ATTENTION, label, heads):
        return outputs, order
    if label.projection in fused.LATENT:
        return outputs, label.projection
    if label.role in ("q_proj", "k_proj", "v_proj"):
        return outputs, label.role
    if label.role == "o_proj" and len(label.tensor.shape or ()) == 2:
        return 1 - outputs, "o_proj"
    return None


def _outputs(label: Label, swapped: _Swapped) -> int:
    """The axis of a linear's outputs: its rows, unless the weight is kept transposed."""
    shape = label.tensor.shape or ()
    if len(shape) == 3:
        return 2 if swapped.experts else 1
    if label.component == "experts" and len(shape) == 2:  # a bias for each expert
        return 1 if label.projection.endswith("_bias") else 0
    return 1 if len(shape) == 2 and swapped.linears else 0


def _order(table: Mapping[str, Mapping[str, str]], label: Label, heads: _Heads) -> str | None:
    orders = table.get(label.projection, {})
    order = orders.get(heads.model_type, orders.get("*"))
    if order == "falcon":
        plain = "head" if not heads.multi_query else "whole"
        return "group" if heads.grouped else plain
    if order == "bigcode":
        return "whole" if heads.multi_query else "head"
    return order


@lru_cache(maxsize=1024)
def _segments(order: str, size: int, heads: _Heads) -> tuple[Segment, ...]:
    """The segments of an axis, empty where its size and the config do not agree."""
    segments: list[Segment] = []
    start = 0
    for length, role, owners in _runs(order, size, heads):
        # A config may name any number of heads: no more are made than there are rows.
        if length < 1 or start + length > size or len(segments) == _MOST:
            return ()
        segments.append(Segment(start, start + length, role, owners))
        start += length
    return tuple(segments) if start == size else ()


_Run = tuple[int, str, tuple[int, int] | None]


def _runs(order: str, size: int, heads: _Heads) -> Iterator[_Run]:
    query, key, one = heads.query, heads.key, heads.size
    shared = query // key if key else 0
    if order == "halves":
        yield from ((size // 2, "gate_proj", None), (size // 2, "up_proj", None))
    elif order == "alternate":
        yield from ((1, ("gate_proj", "up_proj")[i % 2], None) for i in range(size))
    elif not shared or query % key:
        return
    elif order == "whole":
        for role in ("q_proj", "k_proj", "v_proj"):
            yield from _all_heads(role, one, query, key)
    elif order == "head":
        for head in range(query):
            yield from ((one, role, (head, head + 1)) for role in ("q_proj", "k_proj", "v_proj"))
    elif order == "group":
        for group in range(key):
            owners = (group * shared, (group + 1) * shared)
            yield from ((one, "q_proj", (head, head + 1)) for head in range(*owners))
            yield from ((one, "k_proj", owners), (one, "v_proj", owners))
    elif order == "blocks":
        quarter = query // 4
        for block in range(4):
            for role in ("q_proj", "v_proj", "k_proj"):
                for head in range(block * quarter, (block + 1) * quarter):
                    yield one, role, (head, head + 1)
    elif order in fused.LATENT:
        latent = dict(heads.latent)
        for head in range(query):
            for role, keys in fused.LATENT[order].items():
                yield sum(latent[name] for name in keys), role, (head, head + 1)
    elif order == "o_proj":
        yield from _all_heads("o_proj", size // query if size % query == 0 else 0, query, key)
    else:
        width = heads.value_size if order == "v_proj" else one
        width *= 2 if order == "q_proj" and heads.model_type in fused.GATED_QUERY else 1
        yield from _all_heads(order, width, query, key)


def _all_heads(role: str, one: int, query: int, key: int) -> Iterable[_Run]:
    if role in ("q_proj", "o_proj"):
        return ((one, role, (head, head + 1)) for head in range(query))
    shared = query // key
    return ((one, role, (g * shared, (g + 1) * shared)) for g in range(key))
