"""One export: what is to be written, from what, and what the source says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from taia.export.source import Source

if TYPE_CHECKING:
    import torch

    from taia.export.follow import Trace


@dataclass(frozen=True)
class Job:
    """One export.

    Attributes:
        source: What is exported.
        output: Where it will appear.
        merge: Whether an adapter becomes a whole checkpoint.
        base_gguf: The base as a GGUF file.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.
    """

    source: Source
    output: Path
    merge: bool = False
    base_gguf: Path | None = None
    declare: Mapping[str, str] | None = None

    @cached_property
    def trace(self) -> tuple[Trace, torch.Tensor | None]:
        """What the source says, and for an adapter its base; loaded on first use."""
        from taia.export.reference import source_trace

        return source_trace(self.source)
