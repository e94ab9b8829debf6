"""What a live model's modules are called in GGUF, and what llama.cpp wants of their rows.

transformers rotates a head's dimension j together with j + d/2; for the architectures marked so,
llama.cpp rotates neighbours, 2j with 2j + 1, and its files have the rows of q and k in that order.
The rows of an update's B are the rows of the weight, so they are reordered alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from taia.errors import AdapterError

if TYPE_CHECKING:
    import torch

#: transformers' model type → llama.cpp's architecture, and whether q and k are interleaved.
_ARCHITECTURES: Final[Mapping[str, tuple[str, bool]]] = {
    "llama": ("llama", True),
    "mistral": ("llama", True),
    "granite": ("granite", True),
    "smollm3": ("smollm3", True),
    "qwen2": ("qwen2", False),
    "qwen3": ("qwen3", False),
    "phi3": ("phi3", False),
    "gemma": ("gemma", False),
    "gemma2": ("gemma2", False),
    "olmo2": ("olmo2", False),
}
_INSTEAD: Final = (
    "Merge it with --to transformers --merge, and use llama.cpp's convert_hf_to_gguf.py."
)


@dataclass(frozen=True)
class Names:
    """An architecture's names.

    Attributes:
        architecture: What llama.cpp calls it.
        heads: Module's last part → number of heads whose rows are interleaved; empty for
            architectures that keep transformers' order.
    """

    architecture: str
    heads: Mapping[str, int]
    _map: Any
    _tied: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Names:
        """The names for a base model's config.

        Raises:
            AdapterError: If taia has no names for the architecture.
        """
        import gguf

        kind = config.get("model_type")
        if kind not in _ARCHITECTURES:
            raise AdapterError(f"taia has no GGUF names for {kind!r} models.", _INSTEAD)
        architecture, interleaved = _ARCHITECTURES[kind]
        arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
        heads = {}
        if interleaved:
            q = int(config["num_attention_heads"])
            heads = {"q_proj": q, "k_proj": int(config.get("num_key_value_heads") or q)}
        names = gguf.get_tensor_name_map(arch, int(config["num_hidden_layers"]))
        return cls(architecture, heads, names, bool(config.get("tie_word_embeddings")))

    def tensor(self, module: str) -> str:
        """The GGUF name of a module's weight.

        Raises:
            AdapterError: If there is none, or it is the embedding's too.
        """
        name = self._map.get_name(module)
        if name is None:
            raise AdapterError(
                f"GGUF has no name for {module} of a {self.architecture} model.", _INSTEAD
            )
        if name == "output" and self._tied:
            raise AdapterError(
                f"The adapter changes {module}, which shares the embedding's tensor in GGUF.",
                f"Leave it out of the selection. Or: {_INSTEAD}",
            )
        return f"{name}.weight"

    def ordered(self, module: str, rows: torch.Tensor) -> torch.Tensor:
        """A module's rows in llama.cpp's order.

        Args:
            module: Its path.
            rows: Anything whose first axis is the module's outputs.
        """
        heads = self.heads.get(module.rpartition(".")[2])
        return rows if heads is None else interleaved(rows, heads)


def interleaved(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Each head's first and second half, row by row in turn."""
    import torch

    order = torch.arange(rows.shape[0]).reshape(heads, 2, -1).transpose(1, 2).reshape(-1)
    return rows[order]
