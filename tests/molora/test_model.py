"""A whole model: injected, saved, loaded, switched and unloaded through PEFT."""

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn

import tiny_models
from taia.errors import AdapterError
from taia.molora import MoloraConfig, MoloraLinear
from tiny_molora import MEDCARE, molora

IDS = torch.arange(24).reshape(2, 12)


@torch.no_grad()
def logits(model, ids=IDS, **more):
    return model(input_ids=ids, **more).logits


def layers(model):
    return {n: m for n, m in model.get_base_model().named_modules() if isinstance(m, MoloraLinear)}


def test_the_feed_forward_block_gets_experts_and_attention_one_lora():
    model = molora(**MEDCARE)
    assert len(layers(model)) == 14
    for name, layer in layers(model).items():
        parts = {p.partition(".")[0] for p, _ in layer.named_parameters()} - {"base_layer"}
        lora = {"lora_A", "lora_B"}
        routed = {"lora_router", "lora_experts"}
        assert parts == (lora | routed if ".mlp." in name else lora)
    up = layers(model)["model.layers.0.mlp.up_proj"]
    assert up.lora_A["default"].weight.shape == (8, 32), "the shared expert has rank 2r"
    assert up.lora_experts["default"].B.shape == (8, 4, 48)
    assert model.peft_config["default"].expert_modules == {"gate_proj", "up_proj", "down_proj"}


def test_names_that_two_blocks_share_are_told_apart():
    base = tiny_models.model("gpt2", n_embd=32, n_layer=2, n_head=4, vocab_size=260)
    model = molora(base)
    routed = {n for n, m in layers(model).items() if "default" in m.lora_router}
    assert {n.partition(".h.")[2][2:] for n in routed} == {"mlp.c_fc", "mlp.c_proj"}
    again = molora(
        tiny_models.model("gpt2", n_embd=32, n_layer=2, n_head=4, vocab_size=260),
        expert_modules=model.peft_config["default"].expert_modules,
    )
    assert {n for n, m in layers(again).items() if "default" in m.lora_router} == routed


def test_only_the_adapter_trains():
    model = molora()
    trains = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trains == {n for n, p in model.named_parameters() if ".lora_" in n}
    assert any("lora_router" in n for n in trains)


def test_a_new_adapter_changes_nothing_yet():
    base = tiny_models.llama()
    wanted = logits(base)
    assert torch.equal(logits(get_peft_model(base, MoloraConfig(r=4, **MEDCARE))), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_and_loaded_it_is_the_same_bit_for_bit(tmp_path, dtype):
    model = molora(tiny_models.llama().to(dtype), **MEDCARE)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert sum("lora_router" in name for name in saved) == 6
    loaded = PeftModel.from_pretrained(tiny_models.llama().to(dtype), tmp_path).eval()
    assert torch.equal(logits(loaded), logits(model))
    state = dict(loaded.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(state[name], parameter), name
    assert not any(p.requires_grad for p in loaded.parameters())


def test_adapters_are_added_switched_disabled_deleted_and_unloaded():
    plain = logits(tiny_models.llama())
    model = molora(**MEDCARE)
    first = logits(model)
    other = {"r": 2, "num_experts": 3, "expert_modules": ["down_proj"], "init_lora_weights": False}
    model.add_adapter("other", MoloraConfig(task_type="CAUSAL_LM", **other))
    assert torch.equal(logits(model), first)
    model.set_adapter("other")
    second = logits(model)
    assert not torch.allclose(second, first)
    trains = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trains
    assert all(".other" in n for n in trains)
    with model.disable_adapter():
        assert torch.equal(logits(model), plain)
    assert torch.equal(logits(model), second)
    model.set_adapter("default")
    assert torch.equal(logits(model), first)
    model.delete_adapter("other")
    assert torch.equal(logits(model), first)
    assert not [n for n, _ in model.named_parameters() if ".other" in n]
    assert torch.equal(logits(model.unload()), plain)


def test_rows_of_one_batch_go_through_different_adapters():
    model = molora(**MEDCARE)
    model.add_adapter("other", MoloraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False))
    mixed = logits(model, IDS[[0, 0, 0]], adapter_names=["default", "__base__", "other"])
    alone = {"default": logits(model, IDS[:1])}
    with model.disable_adapter():
        alone["__base__"] = logits(model, IDS[:1])
    model.set_adapter("other")
    alone["other"] = logits(model, IDS[:1])
    for row, wanted in zip(mixed, alone.values(), strict=True):
        torch.testing.assert_close(row, wanted[0], rtol=1e-4, atol=1e-4)
    with pytest.raises(AdapterError, match="nobody"):
        logits(model, adapter_names=["nobody", "default"])


def test_padding_does_not_change_a_row():
    model = molora(**MEDCARE)
    alone = logits(model, IDS[:1, :7])
    padded = torch.cat([IDS[:1, :7], torch.full((1, 5), 257)], dim=1)
    mask = (torch.arange(12) < 7).long()[None]
    together = model(
        input_ids=torch.cat([padded, IDS[1:]]),
        attention_mask=torch.cat([mask, torch.ones_like(mask)]),
    ).logits
    torch.testing.assert_close(together[:1, :7], alone, rtol=1e-4, atol=1e-4)


def test_generating_with_a_cache_is_generating_without():
    model = molora(**MEDCARE)
    ask = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 257}
    cached, plain = (model.generate(input_ids=IDS[:1], use_cache=c, **ask) for c in (True, False))
    assert torch.equal(cached, plain)


