"""One export: what is to be written, from what, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taia.export.source import Source
from taia.export.targets import Outtype

if TYPE_CHECKING:
    import torch

    from taia.export.trace import Trace

#: A folder in the output for what is needed on the way; gone before the output appears.
SCRATCH: Final = ".scratch"


@dataclass(frozen=True)
class Job:
    """One export.

    Attributes:
        source: What is exported.
        output: Where it will appear.
        merge: Whether an adapter becomes a whole checkpoint.
        base_gguf: The base as a GGUF file.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.
        outtype: The dtype of a whole model's GGUF file, as llama.cpp calls it.
    """

    source: Source
    output: Path
    merge: bool = False
    base_gguf: Path | None = None
    declare: Mapping[str, str] | None = None
    outtype: Outtype = "auto"

    @property
    def whole(self) -> bool:
        """Whether the output is a whole model."""
        return self.source.adapter is None or self.merge

    @cached_property
    def trace(self) -> tuple[Trace, torch.Tensor | None]:
        """What the source says, and for an adapter its base; loaded on first use."""
        from taia.export.trace import source_trace

        return source_trace(self.source)
