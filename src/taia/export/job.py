"""One export: what is to be written, from what, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taia.export.source import Source
from taia.export.targets import Name, Outtype

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


@dataclass(frozen=True, slots=True)
class Check:
    """One way in which an output was checked.

    Attributes:
        said: What was compared with what and what came out, in one sentence.
        passed: Whether they agree.
        measured: The numbers behind it.
    """

    said: str
    passed: bool
    measured: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    """What a target wrote.

    Attributes:
        notes: What a careful reader would want to know, one sentence each.
        use: The command that uses the output, with ``{output}`` where its path goes.
    """

    notes: tuple[str, ...] = ()
    use: str | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """What an export did.

    Attributes:
        target: The program it was written for.
        output: The folder.
        files: Names of the files in it.
        checks: How it was checked; none where that was switched off.
        notes: What a careful reader would want to know, one sentence each.
        use: The command that uses the output.
    """

    target: Name
    output: Path
    files: tuple[str, ...]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    use: str | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "output": str(self.output)}
