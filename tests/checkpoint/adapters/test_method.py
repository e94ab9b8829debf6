"""Methods on adapters: against PEFT's own, and against the formula on what PEFT loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.tuners.lora.intruders import reduce_intruder_dimension
from peft.utils.merge_utils import magnitude_prune
from safetensors.torch import load_file, save_file

from methods_given import normal
from taia.checkpoint.compose import compose
from taia.errors import AdapterError, MethodError
from taia.methods import METHODS
from tiny_adapters import load_adapted, load_base, lora_layers, quiet, save_pair
from tiny_molora import molora

FILE = "adapter_model.safetensors"
SPECTRAL = ["intruder", "spectral-surgery", "safe-lora"]
ENTRIES = [name for name, method in METHODS.items() if method.entries is not None]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / FILE)


def deltas(adapted: Any, name: str = "default") -> dict[str, torch.Tensor]:
    """Module → ΔW in PEFT's own words."""
    return {
        path: module.get_delta_weight(name).detach()
        for path, module in adapted.named_modules()
        if path.removeprefix("base_model.model.") in lora_layers(adapted)
    }


def refused(*args: Any, **options: Any) -> AdapterError:
    with pytest.raises(AdapterError) as caught:
        compose(*args, **options)
    return caught.value


# --- methods that are a number for each place ---------------------------------------------------


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3-moe"])
def test_a_scale_is_the_selection_that_says_the_same(pairs, tmp_path, name, merge) -> None:
    pair = pairs(name)
    text = {
        "wise-ft:alpha=0.5": "0.5*all",
        "lines:alpha=0.25": "0.25*all + 0.625*all[1] + all[2]",
    }
    for method, selection in text.items():
        options = {"merge": merge, "overwrite": True}
        done = compose(*pair, tmp_path / "out", method=method, **options)
        wanted = compose(*pair, tmp_path / "wanted", selection, **options)
        file = FILE if not merge else "model.safetensors"
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "wanted" / file).read_bytes()
        assert done.alphas == wanted.alphas
        assert done.kind == ("checkpoint" if merge else "adapter")


def test_layers_count_in_the_base_not_in_the_adapter(tmp_path) -> None:
    pair = save_pair(tmp_path, "llama", target_modules=["q_proj"], layers_to_transform=[0, 1])
    done = compose(*pair, tmp_path / "out", method="lines:alpha=0")
    assert {done.alphas[name] for name in done.alphas if "layers.1." in name} == {0.5}
    assert not [name for name in tensors(tmp_path / "out") if "layers.0." in name]


# --- methods by singular values -----------------------------------------------------------------


