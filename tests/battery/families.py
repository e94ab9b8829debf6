"""Families of models, as data: what a tiny one is made of, and which modules are what.

Nothing here comes from taia: what is attention and what is feed-forward is written out per family,
so that the battery does not ask taia what taia should do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TOKENS = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
# One layer, but where layers are of several kinds.
_WIDE = {**_TOKENS, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
_DENSE = {**_WIDE, "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64}
_MOE = {**_DENSE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}

_QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")
_GATED = ("gate_proj", "up_proj", "down_proj")
_EXPERTS = ("experts.gate_up_proj", "experts.down_proj")


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        model_type: What ``config.json`` calls it.
        config: Sizes of a tiny one.
        attention: Endings of the paths of the linear modules of attention.
        feed_forward: Likewise of the feed-forward block.
        parameters: Its stacked experts, by the endings of the parameters' names.
        in_feed_forward: Matches the path of a live module in a feed-forward block.
        embedding: The token embedding's last name.
        sees: Whether it is a vision-language model, of which the text tower alone is adapted.
    """

    model_type: str
    config: Mapping[str, Any]
    attention: tuple[str, ...] = _QKVO
    feed_forward: tuple[str, ...] = _GATED
    parameters: tuple[str, ...] = ()
    in_feed_forward: str = r"\.mlp\."
    embedding: str = "embed_tokens"
    sees: bool = False

    def target(self, *endings: str) -> str | list[str]:
        """What ``target_modules`` calls modules by the endings of their paths."""
        if not self.sees:
            return list(endings)
        return rf"(.*\.(language_model|text_model)\..*)?\b({'|'.join(endings)})"

    def feeds_forward(self, path: str) -> bool:
        """Whether a module, or a module's parameter, lies in a feed-forward block."""
        return re.search(self.in_feed_forward, f".{path}.") is not None


_FC = ("fc1", "fc2")
_EIGHT = {"head_dim": 8}
_TEXT_MLP = r"\.(language_model|text_model)\..*\.mlp\."
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}

