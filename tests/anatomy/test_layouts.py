"""Rows and heads, proved by what a real forward pass does with them, not by reading our own table.

A tiny random model of each fused kind runs twice: once as it is, once with the rows of one role (or
one head) changed. What reaches the output projection must change exactly where the layout says.
"""

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from taia.anatomy import Anatomy
from taia.anatomy.labels import Layout

pytestmark = pytest.mark.versions

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
SIZES |= {"max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LLAMA = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64, "n_positions": 64}
LATENT = {**LLAMA, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16}
LATENT |= {
    "head_dim": 4,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
    "n_routed_experts": 4,
}
LATENT |= {"first_k_dense_replace": 2, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2}

ATTENTION = {
    "llama": ("llama", LLAMA),
    "gpt2": ("gpt2", GPT),
    "gpt_neox": ("gpt_neox", {**SIZES, "intermediate_size": 48}),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64}),
    "falcon, new": ("falcon", {**SIZES, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon, multi-query": ("falcon", {**SIZES, "multi_query": True}),
    "falcon, multi-head": ("falcon", {**SIZES, "multi_query": False, "alibi": False}),
    "gpt_bigcode": ("gpt_bigcode", {**GPT, "multi_query": True}),
    "gpt_bigcode, multi-head": ("gpt_bigcode", {**GPT, "multi_query": False}),
    "codegen": ("codegen", {**GPT, "rotary_dim": 4}),
    "phi3": ("phi3", LLAMA),
    "mpt": ("mpt", {"d_model": 32, "n_layers": 2, "n_heads": 4, "vocab_size": 64}),
    "persimmon": ("persimmon", {**SIZES, "intermediate_size": 48, "qk_layernorm": False}),
    "deepseek_v3": ("deepseek_v3", LATENT),
}


def model_of(case):
    model_type, settings = case
    torch.manual_seed(0)
    config = CONFIG_MAPPING[model_type](**settings)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


def first_layer(model, component):
    return {
        name: label
        for name, label in Anatomy.of_model(model).items()
        if label.layer == 0 and label.component == component and label.layout
    }


def index(layout: Layout, keep) -> torch.Tensor:
    """Positions along the layout's axis of the segments that ``keep`` accepts."""
    runs = [torch.arange(s.start, s.stop) for s in layout.segments if keep(s)]
    return torch.cat(runs) if runs else torch.empty(0, dtype=torch.long)


def output_projection(model):
    names = [n for n, x in first_layer(model, "attention").items() if x.role == "o_proj"]
    name = next(n for n in names if n.endswith("weight"))
    return name, model.get_submodule(name.removesuffix(".weight"))


def reaching(model, module) -> torch.Tensor:
    """What enters a module, for a fixed prompt: [tokens, features]."""
    seen = []
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        model(torch.arange(3, 15)[None])
    hook.remove()
    return seen[0].reshape(-1, seen[0].shape[-1])


def scale(model, component, factor, keep):
    """Multiplies the rows of a role (or head) of the first layer, weights and biases alike."""
    state = model.state_dict()
    for name, label in first_layer(model, component).items():
        if label.role != "o_proj":
            rows = index(label.layout, keep)
            state[name].index_copy_(
                label.layout.axis,
                rows,
                state[name].index_select(label.layout.axis, rows) * factor,
            )


@pytest.mark.parametrize("case", ATTENTION)
def test_doubling_v_doubles_what_attention_gives(case):
    model = model_of(ATTENTION[case])
    _, out = output_projection(model)
    before = reaching(model, out)
    scale(model, "attention", 2.0, lambda s: s.role == "v_proj")
    torch.testing.assert_close(reaching(model, out), 2 * before)


@pytest.mark.parametrize("case", ATTENTION)
def test_doubling_q_and_halving_k_changes_nothing_but_doubling_q_does(case):
    model = model_of(ATTENTION[case])
    _, out = output_projection(model)
    before = reaching(model, out)
    scale(model, "attention", 2.0, lambda s: s.role == "q_proj")
    assert not torch.allclose(reaching(model, out), before, rtol=1e-4, atol=1e-6)
    if case != "deepseek_v3":  # its keys have a part that no row of kv_b gives
        scale(model, "attention", 0.5, lambda s: s.role == "k_proj")
        torch.testing.assert_close(reaching(model, out), before)


@pytest.mark.parametrize("case", ATTENTION)
@pytest.mark.parametrize("role", ["q_proj", "k_proj", "v_proj"])
def test_a_head_reaches_only_its_own_columns(case, role):
    model = model_of(ATTENTION[case])
    name, out = output_projection(model)
    columns = Anatomy.of_model(model)[name].layout
    before = reaching(model, out)
    # The second head: with grouped queries, the rows it shares with the first.
    scale(model, "attention", 1.5, lambda s: s.role == role and 1 in range(*s.heads))
    changed = (reaching(model, out) - before).abs().amax(0) > 1e-7

    rows = [x.layout for x in first_layer(model, "attention").values() if x.role != "o_proj"]
    owners = {
        head
        for layout in rows
        for s in layout.segments
        if s.role == role and 1 in range(*s.heads)
        for head in range(*s.heads)
    }
    assert 1 in owners
    expected = index(columns, lambda s: s.heads[0] in owners)
    assert set(changed.nonzero().flatten().tolist()) == set(expected.tolist())


FEED_FORWARD = {
    "phi3": ("phi3", LLAMA, "mlp.down_proj"),
    "glm": ("glm", {**LLAMA, "partial_rotary_factor": 0.5}, "mlp.down_proj"),
}


@pytest.mark.parametrize("case", FEED_FORWARD)
def test_doubling_up_doubles_what_the_feed_forward_gives_and_gate_does_not(case):
    model_type, settings, down = FEED_FORWARD[case]
    model = model_of((model_type, settings))
    out = model.get_submodule(f"model.layers.0.{down}")
    before = reaching(model, out)
    scale(model, "mlp", 2.0, lambda s: s.role == "up_proj")
    torch.testing.assert_close(reaching(model, out), 2 * before)
    scale(model, "mlp", 2.0, lambda s: s.role == "gate_proj")
    assert not torch.allclose(reaching(model, out), 4 * before, rtol=1e-3)


MIXTURE = {**LLAMA, "num_local_experts": 2, "num_experts": 2, "num_experts_per_tok": 2}
MIXTURE |= {
    "moe_intermediate_size": 48,
    "intermediate_size_mlp": 48,
    "interleave_moe_layer_step": 1,
}


def experts_of(model):
    name = next(name for name in first_layer(model, "experts") if "gate_up" in name)
    return model.get_submodule(name.rpartition(".")[0])


def leaving(model, module) -> torch.Tensor:
    """What leaves a module, for a fixed prompt."""
    seen = []
    hook = module.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    with torch.no_grad():
        model(torch.arange(3, 15)[None])
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("model_type", ["mixtral", "llama4_text", "qwen3_moe"])
def test_doubling_up_rows_doubles_what_fused_experts_give_and_gate_does_not(model_type):
    model = model_of((model_type, MIXTURE))
    module = experts_of(model)
    before = leaving(model, module)
    scale(model, "experts", 2.0, lambda s: s.role == "up_proj")
    torch.testing.assert_close(leaving(model, module), 2 * before)
    scale(model, "experts", 2.0, lambda s: s.role == "gate_proj")
    assert not torch.allclose(leaving(model, module), 4 * before, rtol=1e-3)


def test_gpt_oss_alternates_gate_and_up():
    model = model_of(("gpt_oss", {**MIXTURE, "layer_types": ["full_attention"] * 2}))
    module = experts_of(model)
    scale(model, "experts", 0.0, lambda s: s.role == "up_proj")
    layout = first_layer(model, "experts")["model.layers.0.mlp.experts.gate_up_proj_bias"].layout
    with torch.no_grad():  # its experts multiply by up + 1
        module.gate_up_proj_bias[:, index(layout, lambda s: s.role == "up_proj")] = -1.0
        module.down_proj_bias.zero_()
    assert torch.equal(leaving(model, module), torch.zeros_like(leaving(model, module)))


def test_shapes_that_disagree_with_the_config_are_left_whole():
    model = model_of(ATTENTION["llama"])
    anatomy = Anatomy.of_model(model)
    infos = [label.tensor for label in anatomy.values()]
    wrong = Anatomy.of_tensors(infos, model.config.to_dict() | {"num_attention_heads": 5})
    assert all(label.layout is None for label in wrong.values() if label.component == "attention")


def test_without_a_config_no_row_is_told_apart():
    infos = [label.tensor for label in Anatomy.of_model(model_of(ATTENTION["gpt2"])).values()]
    assert all(label.layout is None for label in Anatomy.of_tensors(infos).values())
