"""A model as a GGUF file in float32, without a tokenizer: a base for adapters in llama.cpp.

Written after the format's description and llama.cpp's list of keys, on its own: it shares nothing
with taia's export but the gguf library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np


def save(model: Any, file: Path, *, half: bool = False) -> Path:
    """Writes a live transformers model.

    Args:
        model: A Llama, Qwen2, Qwen3, Phi3, Granite or Gemma.
        file: Where.
        half: Matrices in float16.
    """
    config = model.config
    kind = config.model_type
    arch = "llama" if kind == "mistral" else kind
    writer = gguf.GGUFWriter(file, arch)
    heads = config.num_attention_heads
    kv_heads = config.num_key_value_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    if kind == "granite":
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    if kind == "phi3":
        writer.add_rope_scaling_orig_ctx_len(config.max_position_embeddings)
        writer.add_sliding_window(0)
    pairs = kind in ("llama", "mistral", "granite")
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.float().numpy()
        if pairs and ("q_proj" in name or "k_proj" in name):
            values = neighbours(values, heads if "q_proj" in name else kv_heads)
        if kind == "gemma" and "norm" in name:
            values = values + 1
        if half and values.ndim == 2:
            values = values.astype(np.float16)
        writer.add_tensor(_name(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def neighbours(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows j and j + d/2 of each head become rows 2j and 2j + 1, written as loops."""
    out = np.empty_like(values)
    size = values.shape[0] // heads
    for head in range(heads):
        for j in range(size // 2):
            out[head * size + 2 * j] = values[head * size + j]
            out[head * size + 2 * j + 1] = values[head * size + size // 2 + j]
    return out


_PLAIN = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _name(name: str) -> str:
    module, _, leaf = name.rpartition(".")
    if module in _PLAIN:
        return f"{_PLAIN[module]}.{leaf}"
    _, _, layer, inner = module.split(".", 3)
    return f"blk.{layer}.{_PLAIN[inner]}.{leaf}"