FAMILIES: Mapping[str, Family] = {
    "llama": Family("llama", {**_DENSE, "tie_word_embeddings": False}),
    "llama, tied": Family("llama", {**_DENSE, "tie_word_embeddings": True}),
    "mistral": Family("mistral", {**_DENSE, **_EIGHT, "sliding_window": None}),
    "qwen2": Family("qwen2", _DENSE),
    "qwen3": Family("qwen3", {**_DENSE, **_EIGHT, "tie_word_embeddings": True}),
    "gemma3_text": Family("gemma3_text", {**_DENSE, **_EIGHT, "query_pre_attn_scalar": 8}),
    "phi": Family("phi", _DENSE, ("q_proj", "k_proj", "v_proj", "self_attn.dense"), _FC),
    "phi3": Family("phi3", _DENSE, ("qkv_proj", "o_proj"), ("gate_up_proj", "down_proj")),
    "gpt2": Family(
        "gpt2",
        {**_TOKENS, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 32},
        ("attn.c_attn", "attn.c_proj"),
        ("mlp.c_fc", "mlp.c_proj"),
        embedding="wte",
    ),
    "gpt_neox": Family(
        "gpt_neox",
        _DENSE,
        ("query_key_value", "attention.dense"),
        ("dense_h_to_4h", "dense_4h_to_h"),
        embedding="embed_in",
    ),
    "opt": Family(
        "opt",
        {**_WIDE, "ffn_dim": 48, "max_position_embeddings": 64, "word_embed_proj_dim": 32},
        ("q_proj", "k_proj", "v_proj", "out_proj"),
        _FC,
        in_feed_forward=r"\.fc[12]\.",
    ),
    "bloom": Family(
        "bloom",
        {**_TOKENS, "hidden_size": 32, "n_layer": 1, "n_head": 4},
        ("query_key_value", "self_attention.dense"),
        ("dense_h_to_4h", "dense_4h_to_h"),
        embedding="word_embeddings",
    ),
    "falcon": Family(
        "falcon",
        {**_WIDE, "multi_query": True, "parallel_attn": True, "bias": False, "alibi": False},
        ("query_key_value", "self_attention.dense"),
        ("dense_h_to_4h", "dense_4h_to_h"),
        embedding="word_embeddings",
    ),
    "mpt": Family(
        "mpt",
        {**_TOKENS, "d_model": 32, "n_heads": 4, "n_layers": 1, "max_seq_len": 64}
        | {"expansion_ratio": 2},
        ("Wqkv", "out_proj"),
        ("up_proj", "down_proj"),
        in_feed_forward=r"\.ffn\.",
        embedding="wte",
    ),
    "olmo2": Family("olmo2", _DENSE),
    "starcoder2": Family(
        "starcoder2", {**_DENSE, "use_bias": True}, feed_forward=("c_fc", "c_proj")
    ),
    "mixtral": Family(
        "mixtral",
        {**_DENSE, "num_local_experts": 4, "num_experts_per_tok": 2},
        feed_forward=(),
        parameters=_EXPERTS,
    ),
    "qwen2_moe": Family(
        "qwen2_moe",
        {**_MOE, "shared_expert_intermediate_size": 24},
        feed_forward=tuple(f"shared_expert.{name}" for name in _GATED),
        parameters=_EXPERTS,
    ),
    "qwen3_moe": Family("qwen3_moe", {**_MOE, **_EIGHT}, feed_forward=(), parameters=_EXPERTS),
    "deepseek_v3": Family(
        "deepseek_v3",
        {
            **_DENSE,
            "num_hidden_layers": 2,
            "num_key_value_heads": 4,
            "moe_intermediate_size": 24,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 4,
            "v_head_dim": 8,
        },
        ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"),
        parameters=_EXPERTS,
    ),
    "qwen3_next": Family(
        "qwen3_next",
        {
            **_MOE,
            **_EIGHT,
            "num_hidden_layers": 2,
            "layer_types": ["linear_attention", "full_attention"],
            "shared_expert_intermediate_size": 24,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
        (*_QKVO, "in_proj_qkvz", "in_proj_ba", "out_proj"),
        tuple(f"shared_expert.{name}" for name in _GATED),
        _EXPERTS,
    ),
    "jamba": Family(
        "jamba",
        {
            **_DENSE,
            "num_hidden_layers": 2,
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "mamba_d_state": 4,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
        (*_QKVO, "in_proj", "x_proj"),
        in_feed_forward=r"\.feed_forward\.",
    ),
    "qwen2_5_vl": Family(
        "qwen2_5_vl",
        {
            "text_config": {
                **_DENSE,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10_000.0,
                    "mrope_section": [2, 1, 1],
                },
            },
            "vision_config": {
                "depth": 1,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_heads": 2,
                "out_hidden_size": 32,
                "patch_size": 8,
            },
        },
        in_feed_forward=_TEXT_MLP,
        sees=True,
    ),
    "llava": Family(
        "llava",
        {
            "text_config": {**_DENSE, "model_type": "llama"},
            "vision_config": {**_VISION, "model_type": "clip_vision_model"},
            "image_token_index": 63,
        },
        in_feed_forward=_TEXT_MLP,
        sees=True,
    ),
    "gemma3": Family(
        "gemma3",
        {
            "text_config": {**_DENSE, **_EIGHT, "query_pre_attn_scalar": 8},
            "vision_config": {**_VISION, "model_type": "siglip_vision_model"},
            "mm_tokens_per_image": 4,
            "image_token_index": 63,
            "boi_token_index": 61,
            "eoi_token_index": 62,
        },
        in_feed_forward=_TEXT_MLP,
        sees=True,
    ),
    "idefics3": Family(
        "idefics3",
        {
            "text_config": {**_DENSE, "model_type": "llama"},
            "vision_config": _VISION,
            "image_token_id": 63,
            "scale_factor": 1,
        },
        in_feed_forward=_TEXT_MLP,
        sees=True,
    ),
}
