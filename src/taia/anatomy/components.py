"""The components of a language model, and the names a selection may call them by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from taia.anatomy.labels import Label

#: Component → what it is.
COMPONENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "attention": "token mixing: self-, cross- and linear attention, state spaces, convolutions",
        "mlp": "dense feed-forward block",
        "experts": "routed experts of a feed-forward block",
        "shared_experts": "experts that every token passes through",
        "router": "what sends tokens to experts",
        "norm": "layer norms; norms inside attention or the feed-forward block belong to these",
        "embedding": "token, position and type embeddings",
        "head": "output projection to the vocabulary, and its transform",
        "residual": "wiring of the residual stream: gates, scalars, hyper-connections, AltUp",
        "vision": "image encoder",
        "audio": "audio encoder",
        "projector": "from another modality, or from bytes, into the residual stream",
    }
)

#: The components of a feed-forward block, which a selection calls ``mlp`` together.
FEED_FORWARD: Final = ("mlp", "experts", "shared_experts", "router")

#: The encoders beside a language model, which have attention and projections of their own.
TOWERS: Final = frozenset({"vision", "audio"})


def _component(*names: str) -> Callable[[Label], bool]:
    return lambda label: label.component in names


def _block(component: str, *blocks: str) -> Callable[[Label], bool]:
    return lambda label: label.component == component and label.block in blocks


#: Name in a selection → which labels it means. ``mlp`` is the whole feed-forward block.
GROUPS: Final[Mapping[str, Callable[[Label], bool]]] = MappingProxyType(
    {
        "all": lambda label: True,
        "none": lambda label: False,
        **{name: _component(name) for name in COMPONENTS},
        "mlp": _component(*FEED_FORWARD),
        "self_attention": _block("attention", "self_attention"),
        "cross_attention": _block("attention", "cross_attention"),
        "linear_attention": _block("attention", "linear_attention"),
        "attention_norm": _block("norm", "attention", "both"),
        "mlp_norm": _block("norm", "mlp", "both"),
        "final_norm": _block("norm", "final"),
    }
)
