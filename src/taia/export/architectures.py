"""The architectures that taia writes as GGUF: llama.cpp's names, and what it wants otherwise.

A row of the table is a model type. To add one: a row here, and a case in tests/export that
llama.cpp answers as transformers does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from taia.errors import AdapterError, CheckpointError, MismatchError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Architecture:
    """How llama.cpp's files of an architecture differ from transformers'.

    Attributes:
        name: What llama.cpp calls it.
        pairs: transformers rotates a head's dimension j together with j + d/2. Here llama.cpp
            rotates neighbours, 2j with 2j + 1, and its files have the rows of q and k so.
        by_head: The rows of the fused qkv are head by head (q, k, v of the first, then of the
            second); llama.cpp's are all of q, all of k, all of v.
        transposed: Layers are Conv1D, whose weights are ``[inputs, outputs]``.
        plus_one: Norms multiply with 1 + weight, and the file has the sum.
        keys: Attribute of the config → the writer's method for it; ``None`` values are left out.
        needs: Attribute of the config → the value without which llama.cpp computes another model.
    """

    name: str
    pairs: bool = False
    by_head: bool = False
    transposed: bool = False
    plus_one: bool = False
    keys: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, object] = field(default_factory=dict)


_GRANITE: Final = {
    "attention_multiplier": "add_attention_scale",
    "embedding_multiplier": "add_embedding_scale",
    "residual_multiplier": "add_residual_scale",
    "logits_scaling": "add_logit_scale",
}
_GEMMA2: Final = {
    "attn_logit_softcapping": "add_attn_logit_softcapping",
    "final_logit_softcapping": "add_final_logit_softcapping",
    "sliding_window": "add_sliding_window",
}
_SHARED: Final = {
    "moe_intermediate_size": "add_expert_feed_forward_length",
    "shared_expert_intermediate_size": "add_expert_shared_feed_forward_length",
}
_ALL_SPARSE: Final[Mapping[str, object]] = {"decoder_sparse_step": 1, "mlp_only_layers": []}
_FULL: Final[Mapping[str, object]] = {"use_sliding_window": False}

#: transformers' model type → what llama.cpp wants.
ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "llama": Architecture("llama", pairs=True),
    "mistral": Architecture("llama", pairs=True),
    "mixtral": Architecture("llama", pairs=True),
    "granite": Architecture("granite", pairs=True, keys=_GRANITE),
    "smollm3": Architecture("smollm3", pairs=True),
    "qwen2": Architecture("qwen2", needs=_FULL),
    "qwen2_moe": Architecture(
        "qwen2moe", keys=_SHARED, needs={**_ALL_SPARSE, **_FULL, "norm_topk_prob": False}
    ),
    "qwen3": Architecture("qwen3", needs=_FULL),
    "qwen3_moe": Architecture(
        "qwen3moe", keys=_SHARED, needs={**_ALL_SPARSE, **_FULL, "norm_topk_prob": True}
    ),
    "phi3": Architecture("phi3"),
    "gemma": Architecture("gemma", plus_one=True),
    "gemma2": Architecture("gemma2", plus_one=True, keys=_GEMMA2),
    "gemma3_text": Architecture("gemma3", plus_one=True, keys=_GEMMA2),
    "olmo": Architecture("olmo", pairs=True, keys={"clip_qkv": "add_clamp_kqv"}),
    "olmo2": Architecture("olmo2"),
    "gpt2": Architecture("gpt2", transposed=True, needs={"scale_attn_by_inverse_layer_idx": False}),
    "gpt_neox": Architecture(
        "gptneox", by_head=True, keys={"use_parallel_residual": "add_parallel_residual"}
    ),
    "starcoder2": Architecture("starcoder2"),
    "stablelm": Architecture("stablelm", keys={"use_parallel_residual": "add_parallel_residual"}),
    "phi": Architecture("phi2"),
    "cohere": Architecture("command-r", keys={"logit_scale": "add_logit_scale"}),
}
#: Names of one count, the first first.
_ALSO: Final = {
    "num_hidden_layers": ("num_hidden_layers", "n_layer"),
    "num_attention_heads": ("num_attention_heads", "n_head"),
}
_INSTEAD: Final = (
    "Merge it with --to transformers --merge, and use llama.cpp's convert_hf_to_gguf.py."
)


@dataclass(frozen=True)
class Names:
    """An architecture's names for one model.

    Attributes:
        architecture: The architecture.
        heads: Module's last part → number of heads, for modules whose rows are reordered.
        tied: Whether the head is the embedding.
    """

    architecture: Architecture
    heads: Mapping[str, int]
    tied: bool
    _map: Any

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Names:
        """The names for a model's config.

        Raises:
            AdapterError: If taia has no names for the architecture.
            CheckpointError: If the config lacks what the names depend on.
        """
        import gguf

        kind = config.get("model_type")
        if not isinstance(kind, str) or kind not in ARCHITECTURES:
            raise AdapterError(
                f"taia has no GGUF names for {str(kind)!r} models; it has them for "
                f"{', '.join(sorted(ARCHITECTURES))}.",
                _INSTEAD,
            )
        architecture = ARCHITECTURES[kind]
        arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.name)
        names = gguf.get_tensor_name_map(arch, _count(config, "num_hidden_layers"))
        heads = {}
        if architecture.pairs:
            q = _count(config, "num_attention_heads")
            k = _count({"num_key_value_heads": q, **config}, "num_key_value_heads")
            heads = {"q_proj": q, "k_proj": k}
        if architecture.by_head:
            heads = {"query_key_value": _count(config, "num_attention_heads")}
        return cls(architecture, heads, bool(config.get("tie_word_embeddings")), names)

    def find(self, tensor: str) -> str | None:
        """The GGUF name of a tensor of a checkpoint, ``None`` if there is none."""
        found: str | None = self._map.get_name(tensor, try_suffixes=(".weight", ".bias"))
        return found

    def weight(self, module: str) -> str:
        """The GGUF name of a module's weight.

        Raises:
            AdapterError: If there is none, or it is the embedding's too.
        """
        name = self._map.get_name(module)
        if name is None:
            raise AdapterError(
                f"GGUF has no name for {module} of a {self.architecture.name} model.", _INSTEAD
            )
        if name == "output" and self.tied:
            raise AdapterError(
                f"The adapter changes {module}, which shares the embedding's tensor in GGUF.",
                f"Leave it out of the selection. Or: {_INSTEAD}",
            )
        return f"{name}.weight"

    def ordered(self, module: str, rows: torch.Tensor) -> torch.Tensor:
        """A module's rows in llama.cpp's order.

        The rows of an update's B are the rows of the weight, so they are reordered alike.

        Args:
            module: Its path.
            rows: Anything whose first axis is the module's outputs.

        Raises:
            MismatchError: If the base has other heads.
        """
        heads = self.heads.get(module.rpartition(".")[2])
        if heads is None:
            return rows
        parts = 3 if self.architecture.by_head else 2
        if rows.shape[0] % (parts * heads):
            raise MismatchError(
                f"{module} has {rows.shape[0]} rows, which are not {heads} heads of even size.",
                "Give the base model that the adapter was trained on.",
            )
        return (part_by_part if self.architecture.by_head else interleaved)(rows, heads)


def _count(config: Mapping[str, Any], key: str) -> int:
    value = next((config[name] for name in _ALSO.get(key, (key,)) if name in config), None)
    if type(value) is not int or value < 1:
        raise CheckpointError(
            f"The base's config.json has {key}={value!r}, which is not a count.",
            "Give a model folder that transformers wrote.",
        )
    return value


def interleaved(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Each head's first and second half, row by row in turn."""
    import torch

    order = torch.arange(rows.shape[0]).reshape(heads, 2, -1).transpose(1, 2).reshape(-1)
    return rows[order]


def part_by_part(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """q, k and v head by head, as all of q, then all of k, then all of v."""
    import torch

    order = torch.arange(rows.shape[0]).reshape(heads, 3, -1).transpose(0, 1).reshape(-1)
    return rows[order]
