"""Merging an adapter into its base; the merged weights' agreement with PEFT is in three ways."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from taia.checkpoint.compose import compose
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.sources import Sources
from taia.errors import AdapterError, MismatchError
from tiny_adapters import load_adapted, load_base, logits, quiet, save_pair


def merge(pair, selection, output, **options):
    return compose(*pair, output, selection, merge=True, **options)


def raw(folder: Path) -> dict[str, bytes]:
    """Every tensor's bytes, by taia's own reading of the headers."""
    found = {}
    for name, entry in Checkpoint.open(folder).tensors.items():
        with entry.file.open("rb") as stream:
            stream.seek(entry.start)
            found[name] = stream.read(entry.nbytes)
    return found


@pytest.mark.versions
def test_what_has_no_update_is_the_bases_bytes(pairs, tmp_path):
    pair = pairs("llama")
    merge(pair, "taia", tmp_path / "out")
    base, out = raw(pair[0]), raw(tmp_path / "out")
    assert out.keys() == base.keys()
    changed = {name for name in base if base[name] != out[name]}
    leaves = ("q_proj", "k_proj", "v_proj", "o_proj")
    assert changed == {f"model.layers.{i}.self_attn.{x}.weight" for i in range(3) for x in leaves}


def test_nothing_kept_is_the_base_itself(pairs, tmp_path):
    pair = pairs("llama")
    done = merge(pair, "base", tmp_path / "out")
    file = "model.safetensors"
    assert (tmp_path / "out" / file).read_bytes() == (pair[0] / file).read_bytes()
    assert any("base model" in note for note in done.notes)


@pytest.mark.versions
def test_fractions_lie_on_the_line_between(pairs, tmp_path):
    pair = pairs("gpt2")
    for name, selection in (("whole", "all"), ("part", "0.25*attention + 0.5*mlp")):
        merge(pair, selection, tmp_path / name)
    base, whole, part = (
        load_base(folder).state_dict()
        for folder in (pair[0], tmp_path / "whole", tmp_path / "part")
    )
    for name, tensor in part.items():
        factor = 0.25 if ".attn." in name else 0.5
        wanted = base[name] + factor * (whole[name] - base[name])
        torch.testing.assert_close(tensor, wanted, rtol=1e-5, atol=1e-6)


def test_a_fraction_of_dora_blends_the_merged_weights(pairs, tmp_path):
    pair = pairs("llama", use_dora=True)
    merge(pair, "0.5*attention", tmp_path / "out")
    with quiet():
        tuned = load_adapted(*pair).merge_and_unload().state_dict()
    base, got = load_base(pair[0]).state_dict(), load_base(tmp_path / "out").state_dict()
    for name, tensor in got.items():
        factor = 0.5 if "self_attn" in name else 0.0
        wanted = base[name] + factor * (tuned[name] - base[name])
        torch.testing.assert_close(tensor, wanted, rtol=1e-5, atol=1e-6)


def test_bfloat16_is_rounded_once(tmp_path):
    """Closer to the exact sum than PEFT's, which rounds the update before it adds it."""
    pair = save_pair(tmp_path, "llama", torch.bfloat16)
    merge(pair, "all", tmp_path / "out")
    weights = load_file(pair[1] / "adapter_model.safetensors")
    base, got = load_base(pair[0]).state_dict(), load_base(tmp_path / "out").state_dict()
    path = "model.layers.1.mlp.up_proj"
    a = weights[f"base_model.model.{path}.lora_A.weight"].double()
    b = weights[f"base_model.model.{path}.lora_B.weight"].double()
    exact = base[f"{path}.weight"].double() + 2.0 * b @ a
    result = got[f"{path}.weight"]
    assert result.dtype == torch.bfloat16
    assert (result == exact.bfloat16()).float().mean() > 0.999
    assert Checkpoint.open(tmp_path / "out").tensors[f"{path}.weight"].dtype == "BF16"


