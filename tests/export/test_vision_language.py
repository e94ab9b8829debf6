"""Adapters of models that read images: exported, they are on the whole model what they were."""

import json

import pytest
import torch
from safetensors.torch import load_file

from battery import oracle
from battery.families import FAMILIES
from taia.checkpoint.compose import compose
from taia.export.run import export

SEEING = sorted(name for name, family in FAMILIES.items() if family.sees)


@pytest.fixture(scope="module", params=SEEING)
def pair(request, tmp_path_factory):
    """A base and an adapter of its text tower, and the live models: alone, and with the adapter."""
    family = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp("seeing")
    model = oracle.random_model(family)
    model.save_pretrained(folder / "base")
    model.name_or_path = str(folder / "base")
    modules = family.target(*family.attention, *family.feed_forward)
    options = {"target_modules": modules, "rank_pattern": {family.attention[0]: 2}}
    whole = oracle.trained(model, options)
    whole.save_pretrained(folder / "adapter")
    return family, folder, model, whole


@pytest.mark.parametrize("target", ["transformers", "vllm"])
def test_the_exported_adapter_is_the_adapter(pair, tmp_path, target):
    _, folder, model, whole = pair
    done = export(folder / "adapter", target, tmp_path / "out")
    assert done.checks[0].passed
    assert done.checks[0].measured["effect"] > 0
    found = oracle.logits(oracle.adapted(model, tmp_path / "out"))
    torch.testing.assert_close(found, oracle.logits(whole), rtol=1e-4, atol=1e-4)
    assert (found - oracle.logits(model)).abs().max() > 0.1


def test_vllms_has_one_rank_and_the_names_of_peft(pair, tmp_path):
    _, folder, _, _ = pair
    export(folder / "adapter", "vllm", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    ranks = {t.shape[0] for name, t in tensors.items() if "lora_A" in name}
    assert ranks == {config["r"]}
    assert tensors.keys() == load_file(folder / "adapter" / "adapter_model.safetensors").keys()


@pytest.mark.parametrize("target", ["transformers", "vllm"])
def test_merged_it_sees_as_before_and_says_what_the_adapter_says(pair, tmp_path, target):
    family, folder, model, whole = pair
    done = export(folder / "adapter", target, tmp_path / "out", merge=True)
    assert done.checks[0].passed
    merged = oracle.auto_class(family).from_pretrained(tmp_path / "out", dtype=torch.float32)
    torch.testing.assert_close(
        oracle.logits(merged.eval()), oracle.logits(whole), rtol=1e-4, atol=1e-4
    )
    seen, before = merged.state_dict(), model.state_dict()
    eyes = [name for name in before if "visual" in name or "vision" in name]
    assert eyes
    assert all(torch.equal(seen[name], before[name]) for name in eyes)


def test_a_part_of_it_is_that_part(pair, tmp_path):
    family, folder, model, whole = pair
    compose(folder / "base", folder / "adapter", tmp_path / "taia", "taia")
    export(tmp_path / "taia", "vllm", tmp_path / "out")
    with oracle.without(whole, model, family.feeds_forward):
        wanted = oracle.logits(whole)
    found = oracle.logits(oracle.adapted(model, tmp_path / "out"))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (found - oracle.logits(whole)).abs().max() > 0.1
