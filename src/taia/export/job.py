"""One export: what it may be for, what is asked, and what came of it.

A target is a row here, and the file ``to_NAME.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from taia.export.source import ExportSource

TargetName: TypeAlias = Literal["transformers", "vllm", "gguf", "ollama", "mergekit"]
#: A whole model's dtype in GGUF, as llama.cpp's converter calls it: "auto" is bf16 for a model
#: that has bf16, else f16.
Outtype: TypeAlias = Literal["auto", "f32", "f16", "bf16", "q8_0"]

_MODELS: Final = ("torch", "transformers", "peft")
_FOLDER: Final = ("taia_config.json", "config.json", "adapter_config.json")
_GGUF: Final = ("adapter.gguf", "model.gguf")


@dataclass(frozen=True, slots=True)
class Target:
    """A program that an export may be for.

    Attributes:
        needs: What writing and checking import.
        marks: Files of its outputs. To be overwritten, a folder must hold one of some target's.
        reads_base: Whether writing an adapter reads its base; merging and checking always do.
        gguf: Whether the output is GGUF, and ``base_gguf`` and ``outtype`` mean something.
    """

    needs: tuple[str, ...]
    marks: tuple[str, ...]
    reads_base: bool = True
    gguf: bool = False


TARGETS: Final[Mapping[TargetName, Target]] = {
    "transformers": Target(_MODELS, _FOLDER, reads_base=False),
    "vllm": Target(_MODELS, _FOLDER),
    "gguf": Target((*_MODELS, "gguf"), _GGUF, gguf=True),
    "ollama": Target((*_MODELS, "gguf", "jinja2"), _GGUF, gguf=True),
    "mergekit": Target(("torch", "yaml"), ("mergekit.yml",), reads_base=False),
}
MARKS: Final = tuple({mark: None for target in TARGETS.values() for mark in target.marks})
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

    source: ExportSource
    output: Path
    merge: bool = False
    base_gguf: Path | None = None
    declare: Mapping[str, str] | None = None
    outtype: Outtype = "auto"

    @property
    def whole(self) -> bool:
        """Whether the output is a whole model."""
        return self.source.adapter is None or self.merge


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

    target: TargetName
    output: Path
    files: tuple[str, ...]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    use: str | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "output": str(self.output)}
