"""What an export may be for. A target is a row here, and the file ``to_NAME.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Name: TypeAlias = Literal["transformers", "vllm", "gguf", "ollama", "mergekit"]
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


TARGETS: Final[Mapping[Name, Target]] = {
    "transformers": Target(_MODELS, _FOLDER, reads_base=False),
    "vllm": Target(_MODELS, _FOLDER),
    "gguf": Target((*_MODELS, "gguf"), _GGUF, gguf=True),
    "ollama": Target((*_MODELS, "gguf", "jinja2"), _GGUF, gguf=True),
    "mergekit": Target(("torch", "yaml"), ("mergekit.yml",), reads_base=False),
}
MARKS: Final = tuple({mark: None for target in TARGETS.values() for mark in target.marks})
