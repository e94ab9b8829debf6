"""Every answer equals what the model writes alone."""

import random
from contextlib import contextmanager

import pytest
import torch

import tiny_models
from taia.runtime.engine import Engine
from taia.runtime.generation import Generation

V = tiny_models.VOCABULARY
LLAMA = tiny_models.LLAMA

JOINED = {
    "llama": ("llama", LLAMA),
    "absolute positions": (
        "gpt2",
        {"vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
    "absolute positions from the mask": (
        "opt",
        {**LLAMA, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 64},
    ),
    "biases": ("qwen2", LLAMA),
    "sliding window": ("mistral", {**LLAMA, "sliding_window": 4}),
    "alternating windows, soft-capped logits": (
        "gemma2",
        {**LLAMA, "head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 5.0},
    ),
    "alibi from the mask": (
        "bloom",
        {"vocab_size": V, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    ),
    "relative alibi": ("mpt", {"vocab_size": V, "d_model": 32, "n_layers": 2, "n_heads": 4}),
    "latent attention": (
        "deepseek_v3",
        {
            **LLAMA,
            "num_key_value_heads": 4,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 8,
            "v_head_dim": 6,
            "first_k_dense_replace": 2,
        },
    ),
    "experts": ("mixtral", {**LLAMA, "num_local_experts": 4, "sliding_window": None}),
}
ALONE = {
    "hybrid": ("lfm2", {**LLAMA, "layer_types": ["conv", "full_attention"]}),
    "recurrent": ("mamba", {"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2}),
    "learned positions that padding moves": (
        "bart",
        {
            "vocab_size": V,
            "d_model": 32,
            "decoder_layers": 2,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 48,
            "max_position_embeddings": 64,
            "is_decoder": True,
            "is_encoder_decoder": False,
            "forced_eos_token_id": None,
        },
    ),
}


class Plain:
    """A model in one mode."""

    def __init__(self, model):
        self.model = model
        self.modes = {"base": "none"}
        self.can_mix = False

    @contextmanager
    def mode(self, mode):
        yield


def requests(count=9, mode="base", seed=3):
    rng = random.Random(seed)
    return [
        Generation(
            mode, tuple(rng.randrange(256) for _ in range(rng.randint(1, 12))), rng.randint(1, 12)
        )
        for _ in range(count)
    ]


def alone(model, request):
    out = model.generate(
        torch.tensor([request.prompt]),
        max_new_tokens=request.max_new_tokens,
        do_sample=False,
        eos_token_id=None,
        attention_mask=torch.ones(1, len(request.prompt), dtype=torch.long),
    )
    return out[0, len(request.prompt) :].tolist()


@pytest.mark.parametrize("name", [*JOINED, *ALONE])
def test_as_alone(name):
    kind, config = {**JOINED, **ALONE}[name]
    model = tiny_models.model(kind, **config)
    engine = Engine(Plain(model), tiny_models.tokenizer(), max_rows=4)
    asked = requests()
    got = [[t.id for t in a.tokens] for a in engine.generate(asked)]
    want = [alone(model, r) for r in asked]
    print(engine._joins)
    assert engine._joins == (name in JOINED)
    assert got == want