def by_hand(
    weight: torch.Tensor, update: torch.Tensor, rank: int, threshold: float, scale: float
) -> tuple[torch.Tensor, int]:
    """Intruder reduction of one matrix as stored, and how many intruders there were."""
    known = torch.linalg.svd(weight, full_matrices=False).U
    u, s, vh = torch.linalg.svd(weight + update, full_matrices=False)
    found = [i for i in range(10) if (u[:, i] @ known).abs().max() < threshold]
    moved = update - (1 - scale) * (u[:, found] * s[found]) @ vh[found]
    u, s, vh = torch.linalg.svd(moved, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vh[:rank], len(found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "lora", [{}, {"use_rslora": True, "r": 8}, {"rank_pattern": {"up_proj": 2}}, {"lora_alpha": 3}]
)
def test_intruder_reduction_is_pefts(tmp_path, lora, dtype) -> None:
    base, adapter = save_pair(tmp_path, "llama", dtype, **lora)
    adapted = load_adapted(base, adapter)
    said: list[str] = []
    with quiet():
        reduce_intruder_dimension(adapted, logging_sink=said.append)
    assert sum("Intruders:" in line for line in said) > 5
    wanted = deltas(adapted, "intruder_reduced")
    compose(base, adapter, tmp_path / "out", method="intruder")
    made = deltas(load_adapted(base, tmp_path / "out"))
    assert made.keys() == wanted.keys()
    # in float32 sums and bases differ in their order; factors in bfloat16 are rounded twice
    for path, delta in wanted.items():
        size = float(delta.float().norm())
        bound = 1e-4 if dtype == torch.float32 else 0.02
        assert float((made[path].float() - delta.float()).norm()) < bound * size, path


def test_weights_stored_inputs_first_are_worked_on_as_they_are_stored(pairs, tmp_path) -> None:
    """PEFT 0.21 writes the factors of a Conv1D and of an embedding the other way round."""
    base, adapter = pairs("gpt2")
    compose(base, adapter, tmp_path / "out", method="intruder:threshold=0.6,scale=0.5")
    weights = load_base(base).state_dict()
    before, after = (deltas(load_adapted(base, f)) for f in (adapter, tmp_path / "out"))
    intruders = 0
    for path, delta in before.items():
        weight = weights[path.removeprefix("base_model.model.") + ".weight"]
        wanted, found = by_hand(weight, delta, 4, 0.6, 0.5)
        assert torch.allclose(after[path], wanted, atol=1e-4), path
        intruders += found
    assert intruders > 5


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_rank_and_the_config_stay(pairs, tmp_path, name) -> None:
    base, adapter = pairs(name)
    compose(base, adapter, tmp_path / "out", method="intruder")
    before, after = tensors(adapter), tensors(tmp_path / "out")
    assert {n: (t.shape, t.dtype) for n, t in after.items()} == {
        n: (t.shape, t.dtype) for n, t in before.items()
    }
    config, made = (
        json.loads((folder / "adapter_config.json").read_text())
        for folder in (adapter, tmp_path / "out")
    )
    assert {k: made[k] for k in ("r", "lora_alpha")} == {k: config[k] for k in ("r", "lora_alpha")}


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3-moe"])
@pytest.mark.parametrize("method", ["intruder:scale=1", "intruder:threshold=0"])
def test_where_nothing_changes_the_adapter_is_the_same(pairs, tmp_path, name, method) -> None:
    base, adapter = pairs(name)
    compose(base, adapter, tmp_path / "out", method=method)
    compose(base, adapter, tmp_path / "all", "all")
    assert (tmp_path / "out" / FILE).read_bytes() == (tmp_path / "all" / FILE).read_bytes()


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3-moe"])
@pytest.mark.parametrize("keep", ["all", "0.5*attention + mlp", "attention"])
def test_merged_is_the_base_and_the_adapter_that_it_leaves(pairs, tmp_path, name, keep) -> None:
    base, adapter = pairs(name)
    compose(base, adapter, tmp_path / "out", keep, method="intruder:threshold=0.6")
    compose(base, adapter, tmp_path / "merged", keep, method="intruder:threshold=0.6", merge=True)
    compose(base, tmp_path / "out", tmp_path / "wanted", "all", merge=True)
    made, wanted = (load_base(tmp_path / f).state_dict() for f in ("merged", "wanted"))
    for path, tensor in wanted.items():
        assert torch.allclose(made[path], tensor, atol=2e-6), path


def fused(base: Path, folder: Path) -> Path:
    """The base with its experts stacked in one tensor, as transformers 5 has them in memory."""
    folder.mkdir()
    shutil.copy(base / "config.json", folder)
    tensors = {name: t.clone() for name, t in load_base(base).state_dict().items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("name", ["qwen3-moe", "mixtral"])
def test_experts_are_worked_on_one_by_one(pairs, tmp_path, name, stacked, merge) -> None:
    """Whether the base keeps them apart, gate and up too, or in one tensor."""
    base, adapter = pairs(name)
    weights = load_base(base).state_dict()
    before = deltas_of_experts(base, adapter)
    given = fused(base, tmp_path / "fused") if stacked else base
    options = {"method": "intruder:threshold=0.7,scale=0.5", "merge": merge}
    compose(given, adapter, tmp_path / "out", **options)
    if merge:
        after = load_base(tmp_path / "out").state_dict()
        after = {path: after[path] - weights[path] for path in before}
    else:
        after = deltas_of_experts(base, tmp_path / "out")
    intruders = 0
    for path, stack in before.items():
        for index, update in enumerate(stack):
            wanted, found = by_hand(weights[path][index], update, 4, 0.7, 0.5)
            assert torch.allclose(after[path][index], wanted, atol=1e-4), (path, index)
            intruders += found
    assert intruders > 5


def deltas_of_experts(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        merged = load_adapted(base, adapter).merge_and_unload().state_dict()
    weights = load_base(base).state_dict()
    return {n: merged[n] - weights[n] for n in weights if n.endswith(("gate_up_proj", "down_proj"))}


def sensitivities(adapter: Path, base: Path, folder: Path) -> dict[str, torch.Tensor]:
    """A random gradient of each weight, and what it says of each singular value."""
    found, gradients = {}, {}
    for seed, (path, delta) in enumerate(deltas(load_adapted(base, adapter)).items()):
        name = path.removeprefix("base_model.model.") + ".weight"
        gradient = torch.from_numpy(normal(*delta.shape, seed=seed))
        u, _, vh = torch.linalg.svd(delta.float(), full_matrices=False)
        found[f"{name}.sensitivity"] = torch.einsum("ik,ij,kj->k", u, gradient, vh)[:4].contiguous()
        gradients[name] = gradient
    folder.mkdir()
    save_file(found, folder / "rows.safetensors")
    return gradients


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_spectral_surgery_goes_down_the_gradient_at_the_same_size(pairs, tmp_path, name) -> None:
    base, adapter = pairs(name)
    gradients = sensitivities(adapter, base, tmp_path / "rows")
    options = {"method": "spectral-surgery:strength=1", "statistics": tmp_path / "rows"}
    compose(base, adapter, tmp_path / "out", **options)
    before = deltas(load_adapted(base, adapter))
    after = deltas(load_adapted(base, tmp_path / "out"))
    for path, delta in before.items():
        gradient = gradients[path.removeprefix("base_model.model.") + ".weight"]
        u, s, vh = torch.linalg.svd(delta, full_matrices=False)
        effects = s[:4] * torch.einsum("ik,ij,kj->k", u, gradient, vh)[:4]
        weighed = s[:4] * (1 - effects / effects.abs().max())
        weighed *= s[:4].sum() / weighed.sum()
        wanted = (u[:, :4] * weighed) @ vh[:4]
        assert torch.allclose(after[path], wanted, atol=1e-4), path


def test_safe_lora_projects_b_and_leaves_a_lora(pairs, tmp_path) -> None:
    base, adapter = pairs("llama")
    far = shutil.copytree(base, tmp_path / "far")
    moved = {
        name: tensor + torch.from_numpy(normal(*tensor.shape, seed=5))
        for name, tensor in load_file(base / "model.safetensors").items()
    }
    save_file(moved, far / "model.safetensors", {"format": "pt"})
    compose(base, adapter, tmp_path / "out", method="safe-lora:threshold=1", unaligned=far)
    weights, others = load_base(base).state_dict(), load_base(far).state_dict()
    before = deltas(load_adapted(base, adapter))
    after = deltas(load_adapted(base, tmp_path / "out"))
    for path, delta in before.items():
        name = path.removeprefix("base_model.model.") + ".weight"
        v = weights[name] - others[name]
        wanted = v @ v.T / torch.linalg.norm(v) @ delta
        assert torch.allclose(after[path], wanted, atol=1e-4), path


def test_what_is_replaced_whole_is_kept_whole_and_said(tmp_path) -> None:
    pair = save_pair(tmp_path, "llama", modules_to_save=["lm_head"])
    done = compose(*pair, tmp_path / "out", method="intruder")
    before, after = tensors(pair[1]), tensors(tmp_path / "out")
    whole = [name for name in before if "lm_head" in name]
    assert whole
    for name in before:
        assert torch.equal(before[name], after[name]) is (name in whole), name
    assert any("21 low-rank updates; 1 other updates are kept whole" in n for n in done.notes)


def test_an_embedding_is_a_matrix_too(tmp_path) -> None:
    base, adapter = save_pair(tmp_path, "llama", target_modules=["embed_tokens", "q_proj"])
    compose(base, adapter, tmp_path / "out", method="intruder:threshold=0.9")
    weight = load_base(base).model.embed_tokens.weight.detach()
    path = "base_model.model.model.embed_tokens"
    before, after = (
        load_adapted(base, f).get_submodule(path).get_delta_weight("default").detach()
        for f in (adapter, tmp_path / "out")
    )
    wanted, found = by_hand(weight, before, 4, 0.9, 0.75)
    assert found
    assert torch.allclose(after, wanted, atol=1e-4)


def test_a_bias_of_the_update_stays(tmp_path) -> None:
    pair = save_pair(tmp_path, "gpt2", lora_bias=True)
    for keep, alpha in (("all", 1), ("0.5*all", 0.5)):
        compose(*pair, tmp_path / "out", keep, method="intruder", overwrite=True)
        before, after = tensors(pair[1]), tensors(tmp_path / "out")
        names = [name for name in before if name.endswith("lora_B.bias")]
        assert names
        assert all(torch.equal(after[name], before[name] * alpha) for name in names)


# --- methods by entries -------------------------------------------------------------------------


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3-moe", "mixtral"])
def test_entries_need_a_checkpoint_and_are_pruned_there(pairs, tmp_path, name, stacked) -> None:
    base, adapter = pairs(name)
    base = fused(base, tmp_path / "fused") if stacked else base
    error = refused(base, adapter, tmp_path / "out", method="magnitude:keep=0.25")
    assert "no low rank" in error.problem
    assert "--merge" in error.mend
    assert not (tmp_path / "out").exists()
    compose(base, adapter, tmp_path / "out", method="magnitude:keep=0.25", merge=True)
    compose(base, adapter, tmp_path / "whole", "all", merge=True)
    files = (base, tmp_path / "whole", tmp_path / "out")
    ours, whole, made = (load_file(f / "model.safetensors") for f in files)
    changed = 0
    for path, weight in ours.items():
        if torch.equal(whole[path], weight):
            assert torch.equal(made[path], weight), path
            continue
        for i in range(len(weight)) if weight.ndim == 3 else (...,):
            update = whole[path][i] - weight[i]
            kept = made[path][i] != weight[i]
            assert int(kept.sum()) == int(0.25 * update.numel()), path
            # what is kept is as large as what is dropped, but for rounding
            assert update[kept].abs().min() > update[~kept].abs().max() - 1e-6
            assert torch.equal(made[path][i][kept], whole[path][i][kept])
        changed += 1
    assert changed > 5


def test_of_a_product_the_largest_are_chosen_before_it_is_added(tmp_path) -> None:
    """In a large weight a small update is rounded; its own order is not."""
    base, adapter = save_pair(tmp_path, "llama", target_modules=["q_proj"])
    file = base / "model.safetensors"
    large = {
        name: tensor + 1000 if "q_proj" in name else tensor
        for name, tensor in load_file(file).items()
    }
    save_file(large, file, {"format": "pt"})
    compose(base, adapter, tmp_path / "out", method="magnitude:keep=0.5", merge=True)
    made = load_file(tmp_path / "out" / "model.safetensors")
    for path, delta in deltas(load_adapted(base, adapter)).items():
        name = path.removeprefix("base_model.model.") + ".weight"
        kept = magnitude_prune([delta], torch.ones(1), 0.5) != 0
        wanted = torch.where(kept, large[name] + delta, large[name])
        assert torch.allclose(made[name], wanted, atol=2e-4, rtol=0)
        assert torch.equal(made[name][~kept], large[name][~kept])


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        ("llama", {"use_dora": True}),
        ("gpt2", {"use_dora": True}),
        ("llama", {"modules_to_save": ["lm_head", "embed_tokens"]}),
        ("llama", {"trainable_token_indices": [1, 4]}),
        ("llama", {"target_modules": ["embed_tokens", "lm_head", "q_proj"]}),
        ("gpt2", {"lora_bias": True}),
        ("gpt2", {"bias": "lora_only"}),
    ],
)
def test_other_updates_are_pruned_as_differences(tmp_path, name, lora) -> None:
    base, adapter = save_pair(tmp_path, name, **lora)
    compose(base, adapter, tmp_path / "out", method="magnitude:keep=0.2", merge=True)
    compose(base, adapter, tmp_path / "whole", "all", merge=True)
    files = (base, tmp_path / "whole", tmp_path / "out")
    ours, whole, made = (load_file(f / "model.safetensors") for f in files)
    for name, weight in ours.items():
        kept = made[name] != weight
        if torch.equal(whole[name], weight):
            assert not kept.any()
            continue
        assert torch.allclose(made[name][kept], whole[name][kept], atol=1e-6)
        changed = int((whole[name] != weight).sum())
        assert int(kept.sum()) == min(changed, int(0.2 * weight.numel())), name


@pytest.mark.parametrize(
    ("method", "wanted"),
    [("magnitude:keep=1", "all"), ("dare:keep=1", "all"), ("magnitude:keep=0", "none")],
)
def test_at_the_ends_entries_are_a_selection(pairs, tmp_path, method, wanted) -> None:
    pair = pairs("llama")
    compose(*pair, tmp_path / "out", method=method, merge=True)
    compose(*pair, tmp_path / "wanted", wanted, merge=True)
    made, other = (load_file(tmp_path / f / "model.safetensors") for f in ("out", "wanted"))
    assert all(torch.equal(made[name], other[name]) for name in other)


def test_draws_do_not_depend_on_what_else_is_kept(pairs, tmp_path) -> None:
    pair = pairs("llama")
    options = {"method": "dare:keep=0.5,seed=4", "merge": True}
    compose(*pair, tmp_path / "all", **options)
    compose(*pair, tmp_path / "some", "mlp[1:]", **options)
    whole, some = (load_file(tmp_path / f / "model.safetensors") for f in ("all", "some"))
    for name in whole:
        if ".mlp." in name and "layers.0." not in name:
            assert torch.equal(whole[name], some[name])


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("merge", [False, True])
def test_dg_hard_is_refused_with_its_reason(pairs, tmp_path, merge) -> None:
    error = refused(*pairs("llama"), tmp_path / "out", method="dg-hard", merge=merge)
    assert "median of its singular values is rounding" in error.problem
    assert "intruder" in error.mend


@pytest.mark.parametrize("method", ENTRIES)
def test_every_method_by_entries_is_refused_without_merge(pairs, tmp_path, method) -> None:
    (tmp_path / "rows").mkdir()
    save_file({"x": torch.ones(1)}, tmp_path / "rows" / "a.safetensors")
    options = {"statistics": tmp_path / "rows"} if METHODS[method].needs else {}
    error = refused(*pairs("llama"), tmp_path / "out", method=method, **options)
    assert "--merge" in error.mend


@pytest.mark.parametrize("merge", [False, True])
def test_dora_is_no_product(tmp_path, merge) -> None:
    pair = save_pair(tmp_path, "llama", use_dora=True)
    error = refused(*pair, tmp_path / "out", method="intruder", merge=merge)
    assert "DoRA" in error.problem
    assert "compose the two checkpoints" in error.mend
    # and there the way that it names is open
    compose(*pair, tmp_path / "merged", "all", merge=True)
    compose(pair[0], tmp_path / "merged", tmp_path / "out", method="intruder")


@pytest.mark.parametrize("method", ["intruder", "wise-ft"])
def test_molora_is_worked_on_where_its_experts_are_left_out(tmp_path, method) -> None:
    model = molora()
    model.save_pretrained(tmp_path / "adapter")
    model.unload().save_pretrained(tmp_path / "base")
    pair = tmp_path / "base", tmp_path / "adapter"
    if method == "intruder":
        error = refused(*pair, tmp_path / "out", method=method)
        assert "depends on the token" in error.problem
    else:
        done = compose(*pair, tmp_path / "out", method=method)
        assert any("MoLoRA" in note for note in done.notes)
    done = compose(*pair, tmp_path / "plain", "taia", method=method)
    assert not any("MoLoRA" in note for note in done.notes)


def test_a_quantised_base_has_no_numbers_to_compare_with(pairs, tmp_path) -> None:
    base, adapter = pairs("llama")
    packed = shutil.copytree(base, tmp_path / "packed")
    config = json.loads((packed / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes"}
    (packed / "config.json").write_text(json.dumps(config))
    stored = {
        name: tensor.to(torch.uint8) if "_proj" in name else tensor
        for name, tensor in load_file(packed / "model.safetensors").items()
    }
    save_file(stored, packed / "model.safetensors", {"format": "pt"})
    error = refused(packed, adapter, tmp_path / "out", method="intruder")
    assert "quantised" in error.problem
    done = compose(packed, adapter, tmp_path / "out", method="wise-ft")
    assert done.written
    sensitivities(adapter, base, tmp_path / "rows")
    options = {"method": "spectral-surgery", "statistics": tmp_path / "rows"}
    compose(packed, adapter, tmp_path / "surgery", **options)
    compose(base, adapter, tmp_path / "same", **options)
    first, second = (tensors(tmp_path / f) for f in ("surgery", "same"))
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_an_adapter_of_nothing_is_refused_by_the_methods_name(pairs, tmp_path) -> None:
    error = refused(*pairs("llama"), tmp_path / "out", method="wise-ft:alpha=0")
    assert "all by wise-ft:alpha=0 keeps nothing" in error.problem


def test_without_the_base_there_is_no_method(pairs, tmp_path) -> None:
    error = refused(None, pairs("llama")[1], tmp_path / "out", method="wise-ft")
    assert "needs the base" in error.problem


def test_statistics_of_another_rank_are_refused_before_anything_is_written(pairs, tmp_path) -> None:
    base, adapter = pairs("llama")
    sensitivities(adapter, base, tmp_path / "rows")
    file = tmp_path / "rows" / "rows.safetensors"
    cut = {name: tensor[:3].contiguous() for name, tensor in load_file(file).items()}
    save_file(cut, file)
    with pytest.raises(MethodError, match=r"\[3\] where floating point \[4\] is needed"):
        compose(
            base,
            adapter,
            None,
            method="spectral-surgery",
            statistics=tmp_path / "rows",
            dry_run=True,
        )


@pytest.mark.parametrize("method", ["magnitude:keep=0.5", "intruder:threshold=0.9"])
def test_a_tied_head_that_is_adapted_becomes_its_own(tmp_path, method) -> None:
    pair = save_pair(tmp_path, "tied-llama", target_modules=["lm_head", "q_proj"])
    compose(*pair, tmp_path / "out", method=method, merge=True)
    made = load_base(tmp_path / "out")
    base = load_base(pair[0])
    assert torch.equal(made.model.embed_tokens.weight, base.model.embed_tokens.weight)
    moved = (made.lm_head.weight != base.lm_head.weight).sum()
    assert int(moved) == base.lm_head.weight.numel() // 2 or method.startswith("intruder")
    assert np.isfinite(made.lm_head.weight.detach().numpy()).all()
