"""`taia inspect`: what it prints, for a person and for a program."""

import json

import pytest

from cli_runner import inside, taia
from taia.analysis.norms import update_norms
from tiny_adapters import save_pair
from tiny_files import llama, llama_config, write


@pytest.fixture
def model(tmp_path):
    return write(tmp_path / "model", llama(), config=llama_config())


def test_json_has_every_tensor_by_the_names_in_the_file(model):
    done = taia("inspect", str(model), "--json")
    tensors = json.loads(done.stdout)["tensors"]
    assert {t["name"]: (t["dtype"], tuple(t["shape"])) for t in tensors} == llama()
    assert tensors[0].keys() == {"name", "component", "layer", "projection", "shape", "dtype"}
    by_name = {t["name"]: t for t in tensors}
    assert by_name["model.layers.1.mlp.up_proj.weight"]["component"] == "mlp"
    assert by_name["model.layers.1.mlp.up_proj.weight"]["layer"] == 1
    assert by_name["model.norm.weight"]["layer"] is None
    assert by_name["lm_head.weight"]["component"] == "head"
    assert done.stderr == ""


def test_keep_adds_the_alpha_of_every_tensor(model):
    done = inside("inspect", str(model), "--json", "--keep", "0.5*mlp + attention[1]")
    alphas = {t["name"]: t["alpha"] for t in json.loads(done.stdout)["tensors"]}
    assert alphas["model.layers.0.mlp.up_proj.weight"] == 0.5
    assert alphas["model.layers.0.self_attn.q_proj.weight"] == 0
    assert alphas["model.layers.1.self_attn.q_proj.weight"] == 1
    assert alphas["model.norm.weight"] == 0


def test_the_alpha_of_one_head_is_given_row_by_row(model):
    done = inside("inspect", str(model), "--json", "--keep", "attention[0, 1]")
    alphas = {t["name"]: t["alpha"] for t in json.loads(done.stdout)["tensors"]}
    pieces = [[0, 4, 0.0], [4, 8, 1.0], [8, 16, 0.0]]
    assert alphas["model.layers.0.self_attn.q_proj.weight"] == {"axis": 0, "pieces": pieces}
    assert alphas["model.layers.0.self_attn.o_proj.weight"] == {"axis": 1, "pieces": pieces}
    assert alphas["model.layers.0.self_attn.k_proj.weight"] == 0  # shared with head 0


def test_the_table_counts_heads_layers_and_parameters(model):
    lines = inside("inspect", str(model), "--keep", "taia").stdout.splitlines()
    q_proj = next(line for line in lines if "q_proj" in line)
    assert q_proj.split() == ["self_attention", "q_proj", "0-1", "4", "2", "512", "1"]
    up_proj = next(line for line in lines if "up_proj" in line)
    assert up_proj.split() == ["mlp", "up_proj", "0-1", "2", "1.02", "K", "0"]


def test_a_config_alone_is_enough(tmp_path, model):
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "config.json").write_bytes((model / "config.json").read_bytes())
    tensors = json.loads(inside("inspect", str(alone), "--json").stdout)["tensors"]
    shapes = {name: list(shape) for name, (_, shape) in llama().items()}
    assert {t["name"]: t["shape"] for t in tensors} == shapes


def test_an_unknown_tensor_is_named_and_can_be_declared(tmp_path):
    shapes = llama() | {"model.layers.0.glue.weight": ("BF16", (2, 2))}
    odd = write(tmp_path / "odd", shapes, config=llama_config())
    refused = inside("inspect", str(odd), code=2)
    assert "model.layers.0.glue.weight" in refused.stderr
    assert "--declare 'model.layers.*.glue.weight=mlp'" in refused.stderr
    done = inside("inspect", str(odd), "--json", "--declare", "model.layers.*.glue.weight=mlp")
    glue = [t for t in json.loads(done.stdout)["tensors"] if "glue" in t["name"]]
    assert [t["component"] for t in glue] == ["mlp"]


@pytest.mark.parametrize("declared", ["model.layers.*.glue.weight=glue", "glue", "=mlp"])
def test_a_wrong_declaration_is_refused(model, declared):
    refused = inside("inspect", str(model), "--declare", declared, code=2)
    assert declared.rpartition("=")[2] in refused.stderr
    assert len(refused.stderr.splitlines()) == 2


def test_a_selection_that_matches_nothing_is_refused(model):
    refused = inside("inspect", str(model), "--keep", "atention", code=2)
    assert "did you mean attention?" in refused.stderr


def test_a_folder_with_nothing_in_it_is_refused(tmp_path):
    refused = inside("inspect", str(tmp_path), code=2)
    assert str(tmp_path) in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.fixture
def pair(tmp_path):
    return save_pair(tmp_path / "pair", "llama")


def test_two_models_show_where_the_update_lives(pair):
    base, adapter = map(str, pair)
    norms = json.loads(inside("inspect", base, adapter, "--json").stdout)
    assert norms["rows"] == update_norms(base, adapter).to_json()["rows"]
    shown = inside("inspect", base, adapter, "--by", "rank").stdout
    assert "effective rank of ΔW" in shown
    attention, mlp = (
        next(line.split() for line in shown.splitlines() if line.split()[:1] == [name])
        for name in ("attention", "mlp")
    )
    assert float(attention[4]) + float(mlp[4]) == pytest.approx(100, abs=0.2)
    assert 1 <= float(attention[5]) <= 4


def test_the_page_is_written_once(pair, tmp_path):
    base, adapter = map(str, pair)
    page = tmp_path / "page.html"
    assert str(page) in inside("inspect", base, adapter, "-o", str(page)).stdout
    before = page.read_bytes()
    assert b"Where the update lives" in before
    shown = inside("inspect", base, adapter, "-o", "-").stdout
    assert shown == before.decode().replace(str(page), "-")
    again = inside("inspect", base, adapter, "-o", str(page), code=2)
    assert "--overwrite" in again.stderr
    assert page.read_bytes() == before


@pytest.mark.parametrize(
    "flags", [["{base}", "{tuned}", "--keep", "taia"], ["{base}", "--output", "page.html"]]
)
def test_what_belongs_to_one_model_or_to_two_is_refused_of_the_other(pair, flags):
    names = dict(zip(("base", "tuned"), map(str, pair), strict=True))
    done = inside("inspect", *(flag.format(**names) for flag in flags), code=2)
    assert len(done.stderr.splitlines()) == 2
