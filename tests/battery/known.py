"""Cells of the battery that cannot be, and those that fail today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Family and kind → what PEFT says when it is asked for such an adapter.
IMPOSSIBLE: Final[Mapping[tuple[str, str], str]] = {
    (family, "DoRA"): "ParamWrapper does not work with use_dora"
    for family in ("mixtral", "qwen3_moe")
}

FAILING: Final = {}
