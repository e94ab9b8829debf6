"""Cells of the battery that cannot be, and those that fail today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from battery.kinds import KINDS

#: Family and kind → what PEFT says when it is asked for such an adapter.
IMPOSSIBLE: Final[Mapping[tuple[str, str], str]] = {
    (family, "DoRA"): "ParamWrapper does not work with use_dora"
    for family in ("mixtral", "qwen3_moe", "deepseek_v3", "qwen3_next")
}

_TIED: Final = """
llama, tied|qwen3|gemma3_text|gemma3|gpt2|opt|bloom|falcon|mpt|starcoder2
"""
_ENDS: Final = "head and embedding"

#: Family, kind and route → why it fails today.
FAILING: Final[Mapping[tuple[str, str, str], str]] = {
    **{
        (family, _ENDS, "merge"): "a saved base_layer.weight and the low-rank update of one tensor"
        for family in _TIED.strip().split("|")
    },
    **{
        ("qwen2_5_vl", kind, route): "the live model's names are not those on disk"
        for kind in KINDS
        for route in ("adapter", "merge")
        if route == "merge" or kind not in ("modules_to_save", _ENDS)
    },
}
