"""Kinds of adapters, as data: what PEFT is asked to train beside or in place of plain LoRA."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from battery.families import Family

#: Tokens that are trained: the inputs hold all of them, and others.
TOKENS = [3, 7, 11]

_Options = Callable[[Family], Mapping[str, Any]]


def _linear(family: Family) -> dict[str, Any]:
    targets = family.target(*family.attention, *family.feed_forward)
    return {"target_modules": targets, "target_parameters": list(family.parameters) or None}


def _saved(family: Family) -> dict[str, Any]:
    """The last projection of the feed-forward block whole, or its router; and the head."""
    *adapted, last = family.feed_forward or ("mlp.gate",)
    return {
        "target_modules": family.target(*family.attention, *adapted),
        "modules_to_save": [last, "lm_head"],
    }


def _patterns(family: Family) -> dict[str, Any]:
    first, second, *_ = family.attention
    patterns = {first: 2, (family.feed_forward or family.attention)[-1]: 6}
    return {
        **_linear(family),
        "use_rslora": True,
        "rank_pattern": patterns,
        "alpha_pattern": {second: 3},
    }


def _ends(family: Family) -> dict[str, Any]:
    targets = (*family.attention, *family.feed_forward, family.embedding, "lm_head")
    return {**_linear(family), "target_modules": family.target(*targets)}


def _dora(family: Family) -> dict[str, Any]:
    """Of plain layers, where there are any: PEFT has no DoRA of stacked experts."""
    stacked = {} if family.feed_forward else {"target_parameters": list(family.parameters)}
    return {**_linear(family), "target_parameters": None, **stacked, "use_dora": True}


#: Kind → PEFT's options for a family.
KINDS: Mapping[str, _Options] = {
    "LoRA": _linear,
    "DoRA": _dora,
    "bias all": lambda family: {**_linear(family), "bias": "all"},
    "bias lora_only": lambda family: {**_linear(family), "bias": "lora_only"},
    "modules_to_save": _saved,
    "head and embedding": _ends,
    "rsLoRA, patterns": _patterns,
    "trainable tokens": lambda family: {**_linear(family), "trainable_token_indices": TOKENS},
}

#: Kind → a selection that drops what makes the kind, and the modules whose updates that drops.
#: A head that is tied to an embedding shows its trained tokens too: PEFT has one update for both.
ALSO: Mapping[str, tuple[str, Callable[[Family], tuple[str, ...]]]] = {
    "modules_to_save": ("all - head", lambda family: ("lm_head",)),
    "head and embedding": ("all - embedding", lambda family: (family.embedding,)),
    "trainable tokens": ("all - embedding", lambda family: (family.embedding, "lm_head")),
}

#: Family and kind → what PEFT says when it is asked for such an adapter.
IMPOSSIBLE: Final[Mapping[tuple[str, str], str]] = {
    (family, "DoRA"): "ParamWrapper does not work with use_dora"
    for family in ("mixtral", "qwen3_moe", "deepseek_v3", "qwen3_next")
}
