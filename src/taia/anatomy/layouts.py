"""How the rows of a projection divide into q, k, v and heads: one table of fused layouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taia.anatomy.labels import Label


def with_layouts(labels: list[Label], config: Mapping[str, Any] | None) -> list[Label]:
    """Adds to each label how its tensor's rows divide, where the config tells."""
    return labels