def test_shards_and_index_are_the_bases(tmp_path):
    base, adapter = save_pair(tmp_path, "tied-llama", target_modules=["q_proj", "lm_head"])
    model = load_base(base)
    shutil.rmtree(base)
    model.save_pretrained(base, max_shard_size="40KB")
    shards = sorted(file.name for file in base.glob("*.safetensors"))
    assert len(shards) > 2
    merge((base, adapter), "attention", tmp_path / "plain")
    assert sorted(file.name for file in (tmp_path / "plain").glob("*.safetensors")) == shards
    index = "model.safetensors.index.json"
    assert json.loads((tmp_path / "plain" / index).read_text()) == json.loads(
        (base / index).read_text()
    )
    merge((base, adapter), "all", tmp_path / "untied")  # a new tensor in the last shard
    index = json.loads((tmp_path / "untied" / index).read_text())
    assert index["weight_map"]["lm_head.weight"] == shards[-1]
    got = logits(load_base(tmp_path / "untied"))
    assert (got - logits(load_adapted(base, adapter))).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        ("tied-llama", {"target_modules": ["q_proj", "embed_tokens"]}),
        ("tied-llama", {"target_modules": ["q_proj", "lm_head"]}),
        ("tied-llama", {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
        ("tied-llama", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
        ("tied-llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
        ("gpt2", {"target_modules": ["c_attn", "wte"]}),
        ("gpt2", {"target_modules": ["c_attn", "lm_head"]}),
    ],
    ids=str,
)
def test_one_side_of_a_tie_is_untied(tmp_path, name, lora):
    """PEFT adapts the two as two modules, so that one tensor could not hold both."""
    pair = save_pair(tmp_path, name, **lora)
    done = merge(pair, "all", tmp_path / "out")
    assert any("tie_word_embeddings is false" in note for note in done.notes)
    merged = load_base(tmp_path / "out")
    assert merged.config.tie_word_embeddings is False
    assert (logits(merged) - logits(load_adapted(*pair))).abs().max() < 1e-5


def test_tied_tokens_stay_tied(tmp_path):
    pair = save_pair(tmp_path, "tied-llama", trainable_token_indices=[1, 5, 7])
    merge(pair, "all", tmp_path / "out")
    assert raw(tmp_path / "out").keys() == raw(pair[0]).keys()
    merged = load_base(tmp_path / "out")
    assert merged.config.tie_word_embeddings is True
    assert (logits(merged) - logits(load_adapted(*pair))).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        ("llama", {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
        ("llama", {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True}),
        ("llama", {"modules_to_save": ["lm_head", "embed_tokens", "norm"]}),
        ("llama", {"trainable_token_indices": {"embed_tokens": [1, 2], "lm_head": [3]}}),
        ("gpt2", {"bias": "all"}),
        ("gpt2", {"bias": "lora_only"}),
    ],
    ids=str,
)
def test_whatever_an_adapter_changes_is_merged(tmp_path, name, lora):
    pair = save_pair(tmp_path, name, **lora)
    merge(pair, "all", tmp_path / "out")
    tuned, base = logits(load_adapted(*pair)), logits(load_base(pair[0]))
    assert (logits(load_base(tmp_path / "out")) - tuned).abs().max() < 1e-5
    assert (base - tuned).abs().max() > 1e-2


@pytest.mark.versions
def test_experts_kept_one_by_one_get_their_slices(pairs, tmp_path):
    """The base's file has 4 experts × 3 matrices where the adapter's model has 2 stacks."""
    pair = pairs("qwen3-moe")
    names = [name for name in raw(pair[0]) if ".experts." in name]
    assert len(names) == 3 * 4 * 3
    assert all(name.endswith("_proj.weight") for name in names)
    merge(pair, "taif", tmp_path / "out")
    base, out = raw(pair[0]), raw(tmp_path / "out")
    assert {name for name in base if base[name] != out[name]} == set(names)


@pytest.mark.parametrize("experts", [4, 12])
def test_a_stack_is_read_once_for_all_of_its_experts(tmp_path, monkeypatch, experts):
    """By each of two writers: what is read does not grow with the square of the experts."""
    rank, shape = 2, (8, 16)
    stem = "model.layers.0.mlp.experts"
    sides = {"gate": shape, "up": shape, "down": shape[::-1]}
    tensors = {
        f"{stem}.{expert}.{side}_proj.weight": torch.randn(size)
        for expert in range(experts)
        for side, size in sides.items()
    }
    stacks = {"gate_up_proj": (16, 16), "down_proj": (16, 8)}
    factors = {}
    for wraps, (outputs, inputs) in zip((".base_layer", ""), stacks.values(), strict=True):
        at = f"base_model.model.{stem}{wraps}"
        factors[f"{at}.lora_A.weight"] = torch.randn(rank * experts, inputs)
        factors[f"{at}.lora_B.weight"] = torch.randn(outputs, rank * experts)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": []}
    config["target_parameters"] = [f"{stem}.{name}" for name in stacks]
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder, files in (
        (base, {"model.safetensors": tensors, "config.json": {"model_type": "qwen3_moe"}}),
        (adapter, {"adapter_model.safetensors": factors, "adapter_config.json": config}),
    ):
        folder.mkdir()
        for name, value in files.items():
            if name.endswith("json"):
                (folder / name).write_text(json.dumps(value))
            else:
                save_file(value, folder / name, {"format": "pt"})
    read = []
    read_into = Sources.read_into

    def counted(self, run, offset, view):
        if run.file.parent == adapter:
            read.append(len(view))
        read_into(self, run, offset, view)

    monkeypatch.setattr(Sources, "read_into", counted)
    merge((base, adapter), "tuned", tmp_path / "out")
    size = sum(tensor.nbytes for tensor in factors.values())
    assert size <= sum(read) <= 3 * size  # and once for the record of the inputs
    monkeypatch.undo()
    out = load_file(tmp_path / "out" / "model.safetensors")
    for (outputs, inputs), names, wraps in zip(
        stacks.values(), (("gate", "up"), ("down",)), (".base_layer", ""), strict=True
    ):
        at = f"base_model.model.{stem}{wraps}"
        a = factors[f"{at}.lora_A.weight"].reshape(experts, rank, inputs)
        b = factors[f"{at}.lora_B.weight"].reshape(outputs, rank, experts)
        for expert in range(experts):
            parts = [f"{stem}.{expert}.{name}_proj.weight" for name in names]
            wanted = torch.cat([tensors[x] for x in parts]) + b[:, :, expert] @ a[expert]
            torch.testing.assert_close(torch.cat([out[x] for x in parts]), wanted)


def test_only_what_may_be_lost_is_waited_for(pairs, tmp_path, monkeypatch):
    pair, synced = pairs("llama"), []
    monkeypatch.setattr(os, "fsync", synced.append)
    merge(pair, "taia", tmp_path / "out")
    assert not synced  # it can be made again
    merge(pair, "taia", tmp_path / "out", overwrite=True)
    assert synced
    synced.clear()
    compose(*pair, tmp_path / "adapter", "taia")
    assert synced


def test_the_folder_is_a_model(pairs, tmp_path):
    base, given = pairs("llama")
    adapter = tmp_path / "adapter"
    shutil.copytree(given, adapter)
    (adapter / "tokenizer.json").write_text('{"of": "adapter"}')
    merge((base, adapter), "taia", tmp_path / "out")
    out = tmp_path / "out"
    assert json.loads((out / "config.json").read_text()) == json.loads(
        (base / "config.json").read_text()
    )
    assert (out / "tokenizer.json").read_text() == '{"of": "adapter"}'
    record = json.loads((out / "taia_config.json").read_text())
    assert record["kind"] == "checkpoint"
    assert record["settings"]["merge"] is True
    assert not (out / "adapter_config.json").exists()


def test_dry_run_says_the_same_and_writes_nothing(pairs, tmp_path):
    pair = pairs("llama")
    dry = merge(pair, "taia", None, dry_run=True)
    assert list(tmp_path.iterdir()) == []
    wet = merge(pair, "taia", tmp_path / "out")
    assert (dry.rows, dry.alphas, dry.notes) == (wet.rows, wet.alphas, wet.notes)
    assert wet.total.tuned.tensors == 12
    assert wet.total.total.bytes == sum(map(len, raw(tmp_path / "out").values()))


def test_progress_ends_at_the_whole(pairs, tmp_path):
    seen = []
    merge(pairs("llama"), "taia", tmp_path / "out", progress=lambda *now: seen.append(now))
    files = (tmp_path / "out").glob("*.safetensors")
    assert seen[-1][0] == seen[-1][1] == sum(file.stat().st_size for file in files)


# --- what cannot be -----------------------------------------------------------------------------


def test_merging_needs_a_base(pairs, tmp_path):
    with pytest.raises(AdapterError, match="needs the base"):
        merge((None, pairs("llama")[1]), "taia", tmp_path / "out")


def edited(pairs, tmp_path, part, **values):
    """A copy of a pair with other values in one of the two configs."""
    copies = []
    for folder in pairs("llama"):
        shutil.copytree(folder, tmp_path / folder.name)
        copies.append(tmp_path / folder.name)
    file = copies[0] / "config.json" if part == "base" else copies[1] / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    return tuple(copies)


def test_a_quantised_base_is_refused_and_the_adapter_offered(pairs, tmp_path):
    pair = edited(pairs, tmp_path, "base", quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(AdapterError, match="quantised") as caught:
        merge(pair, "taia", tmp_path / "out")
    assert "without --merge" in caught.value.mend
    compose(*pair, tmp_path / "out", "taia")


def test_an_activated_lora_is_refused(pairs, tmp_path):
    pair = edited(pairs, tmp_path, "adapter", alora_invocation_tokens=[1, 2])
    with pytest.raises(AdapterError, match="activated LoRA"):
        merge(pair, "taia", tmp_path / "out")


def test_integer_weights_are_refused(pairs, tmp_path):
    base, adapter = edited(pairs, tmp_path, "base")
    weights = load_file(base / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    weights[name] = weights[name].to(torch.int8)
    save_file(weights, base / "model.safetensors")
    with pytest.raises(AdapterError, match="I8"):
        merge((base, adapter), "taia", tmp_path / "out")


def test_a_module_that_the_base_lacks_is_named(pairs, tmp_path):
    base, adapter = edited(pairs, tmp_path, "base")
    weights = load_file(base / "model.safetensors")
    name = "model.layers.1.self_attn.q_proj.weight"
    del weights[name]
    save_file(weights, base / "model.safetensors")
    with pytest.raises(MismatchError, match=name):
        merge((base, adapter), "taia", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tied_as_one_is_refused(tmp_path):
    lora = {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True}
    pair = save_pair(tmp_path, "tied-llama", **lora)
    with pytest.raises(AdapterError, match="ensure_weight_tying"):
        merge(pair, "all", tmp_path / "out")
    merge(pair, "attention", tmp_path / "out")


def test_tokens_beside_an_adapted_tied_head_are_refused(tmp_path):
    lora = {"target_modules": ["q_proj", "lm_head"], "trainable_token_indices": [1, 5]}
    pair = save_pair(tmp_path, "tied-llama", **lora)
    with pytest.raises(AdapterError, match="not settled"):
        merge(pair, "all", tmp_path / "out")
    merge(pair, "all - head", tmp_path / "tokens")
    merge(pair, "all - embedding", tmp_path / "head")
