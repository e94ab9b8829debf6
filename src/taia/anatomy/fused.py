"""Which projections are several in one tensor, in what order, and which way round. Data only.

The orders, for a weight whose rows (or, transposed, columns) are the outputs:

===========  =====================================================================
whole        all of q, then all of k, then all of v
head         q, k, v of the first head, then of the second, …
group        for each key head: its query heads, its k, its v
blocks       the rows in four equal blocks, each with its part of q, then v, then k
halves       the first half, then the second
alternate    even rows and odd rows
===========  =====================================================================

A model type that is not named here falls under ``"*"``, where there is one; elsewhere its fused
rows are left whole rather than guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Projection of attention → model type → order of its rows.
FUSED_ATTENTION: Final[Mapping[str, Mapping[str, str]]] = {
    "query_key_value": {
        "bloom": "head",
        "falcon": "falcon",
        "fuyu": "head",
        "gpt_neox": "head",
        "gpt_neox_japanese": "head",
        "persimmon": "head",
    },
    "qkv_proj": {"codegen": "blocks", "phi3": "whole", "phi4_multimodal": "whole"},
    "c_attn": {
        "gpt2": "whole",
        "gpt-sw3": "whole",
        "gpt_bigcode": "bigcode",
        "openai-gpt": "whole",
    },
    "Wqkv": {"dbrx": "whole", "mpt": "whole"},
}

#: Projection of a feed-forward block → model type → order of its gate and up rows.
FUSED_FEED_FORWARD: Final[Mapping[str, Mapping[str, str]]] = {
    "gate_up_proj": {"*": "halves", "gpt_oss": "alternate"},
    "gate_up_proj_bias": {"*": "halves", "gpt_oss": "alternate"},
    "input_linear": {"*": "halves"},
    "Wi": {"modernbert-decoder": "halves"},
}

#: Projection that is a latent of q, k or v → the config keys whose sum is one head's rows, by role.
LATENT: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "q_b_proj": {"q_proj": ("qk_nope_head_dim", "qk_rope_head_dim")},
    "kv_b_proj": {"k_proj": ("qk_nope_head_dim",), "v_proj": ("v_head_dim",)},
}

#: Projection of fused experts ``[experts, rows, columns]`` → each expert's projections whose rows
#: it stacks, in this order.
FUSED_EXPERTS: Final[Mapping[str, tuple[str, ...]]] = {
    "gate_up_proj": ("gate_proj", "up_proj"),
    "down_proj": ("down_proj",),
}

#: The two tensors of fused experts, the one that goes in and the one that comes out, by the names
#: of transformers 5, of GraniteMoE's older files and of experts without a gate.
EXPERT_PAIRS: Final = (
    ("gate_up_proj", "down_proj"),
    ("input_linear", "output_linear"),
    ("up_proj", "down_proj"),
)

#: Parameters of one experts' module in the order in which transformers registers them, which is
#: the order in which PEFT wraps them: the first lies innermost.
REGISTERED: Final = (
    *("gate_proj", "up_proj", "gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"),
    *("w1", "v1", "w2"),
)

#: Model types whose linears keep their weight as ``[in, out]`` (transformers' ``Conv1D``). Only
#: for what has no shapes, or square ones: else these tell.
CONV1D: Final = frozenset({"decision_transformer", "gpt2", "gpt-sw3", "imagegpt", "openai-gpt"})

#: Model types whose fused experts say of themselves that they are ``[experts, in, out]`` (their
#: ``is_transposed``), which PEFT goes by.
INPUTS_FIRST_EXPERTS: Final = frozenset({"aria", "aria_text", "gpt_oss", "openai_privacy_filter"})

#: Model types whose fused experts are ``[experts, in, out]`` instead of ``[experts, out, in]``,
#: whether they say so or not.
TRANSPOSED_EXPERTS: Final = INPUTS_FIRST_EXPERTS | {"llama4", "llama4_text"}

#: Model types whose query projection holds, head by head, the query and then its output gate.
GATED_QUERY: Final = frozenset(
    {"qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"}
)
