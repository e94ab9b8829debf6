"""Which parameters train, on models in memory."""

import json
from pathlib import Path

import pytest

import tiny_models
from taia.anatomy import Anatomy
from taia.checkpoint.locate import Located
from taia.errors import InputError, SelectionError
from taia.training import techniques
from taia.training.recipe import Recipe
from taia.training.techniques import make_ready
from taia.training.trainable import freeze_but, rates, targets

MIXTRAL = {
    "vocab_size": tiny_models.VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
}
GPT2 = {"vocab_size": tiny_models.VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4}


def trained(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_full_trains_exactly_what_is_selected():
    model = tiny_models.llama()
    count, total = freeze_but(model, "attention[1] + mlp_norm")
    assert trained(model) == {
        *(f"model.layers.1.self_attn.{p}_proj.weight" for p in "qkvo"),
        *(f"model.layers.{i}.post_attention_layernorm.weight" for i in (0, 1)),
    }
    assert count == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert total == sum(p.numel() for p in model.parameters())


def test_tied_tensors_train_together_or_not_at_all():
    model = tiny_models.llama(tie_word_embeddings=True)
    freeze_but(model, "all")
    assert "model.embed_tokens.weight" in trained(model)
    freeze_but(model, "attention")
    assert "model.embed_tokens.weight" not in trained(model)
    with pytest.raises(SelectionError, match="one tensor"):
        freeze_but(model, "all - head")


@pytest.mark.parametrize("selection", ["0.5*attention", "attention[:, 0]"])
def test_a_part_of_a_tensor_cannot_train(selection):
    with pytest.raises(SelectionError, match="whole or not at all"):
        freeze_but(tiny_models.llama(), selection)


def test_adapters_go_on_attention_and_the_feed_forward_block_never_on_the_head():
    found = targets(tiny_models.llama(), "all", {})
    assert len(found.modules) == 14
    assert not [name for name in found.modules if "head" in name or "embed" in name]
    assert {name.rpartition(".")[2] for name in found.experts} == {
        "gate_proj",
        "up_proj",
        "down_proj",
    }


def test_names_that_share_an_ending_are_told_apart():
    found = targets(tiny_models.model("gpt2", **GPT2), "attention", {})
    assert set(found.modules) == {
        f"transformer.h.{i}.attn.{name}" for i in (0, 1) for name in ("c_attn", "c_proj")
    }
    ready = make_ready(tiny_models.model("gpt2", **GPT2), Recipe(train="attention"))
    assert {name.split(".lora")[0] for name in trained(ready.model)} == {
        f"base_model.model.{name}" for name in found.modules
    }


def test_fused_experts_are_adapted_without_dropout_and_said_to_be_left_out_with():
    model = tiny_models.model("mixtral", **MIXTRAL)
    found = targets(model, "all", {})
    assert {name.rpartition(".")[2] for name in found.parameters} == {"gate_up_proj", "down_proj"}
    ready = make_ready(model, Recipe(lora_dropout=0.0))
    assert [name for name in trained(ready.model) if "experts" in name]
    assert ready.notes == ()
    other = make_ready(tiny_models.model("mixtral", **MIXTRAL), Recipe(lora_dropout=0.1))
    assert not [name for name in trained(other.model) if "experts" in name]
    assert "--lora-dropout 0" in other.notes[0]


def test_nothing_an_adapter_could_be_put_on_is_an_error():
    with pytest.raises(SelectionError, match="no linear layer"):
        targets(tiny_models.llama(), "norm + embedding", {})


@pytest.mark.parametrize("rslora", [False, True])
def test_other_ranks_count_as_much_as_the_recipes(rslora):
    recipe = Recipe(lora_r=8, lora_alpha=16, lora_ranks={"mlp": 2}, use_rslora=rslora)
    ready = make_ready(tiny_models.llama(), recipe)
    sizes, scales = {}, set()
    for name, module in ready.model.named_modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            sizes[name.rpartition(".")[2]] = module.lora_A["default"].weight.shape[0]
            scales.add(round(module.scaling["default"], 6))
    assert sizes == dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), 8) | dict.fromkeys(
        ("gate_proj", "up_proj", "down_proj"), 2
    )
    assert len(scales) == 1


def test_a_rank_for_some_layers_only_names_their_modules():
    ready = make_ready(tiny_models.llama(), Recipe(lora_r=8, lora_ranks={"mlp[1]": 2}))
    ranks = {
        name: module.lora_A["default"].weight.shape[0]
        for name, module in ready.model.named_modules()
        if hasattr(module, "lora_A") and "default" in module.lora_A and "mlp" in name
    }
    assert {rank for name, rank in ranks.items() if ".layers.0." in name} == {8}
    assert {rank for name, rank in ranks.items() if ".layers.1." in name} == {2}


@pytest.mark.parametrize("technique", ["lora", "full"])
def test_learning_rates_go_to_what_the_selection_means(technique):
    model = tiny_models.llama()
    anatomy = Anatomy.of_model(model)
    ready = make_ready(model, Recipe(technique=technique, lora_dropout=0.0))
    found = rates(ready.model, anatomy, {"attention": 1e-3, "attention[1]": 1e-4})
    names = {name for name in trained(ready.model) if "self_attn" in name}
    assert set(found) == names
    assert {rate for name, rate in found.items() if ".layers.0." in name} == {1e-3}
    assert {rate for name, rate in found.items() if ".layers.1." in name} == {1e-4}


def test_a_learning_rate_for_nothing_that_trains_is_refused():
    model = tiny_models.llama()
    anatomy = Anatomy.of_model(model)
    ready = make_ready(model, Recipe(train="attention"))
    with pytest.raises(InputError, match="mlp"):
        rates(ready.model, anatomy, {"mlp": 1e-3})


def test_qlora_without_bitsandbytes_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"taia\[qlora\]"):
        techniques.load(Recipe(technique="qlora"), Located("base", Path("base")))


@pytest.mark.parametrize("technique", ["lora", "molora"])
@pytest.mark.parametrize("revision", ["v1", "refs/pr/3", None])
def test_an_adapter_names_the_revision_of_the_base_it_was_trained_on(tmp_path, technique, revision):
    ready = make_ready(tiny_models.llama(), Recipe(technique=technique, lora_dropout=0.0), revision)
    ready.model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["revision"] == revision
