"""Anatomies of small models, from shapes written by hand. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taia.anatomy import Anatomy, TensorInfo
from taia.selection import Alpha, Pieces, Selection

Shapes = dict[str, tuple[int, ...]]

LLAMA_CONFIG = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 4,
}
GPT2_CONFIG = {"model_type": "gpt2", "n_embd": 8, "n_head": 4, "n_layer": 2}
PHI3_CONFIG = {**LLAMA_CONFIG, "model_type": "phi3", "num_hidden_layers": 1}
GPT_OSS_CONFIG = {**LLAMA_CONFIG, "model_type": "gpt_oss", "num_hidden_layers": 1}
MOE_CONFIG = {**LLAMA_CONFIG, "model_type": "qwen3_moe", "num_hidden_layers": 2}


def made(shapes: Shapes, config: Mapping[str, Any] | None) -> Anatomy:
    return Anatomy.of_tensors([TensorInfo(n, s, "BF16") for n, s in shapes.items()], config)


def llama(layers: int = 4) -> Anatomy:
    """Four query heads of two rows each on two key heads, gate, up and down, an untied head."""
    shapes: Shapes = {"model.embed_tokens.weight": (16, 8)}
    for i in range(layers):
        layer = f"model.layers.{i}."
        shapes |= {
            layer + "self_attn.q_proj.weight": (8, 8),
            layer + "self_attn.k_proj.weight": (4, 8),
            layer + "self_attn.v_proj.weight": (4, 8),
            layer + "self_attn.o_proj.weight": (8, 8),
            layer + "mlp.gate_proj.weight": (12, 8),
            layer + "mlp.up_proj.weight": (12, 8),
            layer + "mlp.down_proj.weight": (8, 12),
            layer + "input_layernorm.weight": (8,),
            layer + "post_attention_layernorm.weight": (8,),
        }
    return made(
        {**shapes, "model.norm.weight": (8,), "lm_head.weight": (16, 8)},
        {**LLAMA_CONFIG, "num_hidden_layers": layers},
    )


def gpt2(config: Mapping[str, Any] | None = GPT2_CONFIG) -> Anatomy:
    """Conv1D: weights are ``[in, out]``, and q, k and v are one tensor."""
    shapes: Shapes = {"transformer.wte.weight": (16, 8), "transformer.wpe.weight": (4, 8)}
    for i in range(2):
        layer = f"transformer.h.{i}."
        shapes |= {
            layer + "ln_1.weight": (8,),
            layer + "ln_1.bias": (8,),
            layer + "attn.c_attn.weight": (8, 24),
            layer + "attn.c_attn.bias": (24,),
            layer + "attn.c_proj.weight": (8, 8),
            layer + "attn.c_proj.bias": (8,),
            layer + "ln_2.weight": (8,),
            layer + "ln_2.bias": (8,),
            layer + "mlp.c_fc.weight": (8, 32),
            layer + "mlp.c_fc.bias": (32,),
            layer + "mlp.c_proj.weight": (32, 8),
            layer + "mlp.c_proj.bias": (8,),
        }
    shapes |= {"transformer.ln_f.weight": (8,), "transformer.ln_f.bias": (8,)}
    return made(shapes, config)


def phi3() -> Anatomy:
    """q, k and v are one tensor, gate and up another."""
    return made(
        {
            "model.embed_tokens.weight": (16, 8),
            "model.layers.0.self_attn.qkv_proj.weight": (16, 8),
            "model.layers.0.self_attn.o_proj.weight": (8, 8),
            "model.layers.0.mlp.gate_up_proj.weight": (24, 8),
            "model.layers.0.mlp.down_proj.weight": (8, 12),
            "model.norm.weight": (8,),
        },
        PHI3_CONFIG,
    )


def moe() -> Anatomy:
    """A router, three fused experts, one shared, and norms of queries and keys."""
    shapes: Shapes = {"model.embed_tokens.weight": (16, 8)}
    for i in range(2):
        layer = f"model.layers.{i}."
        shapes |= {
            layer + "self_attn.q_proj.weight": (8, 8),
            layer + "self_attn.k_proj.weight": (4, 8),
            layer + "self_attn.v_proj.weight": (4, 8),
            layer + "self_attn.o_proj.weight": (8, 8),
            layer + "self_attn.q_norm.weight": (2,),
            layer + "self_attn.k_norm.weight": (2,),
            layer + "input_layernorm.weight": (8,),
            layer + "post_attention_layernorm.weight": (8,),
            layer + "mlp.gate.weight": (3, 8),
            layer + "mlp.experts.gate_up_proj": (3, 12, 8),
            layer + "mlp.experts.down_proj": (3, 8, 6),
            layer + "mlp.shared_expert.gate_proj.weight": (6, 8),
            layer + "mlp.shared_expert.up_proj.weight": (6, 8),
            layer + "mlp.shared_expert.down_proj.weight": (8, 6),
        }
    return made({**shapes, "model.norm.weight": (8,), "lm_head.weight": (16, 8)}, MOE_CONFIG)


def gpt_oss() -> Anatomy:
    """Experts transposed, gate and up row by row in turn."""
    return made(
        {
            "model.layers.0.self_attn.q_proj.weight": (8, 8),
            "model.layers.0.self_attn.k_proj.weight": (4, 8),
            "model.layers.0.self_attn.v_proj.weight": (4, 8),
            "model.layers.0.self_attn.o_proj.weight": (8, 8),
            "model.layers.0.mlp.router.weight": (2, 8),
            "model.layers.0.mlp.experts.gate_up_proj": (2, 8, 6),
            "model.layers.0.mlp.experts.gate_up_proj_bias": (2, 6),
            "model.layers.0.mlp.experts.down_proj": (2, 3, 8),
        },
        GPT_OSS_CONFIG,
    )


def alphas(selection: str, anatomy: Anatomy) -> dict[str, Alpha]:
    return Selection.parse(selection).alphas(anatomy)


def kept(selection: str, anatomy: Anatomy) -> dict[str, Alpha]:
    """What a selection keeps any of."""
    return {name: alpha for name, alpha in alphas(selection, anatomy).items() if alpha != 0.0}


def rows(alpha: Alpha, label_shape: tuple[int, ...], axis: int) -> list[float]:
    """α for every index along an axis."""
    if not isinstance(alpha, Pieces):
        return [alpha] * label_shape[axis]
    assert alpha.axis == axis
    return [value for start, stop, value in alpha.pieces for _ in range(start, stop)]
