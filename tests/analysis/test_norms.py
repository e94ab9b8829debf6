"""Where an update lives, against models that PEFT merged and numbers worked out by hand."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_models
from taia.analysis.norms import Norm, Norms, read_norms, update_norms, write_norms
from taia.anatomy import Anatomy
from taia.errors import AdapterError, CheckpointError, DataError, MismatchError
from tiny_adapters import load_adapted, load_base, quiet, save_pair
from tiny_files import llama, llama_config, write
from tiny_molora import molora


def by_hand(base: torch.nn.Module, tuned: torch.nn.Module) -> dict[tuple, tuple[float, float]]:
    """(layer, component, projection) → ‖ΔW‖ and ‖W‖, of two live models."""
    squares: dict[tuple, list[float]] = defaultdict(lambda: [0.0, 0.0])
    labels, after = Anatomy.of_model(base), tuned.state_dict()
    tied = {
        name
        for name in getattr(base, "_tied_weights_keys", None) or ()
        if base.config.tie_word_embeddings
    }
    for name, before in base.state_dict().items():
        if name in tied:
            continue
        label = labels[name]
        place = squares[label.layer, label.component, label.projection]
        place[0] += float(((after[name].double() - before.double()) ** 2).sum())
        place[1] += float((before.double() ** 2).sum())
    return {place: (math.sqrt(a), math.sqrt(b)) for place, (a, b) in squares.items()}


def told(norms: Norms) -> dict[tuple, tuple[float, float]]:
    return {(r.layer, r.component, r.projection): (r.update, r.weight) for r in norms.rows}


def same(found: dict, wanted: dict) -> bool:
    flat = {(*place, n): size for place, sizes in wanted.items() for n, size in enumerate(sizes)}
    return {
        (*place, n): size for place, sizes in found.items() for n, size in enumerate(sizes)
    } == pytest.approx(flat, rel=1e-4, abs=1e-5)


ADAPTERS = {
    "lora": ("llama", {}),
    "rank-stabilised": ("llama", {"use_rslora": True}),
    "some modules": ("llama", {"target_modules": ["q_proj", "down_proj"]}),
    "patterns": ("llama", {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}}),
    "dora": ("llama", {"use_dora": True}),
    "biases": ("gpt2", {"bias": "all"}),
    "transposed": ("gpt2", {}),
    "modules saved whole": ("llama", {"modules_to_save": ["lm_head", "norm"]}),
    "tokens": ("llama", {"trainable_token_indices": [1, 3]}),
    "embedding": ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
    "experts apart on disk": ("qwen3-moe", {}),
    "mixtral": ("mixtral", {}),
}


@pytest.mark.parametrize(("kind", "options"), ADAPTERS.values(), ids=ADAPTERS)
def test_an_adapter_is_as_large_as_what_peft_merges(tmp_path, kind, options):
    base, adapter = save_pair(tmp_path, kind, **options)
    found = told(update_norms(base, adapter))
    with quiet():
        merged = load_adapted(base, adapter).merge_and_unload()
    live = load_base(base)
    if kind in ("qwen3-moe", "mixtral"):  # stored expert by expert: sum over projections
        assert same(by_layer(found), by_layer(by_hand(live, merged)))
    else:
        assert same(found, by_hand(live, merged))
    assert sum(update for update, _ in found.values()) > 0


def by_layer(found: dict) -> dict:
    squares: dict[tuple, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for (layer, component, _), sizes in found.items():
        for slot, size in enumerate(sizes):
            squares[layer, component][slot] += size**2
    return {place: (math.sqrt(a), math.sqrt(b)) for place, (a, b) in squares.items()}


def test_a_head_that_the_base_ties_to_its_embedding(tmp_path):
    modules = ["lm_head", "q_proj"]
    base, adapter = save_pair(tmp_path, "tied-llama", target_modules=modules)
    found = told(update_norms(base, adapter))
    weights = load_file(adapter / "adapter_model.safetensors")
    at = "base_model.model.lm_head.lora_{}.weight"
    delta = 2 * weights[at.format("B")] @ weights[at.format("A")]  # alpha 8, rank 4
    embedding = load_file(base / "model.safetensors")["model.embed_tokens.weight"]
    assert found[None, "head", "lm_head"] == pytest.approx(
        (float(delta.norm()), float(embedding.norm())), rel=1e-5
    )
    assert found[None, "embedding", "embed_tokens"][0] == 0


def test_molora_by_components(tmp_path):
    base = tiny_models.save_llama(tmp_path / "base")
    tuned = molora(tiny_models.llama(), num_experts=3, top_k=1, shared_expert=2)
    with quiet():
        tuned.save_pretrained(tmp_path / "adapter")
    norms = update_norms(base, tmp_path / "adapter")
    found, weights = told(norms), load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    layer = dict(tuned.named_modules())["base_model.model.model.layers.1.mlp.up_proj"]
    at = "base_model.model.model.layers.1.mlp.up_proj."
    a, b = (next(t for n, t in weights.items() if n.startswith(at) and n.endswith(s))
            for s in ("experts.A", "experts.B"))  # fmt: skip
    experts = [2 * other.T @ one for one, other in zip(a, b, strict=True)]  # alpha 8, rank 4
    assert found[1, "experts", "up_proj"][0] == pytest.approx(
        math.sqrt(sum(float(e.norm()) ** 2 for e in experts)), rel=1e-5
    )
    shared = 2 * weights[f"{at}lora_B.weight"] @ weights[f"{at}lora_A.weight"]
    assert found[1, "shared_experts", "up_proj"][0] == pytest.approx(float(shared.norm()), rel=1e-5)
    weight = float(layer.get_base_layer().weight.norm())
    assert found[1, "experts", "up_proj"][1] == pytest.approx(weight, rel=1e-5)
    assert not [place for place in found if place[1] in ("mlp", "router")]
    assert "routers" in norms.notes[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_checkpoints(tmp_path, dtype):
    base, adapter = save_pair(tmp_path, "llama", dtype)
    with quiet():
        merged = load_adapted(base, adapter).merge_and_unload()
        merged.save_pretrained(tmp_path / "tuned", max_shard_size="40KB")
    assert same(told(update_norms(base, tmp_path / "tuned")), by_hand(load_base(base), merged))
    assert {r.update for r in update_norms(base, base).rows} == {0.0}


def test_tensors_of_many_pieces(tmp_path, monkeypatch):
    base, adapter = save_pair(tmp_path, "llama")
    with quiet():
        load_adapted(base, adapter).merge_and_unload().save_pretrained(tmp_path / "tuned")
    whole = told(update_norms(base, tmp_path / "tuned"))
    monkeypatch.setattr("taia.analysis.streaming._PIECE", 7)
    assert same(told(update_norms(base, tmp_path / "tuned")), whole)


def test_more_tokens_in_the_tuned_vocabulary(tmp_path):
    base = write(tmp_path / "base", llama(vocabulary=24), config=llama_config(vocabulary=24))
    longer = llama(vocabulary=26)
    tuned = write(tmp_path / "tuned", longer, config=llama_config(vocabulary=26))
    norms = update_norms(base, tuned)
    assert norms.notes == ("Only the 24 vocabulary rows that both have are compared.",)


def test_what_cannot_be_measured_is_refused(tmp_path):
    base, adapter = save_pair(tmp_path / "a", "llama")
    other, _ = save_pair(tmp_path / "b", "gpt2")
    with pytest.raises(MismatchError):
        update_norms(other, adapter)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterError):
        update_norms(base, adapter)
    broken = load_file(base / "model.safetensors")
    broken["model.norm.weight"][0] = float("nan")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_bytes((base / "config.json").read_bytes())
    save_file(broken, tmp_path / "broken" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight"):
        update_norms(base, tmp_path / "broken")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"bits": 4}}))
    with pytest.raises(CheckpointError, match="quantised"):
        update_norms(base, base)


def ranks_by_hand(base: torch.nn.Module, tuned: torch.nn.Module) -> dict[tuple, float]:
    """(layer, component, projection) → the effective rank of what two live models differ by."""
    labels, after, found = Anatomy.of_model(base), tuned.state_dict(), {}
    for name, before in base.state_dict().items():
        delta = after[name].double() - before.double()
        if delta.dim() == 2 and delta.any():
            singular = torch.linalg.svdvals(delta)
            shares = singular[singular > 1e-5 * singular[0]]
            shares = shares / shares.sum()
            label = labels[name]
            rank = float((-(shares * shares.log()).sum()).exp())
            found[label.layer, label.component, label.projection] = rank
    return found


@pytest.mark.parametrize("name", ["lora", "dora", "transposed", "embedding"])
def test_an_adapters_ranks_are_those_of_what_peft_merges(tmp_path, name):
    kind, options = ADAPTERS[name]
    base, adapter = save_pair(tmp_path, kind, **options)
    found = update_norms(base, adapter, ranks=True)
    with quiet():
        merged = load_adapted(base, adapter).merge_and_unload()
    ranks = {(r.layer, r.component, r.projection): r.rank for r in found.rows if r.rank is not None}
    assert ranks == pytest.approx(ranks_by_hand(load_base(base), merged), rel=1e-3)
    assert len(ranks) >= 4
    low = {rank for (*_, where), rank in ranks.items() if where != "embed_tokens"}
    if name != "dora":
        assert max(low) <= 4 + 1e-6


def test_a_checkpoints_ranks_are_measured_where_they_are_asked_for(tmp_path):
    base, _ = save_pair(tmp_path, "llama")
    live = load_base(base)
    torch.manual_seed(1)
    tuned = load_base(base)
    for name, parameter in tuned.named_parameters():
        if "mlp" in name or "norm" in name:
            parameter.data += torch.randn_like(parameter)
    with quiet():
        tuned.save_pretrained(tmp_path / "tuned")
    assert {row.rank for row in update_norms(base, tmp_path / "tuned").rows} == {None}
    found = update_norms(base, tmp_path / "tuned", ranks=True)
    ranks = {(r.layer, r.component, r.projection): r.rank for r in found.rows if r.rank is not None}
    assert ranks == pytest.approx(ranks_by_hand(live, tuned), rel=1e-3)
    assert {component for _, component, _ in ranks} == {"mlp"}
    (of_all,) = (norm for norm in found.by_component if norm.component == "mlp")
    assert of_all.rank == pytest.approx(sum(ranks.values()) / len(ranks))


def test_sums_and_shares_by_hand():
    rows = (
        Norm(0, "attention", "q_proj", 3.0, 10.0, 1),
        Norm(1, "attention", "q_proj", 4.0, 24.0, 1),
        Norm(0, "mlp", "up_proj", 5.0, 0.0, 2),
        Norm(None, "head", "lm_head", 0.0, 0.0, 1),
    )
    norms = Norms("base", "tuned", rows)
    assert [(n.component, n.update, n.weight, n.tensors) for n in norms.by_component] == [
        ("attention", 5.0, 26.0, 2), ("mlp", 5.0, 0.0, 2), ("head", 0.0, 0.0, 1)
    ]  # fmt: skip
    assert norms.share("attention") == norms.share("mlp") == 0.5
    assert norms.share("attention", "mlp", "head") == 1.0
    assert [row.ratio for row in rows] == [0.3, 4 / 24, math.inf, 0.0]
    assert math.isnan(Norms("base", "tuned", rows[3:]).share("head"))


def test_written_and_read_back(tmp_path):
    norms = Norms("b", "t", (Norm(None, "head", "lm_head", 0.5, 2.0, 1),), ("A note.",))
    assert read_norms(tmp_path) is None
    write_norms(tmp_path / "update.json", norms)
    assert read_norms(tmp_path) == norms
    first = {**norms.to_json(), "schema": 1, "rows": [{**asdict(norms.rows[0])}]}
    del first["rows"][0]["rank"]
    (tmp_path / "update.json").write_text(json.dumps(first))
    assert read_norms(tmp_path) == norms
    whole = norms.to_json()
    for spoilt in ({"schema": 1}, {**whole, "schema": 3}, {**whole, "rows": [{"layer": 1}]}):
        (tmp_path / "update.json").write_text(json.dumps(spoilt))
        with pytest.raises(DataError):
            read_norms(tmp_path)
