"""Cells of the battery that cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Family and kind → what PEFT says when it is asked for such an adapter.
IMPOSSIBLE: Final[Mapping[tuple[str, str], str]] = {
    (family, "DoRA"): "ParamWrapper does not work with use_dora"
    for family in ("mixtral", "qwen3_moe", "deepseek_v3", "qwen3_next")
}

FAILING: Final[Mapping[tuple[str, str, str], str]] = {}
