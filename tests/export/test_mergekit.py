"""The recipe makes what compose made, read as mergekit reads it."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

from taia.checkpoint.compose import compose
from taia.errors import InputError, RunError
from taia.export.run import export
from tiny_adapters import save_pair
from tiny_files import llama, llama_config, write


@pytest.fixture
def pair(tmp_path):
    config = llama_config()
    base = write(tmp_path / "base", llama(), config=config, seed=1)
    return base, write(tmp_path / "tuned", llama(), config=config, seed=2)


def merged(recipe):
    """mergekit's `linear`, written from its documentation."""
    weights = []
    for model in recipe["models"]:
        tensors = load_file(f"{model['model']}/model.safetensors")
        weights.append((tensors, model["parameters"]["weight"]))
    out = {}
    for name in weights[0][0]:
        total = 0
        for tensors, settings in weights:
            value = next(s["value"] for s in settings if s.get("filter", "") in name)
            total = total + value * tensors[name].to(torch.float32)
        out[name] = total.to(weights[0][0][name].dtype)
    return out


@pytest.mark.parametrize(
    "keep", ["taia", "taif", "attention[1:]", "(q_proj + up_proj)[:1]", "none", "tuned", "0.5*mlp"]
)
def test_it_makes_what_compose_made(pair, tmp_path, keep):
    base, tuned = pair
    compose(base, tuned, tmp_path / "made", keep)
    done = export(tmp_path / "made", "mergekit", tmp_path / "out")
    assert done.checks[0].measured["equal"] == done.checks[0].measured["of"] == len(llama())
    recipe = yaml.safe_load((tmp_path / "out" / "mergekit.yml").read_text())
    made = load_file(tmp_path / "made" / "model.safetensors")
    for name, tensor in merged(recipe).items():
        if "*" in keep:  # mergekit adds the weighted tensors; compose adds the weighted difference
            eps = torch.finfo(tensor.dtype).eps
            torch.testing.assert_close(tensor, made[name], rtol=2 * eps, atol=2 * eps)
        else:
            assert torch.equal(tensor, made[name]), name
    assert ("out_dtype" in recipe) == ("*" in keep)
    assert done.use == f"mergekit-yaml {tmp_path}/out/mergekit.yml MERGED"


def test_what_mergekit_cannot_say(pair, tmp_path):
    base, _ = pair
    _, adapter = save_pair(tmp_path / "lora", "llama")
    compose(tmp_path / "lora" / "base", adapter, tmp_path / "part", "taia")
    compose(tmp_path / "lora" / "base", adapter, tmp_path / "whole", "taia", merge=True)
    for source in (base, adapter, tmp_path / "part", tmp_path / "whole"):
        with pytest.raises(InputError, match="no composition of two"):
            export(source, "mergekit", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["magnitude:keep=0.5", "wise-ft", "lines:alpha=0"])
def test_what_a_method_made_is_no_weight_for_each_tensor(pair, tmp_path, method):
    compose(*pair, tmp_path / "made", method=method)
    with pytest.raises(InputError, match=f"composed by the method {method}"):
        export(tmp_path / "made", "mergekit", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_inputs_that_changed_since_are_noticed(pair, tmp_path):
    base, tuned = pair
    compose(base, tuned, tmp_path / "made", "taia")
    write(tuned, llama(), config=llama_config(), seed=3)
    with pytest.raises(RunError, match="of the source's"):
        export(tmp_path / "made", "mergekit", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_path_that_mergekit_would_read_otherwise(pair, tmp_path):
    base, tuned = pair
    odd = tuned.rename(tmp_path / "tuned+v2")
    compose(base, odd, tmp_path / "made", "taia")
    with pytest.raises(InputError, match=r"\+ or @"):
        export(tmp_path / "made", "mergekit", tmp_path / "out")


@pytest.mark.parametrize("keep", ["q_proj[0]", "0.5*v_proj + q_proj"])
def test_rows_of_a_fused_projection_are_refused(tmp_path, keep):
    config = {"model_type": "gpt2", "n_embd": 16, "n_head": 4, "n_layer": 1}
    tensors = {"h.0.attn.c_attn.weight": ("F32", (16, 48))}
    sides = [write(tmp_path / name, tensors, seed, config=config) for seed, name in enumerate("ab")]
    compose(*sides, tmp_path / "made", keep)
    with pytest.raises(InputError, match="part of the rows"):
        export(tmp_path / "made", "mergekit", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["base", "tuned", "selection", "kind"])
@pytest.mark.parametrize("value", [None, "text", ["list"], {}])
def test_a_record_that_was_written_over(pair, tmp_path, key, value):
    base, tuned = pair
    compose(base, tuned, tmp_path / "made", "taia")
    file = tmp_path / "made" / "taia_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(InputError):
        export(tmp_path / "made", "mergekit", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_models_of_different_vocabularies(tmp_path):
    config = llama_config()
    base = write(tmp_path / "base", llama(), config=config, seed=1)
    larger = {**config, "vocab_size": config["vocab_size"] + 4}
    shapes = llama(vocabulary=larger["vocab_size"])
    tuned = write(tmp_path / "tuned", shapes, config=larger, seed=2)
    compose(base, tuned, tmp_path / "made", "taia", vocab="base")
    with pytest.raises(InputError, match="cut or convert"):
        export(tmp_path / "made", "mergekit", tmp_path / "out")