@pytest.mark.parametrize("how", ["merge_adapter", "merge_and_unload"])
def test_merging_is_refused_before_anything_changes(how):
    model = molora()
    before = logits(model)
    with pytest.raises(AdapterError, match="depends on the token"):
        getattr(model, how)()
    assert torch.equal(logits(model), before)


def test_what_cannot_be_adapted_is_refused():
    with pytest.raises(AdapterError, match="embed_tokens is a Embedding"):
        molora(target_modules=["embed_tokens", "up_proj"])
    with pytest.raises(AdapterError, match="none of the adapted modules"):
        molora(target_modules=["q_proj"])


def loss_of(model, **more):
    return model.train()(input_ids=IDS, labels=IDS, **more).loss


def test_the_model_adds_the_load_balancing_loss_to_its_own():
    plain, weighted = molora(**MEDCARE), molora(**MEDCARE, router_aux_loss_coef=0.5)
    without = loss_of(plain)
    balance = plain.router_aux_loss()
    torch.testing.assert_close(loss_of(weighted), without + 0.5 * balance)
    with pytest.raises(AdapterError, match="no load-balancing loss"):
        weighted.router_aux_loss()


def has_no_balance(model):
    with pytest.raises(AdapterError, match="no load-balancing loss"):
        model.router_aux_loss()


def test_it_reaches_the_routers_and_nothing_is_kept_without_gradients():
    model = molora(**MEDCARE).train()
    model(input_ids=IDS)
    balance = model.router_aux_loss()
    balance.backward()
    routers = [p for n, p in model.named_parameters() if "lora_router" in n]
    assert all(p.grad.any() for p in routers)
    has_no_balance(model)
    with torch.no_grad():
        model(input_ids=IDS)
    has_no_balance(model)
    model.eval()(input_ids=IDS)
    has_no_balance(model)


def test_padding_does_not_count_towards_it():
    model = molora(**MEDCARE).train()
    model(input_ids=IDS[:, :8])
    wanted = model.router_aux_loss()
    mask = (torch.arange(12) < 8).long().expand(2, 12)
    model(input_ids=IDS, attention_mask=mask)
    torch.testing.assert_close(model.router_aux_loss(), wanted)


def test_activation_checkpointing_gives_the_same_gradients_and_keeps_no_graph():
    gradients = []
    for kind in (None, False):
        model = molora(**MEDCARE, router_aux_loss_coef=0.5)
        if kind is not None:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": kind})
        loss_of(model, use_cache=False).backward()
        has_no_balance(model)
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    for name, wanted in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], wanted)


def test_reentrant_checkpointing_cannot_give_it_and_says_so():
    model = molora(router_aux_loss_coef=0.5)
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    with pytest.raises(AdapterError, match="without gradients"):
        loss_of(model, use_cache=False)


def test_a_deep_copy_is_its_own():
    model = molora(router_aux_loss_coef=0.5)
    other = copy.deepcopy(model)
    loss_of(other).backward()
    assert all(p.grad is None for p in model.parameters())
    other.train()(input_ids=IDS)
    has_no_balance(model)
    other.router_aux_loss().backward()
    assert all(p.grad.any() for n, p in other.named_parameters() if "lora_router" in n)


def test_a_router_of_another_library_is_left_alone():
    """Anatomy tells the router of a mixture of experts from its experts."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(
                [
                    nn.ModuleDict(
                        {
                            "mlp": nn.ModuleDict(
                                {"gate": nn.Linear(6, 2), "up_proj": nn.Linear(6, 6)}
                            )
                        }
                    )
                ]
            )

        def forward(self, x):
            return self.layers[0]["mlp"]["up_proj"](x)

    model = get_peft_model(Block(), MoloraConfig(r=2))
    assert model.peft_config["default"].expert_modules == {"up_proj"}
