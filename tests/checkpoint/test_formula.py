"""Methods on two checkpoints: every number against PEFT's pruning or the formula by hand."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.utils.merge_utils import magnitude_prune
from safetensors.torch import load_file, save_file

from cli_runner import inside
from methods_given import a_label, normal, of
from taia.checkpoint.compose import compose
from taia.errors import CheckpointError, DestinationError, InputError, MethodError, SelectionError
from taia.methods import METHODS
from tiny_files import content, llama, llama_config, payload, tree, write

NAMES = list(llama())
GPT2 = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_embd": 8,
    "n_head": 2,
    "n_layer": 2,
    "vocab_size": 16,
}
#: A value of each method that needs nothing, at which it keeps everything, and nothing.
WHOLE = ["magnitude:keep=1", "revert-largest:revert=0", "breadcrumbs:keep=1", "dare:keep=1"]
WHOLE += ["dg-hard:scale=0", "intruder:scale=1", "wise-ft:alpha=1", "lines:alpha=1"]
NOTHING = ["magnitude:keep=0", "revert-largest:revert=1", "breadcrumbs:keep=0", "wise-ft:alpha=0"]


def make(folder: Path, tensors=None, seed=0, config=None, **more) -> Path:
    return write(folder, tensors or llama(), seed, config=config or llama_config(), **more)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make(tmp_path / "base"), make(tmp_path / "tuned", seed=1)


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def floats(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.to(torch.float32) for name, tensor in loaded(folder).items()}


@pytest.mark.parametrize("keep", [0.1, 0.2, 0.75])
def test_magnitude_is_pefts_pruning_bit_for_bit(pair, tmp_path, keep) -> None:
    done = compose(*pair, tmp_path / "out", method=f"magnitude:keep={keep}")
    base, tuned, out = (loaded(folder) for folder in (*pair, tmp_path / "out"))
    for name in NAMES:
        update = tuned[name].float() - base[name].float()
        kept = magnitude_prune([update], torch.ones(1), keep) != 0
        assert torch.equal(out[name], torch.where(kept, tuned[name], base[name])), name
    assert done.method == f"magnitude:keep={keep}"
    assert done.selection == "all"


@pytest.mark.parametrize("dtypes", [("BF16", "BF16"), ("F16", "F16"), ("F32", "F32")])
@pytest.mark.parametrize("method", WHOLE)
def test_what_keeps_all_gives_the_tuned_models_bytes(tmp_path, dtypes, method) -> None:
    base = make(tmp_path / "base", llama(dtype=dtypes[0]))
    tuned = make(tmp_path / "tuned", llama(dtype=dtypes[1]), 1)
    compose(base, tuned, tmp_path / "out", method=method)
    assert content(tmp_path / "out") == content(tuned)


@pytest.mark.parametrize("dtypes", [("BF16", "F32"), ("F64", "F64"), ("F32", "F64")])
@pytest.mark.parametrize("method", WHOLE)
def test_what_keeps_all_is_the_selection_all(tmp_path, dtypes, method) -> None:
    base = make(tmp_path / "base", llama(dtype=dtypes[0]))
    tuned = make(tmp_path / "tuned", llama(dtype=dtypes[1]), 1)
    compose(base, tuned, tmp_path / "out", method=method)
    compose(base, tuned, tmp_path / "all", "all")
    assert content(tmp_path / "out") == content(tmp_path / "all")


@pytest.mark.parametrize("method", NOTHING)
def test_what_keeps_nothing_gives_the_bases_bytes(pair, tmp_path, method) -> None:
    compose(*pair, tmp_path / "out", method=method)
    assert content(tmp_path / "out") == content(pair[0])


def test_lines_is_the_selection_that_says_the_same(tmp_path) -> None:
    base = make(tmp_path / "base", llama(3), config=llama_config(3))
    tuned = make(tmp_path / "tuned", llama(3), 1, config=llama_config(3))
    done = compose(base, tuned, tmp_path / "out", method="lines:alpha=0.5")
    text = " + ".join(
        ["0.5*all"]
        + [f"{0.5 + 0.25 * i}*{part}[{i}]" for i in (1, 2) for part in ("attention", "mlp", "norm")]
    )
    wanted = compose(base, tuned, tmp_path / "wanted", text)
    assert content(tmp_path / "out") == content(tmp_path / "wanted")
    assert done.alphas == wanted.alphas
    assert done.rows == wanted.rows


def test_a_selection_takes_its_part_of_what_the_method_makes(pair, tmp_path) -> None:
    compose(*pair, tmp_path / "whole", method="dare:keep=0.5,seed=3")
    compose(*pair, tmp_path / "out", "attention + 0.25*mlp", method="dare:keep=0.5,seed=3")
    base, whole, out = (content(f) for f in (pair[0], tmp_path / "whole", tmp_path / "out"))
    ours, theirs, made = (floats(f) for f in (pair[0], tmp_path / "whole", tmp_path / "out"))
    for name in NAMES:
        if "self_attn" in name:
            assert out[name] == whole[name]
        elif "mlp" in name:
            wanted = ours[name] + 0.25 * (theirs[name] - ours[name])
            # twice rounded to eight bits: half a place of either
            bound = 2**-8 * (wanted.abs() + 0.25 * theirs[name].abs())
            assert torch.all((made[name] - wanted).abs() <= bound)
            assert torch.equal(made[name] == ours[name], theirs[name] == ours[name])
        else:
            assert out[name] == base[name]


def test_neither_shards_nor_their_order_matter(tmp_path) -> None:
    shards = [NAMES[12:], NAMES[5:12], NAMES[:5]]
    one = make(tmp_path / "base"), make(tmp_path / "tuned", seed=1)
    base = make(tmp_path / "base2", shards=shards)
    tuned = make(tmp_path / "tuned2", seed=1, shards=[NAMES[10:], NAMES[:10]])
    for method in ("dare:keep=0.3,seed=5", "magnitude"):
        compose(*one, tmp_path / "a", method=method, overwrite=True)
        compose(base, tuned, tmp_path / "b", method=method, overwrite=True)
        assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_seed_gives_the_same_bytes_and_another_seed_others(pair, tmp_path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        compose(*pair, tmp_path / name, method=f"dare:seed={seed}")
    a, b, c = (content(tmp_path / name) for name in "abc")
    assert a == b
    assert all(a[name] != c[name] for name in NAMES)


def test_rows_of_a_fused_projection_are_taken_of_the_whole(tmp_path) -> None:
    shapes = {
        "model.embed_tokens.weight": ("F32", (24, 16)),
        "model.layers.0.self_attn.qkv_proj.weight": ("F32", (32, 16)),
        "model.layers.0.mlp.down_proj.weight": ("F32", (16, 32)),
    }
    config = llama_config(1, model_type="phi3", architectures=["Phi3ForCausalLM"])
    base = make(tmp_path / "base", shapes, config=config)
    tuned = make(tmp_path / "tuned", shapes, 1, config)
    compose(base, tuned, tmp_path / "out", "q_proj + 0.5*v_proj", method="magnitude:keep=0.5")
    name = "model.layers.0.self_attn.qkv_proj.weight"
    ours, theirs, out = (loaded(f)[name] for f in (base, tuned, tmp_path / "out"))
    kept = magnitude_prune([theirs - ours], torch.ones(1), 0.5) != 0
    whole = torch.where(kept, theirs, ours)
    assert torch.equal(out[:16], whole[:16])
    assert torch.equal(out[16:24], ours[16:24])
    assert torch.equal(out[24:], ours[24:] + 0.5 * (whole[24:] - ours[24:]))


@pytest.mark.parametrize("keep", ["all", "0.5*experts", "gate_proj"])
def test_a_stack_of_experts_is_worked_on_matrix_by_matrix(tmp_path, keep) -> None:
    name = "model.layers.0.mlp.experts.gate_up_proj"
    shapes = {
        "model.embed_tokens.weight": ("F32", (24, 16)),
        name: ("F32", (3, 24, 16)),
        "model.layers.0.mlp.experts.down_proj": ("F32", (3, 16, 12)),
    }
    config = llama_config(1, model_type="qwen3_moe", num_experts=3, moe_intermediate_size=12)
    base = make(tmp_path / "base", shapes, config=config)
    tuned = make(tmp_path / "tuned", shapes, 1, config)
    compose(base, tuned, tmp_path / "out", keep, method="magnitude:keep=0.25")
    ours, theirs, out = (loaded(f)[name] for f in (base, tuned, tmp_path / "out"))
    for one, other, made in zip(ours, theirs, out, strict=True):
        kept = magnitude_prune([other - one], torch.ones(1), 0.25) != 0
        whole = torch.where(kept, other, one)
        if keep == "gate_proj":
            assert torch.equal(made, torch.cat([whole[:12], one[12:]]))
        else:
            alpha = 1 if keep == "all" else 0.5
            assert torch.equal(made, whole if alpha == 1 else one + alpha * (whole - one))
        assert int(kept.sum()) == 96


def test_what_a_formula_is_not_for_is_copied(tmp_path) -> None:
    shapes = llama(hidden=64, dtype="F32")
    config = llama_config(hidden=64)
    base, tuned = (make(tmp_path / str(i), shapes, i, config) for i in (0, 1))
    done = compose(base, tuned, tmp_path / "out", method="dg-hard")
    ours, theirs, out = (content(f) for f in (base, tuned, tmp_path / "out"))
    for name, (_, shape) in shapes.items():
        assert (out[name] == theirs[name]) == (len(shape) == 1), name
        assert out[name] != ours[name]
    rows = {row.component: row for row in done.rows}
    assert rows["norm"].tuned.tensors == 5
    assert rows["mlp"].blended.tensors == 6
    assert any("16 tensors; 5 that its formula is not for are kept whole" in n for n in done.notes)


# --- statistics ---------------------------------------------------------------------------------


def measured(folder: Path, shapes, inputs_first: bool = False) -> Path:
    """Statistics of every matrix in a layer, as two files."""
    found: dict[str, torch.Tensor] = {}
    for name, (_, shape) in shapes.items():
        if (len(shape) == 2 and ".0." in name) or (".1." in name and len(shape) == 2):
            width = shape[0] if inputs_first else shape[1]
            x = torch.from_numpy(normal(50, width, seed=len(found)))
            found[f"{name}.inputs"] = 2 / 50 * x.T @ x
            found[f"{name}.sensitivity"] = torch.from_numpy(normal(min(shape), seed=len(found)))
    folder.mkdir()
    names = sorted(found)
    for part, some in enumerate((names[::2], names[1::2])):
        save_file({name: found[name] for name in some}, folder / f"{part}.safetensors")
    return folder


@pytest.mark.parametrize("method", ["safe-delta:s=20", "spectral-surgery:strength=0.9"])
@pytest.mark.parametrize("inputs_first", [False, True])
def test_statistics_are_read_by_the_tensors_names(tmp_path, method, inputs_first) -> None:
    if inputs_first:
        config: dict[str, Any] = GPT2
        shapes = {"transformer.wte.weight": ("F32", (16, 8))}
        for at in ("transformer.h.0.", "transformer.h.1."):
            shapes[f"{at}attn.c_attn.weight"] = ("F32", (8, 24))
            shapes[f"{at}mlp.c_proj.weight"] = ("F32", (32, 8))
            shapes[f"{at}ln_1.weight"] = ("F32", (8,))
    else:
        shapes, config = llama(dtype="F32"), llama_config()
    base, tuned = (make(tmp_path / str(i), shapes, i, config) for i in (0, 1))
    folder = measured(tmp_path / "rows", shapes, inputs_first)
    compose(base, tuned, tmp_path / "out", method=method, statistics=folder)
    ours, theirs, out = (loaded(f) for f in (base, tuned, tmp_path / "out"))
    found = loaded(folder)
    for name in shapes:
        before, after = ours[name].numpy(), theirs[name].numpy()
        needs = METHODS[method.partition(":")[0]].needs
        statistics = {n: found[f"{name}.{n}"].numpy() for n in needs if f"{name}.{n}" in found}
        layer = 0 if statistics else None
        label = a_label(name, before.shape, layer=layer)
        wanted = before + of(
            method,
            after - before,
            before,
            label=label,
            statistics=statistics,
            inputs_first=inputs_first,
        )
        assert np.allclose(out[name].numpy(), wanted, atol=1e-5), name
        if layer is None:  # norms and embeddings
            side = theirs if method.startswith("spectral") else ours
            assert torch.equal(out[name], side[name])
        else:
            assert not np.allclose(wanted, after, atol=1e-3)


def test_the_unaligned_model_is_read_by_the_tensors_names(pair, tmp_path) -> None:
    unaligned = make(tmp_path / "unaligned", seed=2)
    compose(*pair, tmp_path / "out", method="safe-lora:threshold=1", unaligned=unaligned)
    ours, theirs, far, out = (floats(f) for f in (*pair, unaligned, tmp_path / "out"))
    name = "model.layers.1.mlp.up_proj.weight"
    v = ours[name] - far[name]
    wanted = ours[name] + v @ v.T / torch.linalg.norm(v) @ (theirs[name] - ours[name])
    assert torch.allclose(out[name], wanted, rtol=2**-8, atol=1e-3)
    for name in ("model.norm.weight", "lm_head.weight", "model.embed_tokens.weight"):
        assert torch.equal(out[name], theirs[name])


def refused(*args: Any, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        compose(*args, **options)
    return caught.value


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.pop("model.layers.1.mlp.up_proj.weight.inputs"), "has no statistic 'inputs'"),
        (
            lambda t: t.update({"model.layers.1.mlp.up_proj.weight.inputs": torch.ones(3, 3)}),
            "is F32 [3, 3] where floating point [16, 16] is needed",
        ),
        (
            lambda t: t.update(
                {"model.layers.1.mlp.up_proj.weight.inputs": torch.ones(16, 16, dtype=torch.int32)}
            ),
            "is I32 [16, 16] where floating point",
        ),
        (
            lambda t: t["model.layers.1.mlp.up_proj.weight.inputs"].fill_(float("nan")),
            "holds what is not a finite number",
        ),
        (
            lambda t: t["model.layers.1.mlp.up_proj.weight.inputs"].fill_(-1.0),
            "cannot be worked on",
        ),
    ],
)
def test_statistics_that_do_not_belong_are_named_and_nothing_is_written(
    pair, tmp_path, change, told
) -> None:
    folder = measured(tmp_path / "rows", llama())
    tensors = loaded(folder)
    for file in folder.iterdir():
        file.unlink()
    change(tensors)
    save_file(tensors, folder / "all.safetensors")
    error = refused(*pair, tmp_path / "out", method="safe-delta", statistics=folder)
    assert told in error.problem
    assert "model.layers.1.mlp.up_proj.weight" in error.problem
    assert not (tmp_path / "out").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "rows", "tuned"]
    # what is not kept needs no statistics
    compose(*pair, tmp_path / "out", "attention", method="safe-delta", statistics=folder)


@pytest.mark.parametrize("files", [{}, {"notes.txt": b"hello"}, {"a.bin": b"\x80\x02"}])
def test_a_folder_without_statistics_is_refused(pair, tmp_path, files) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    for given in (folder, folder / "none"):
        error = refused(*pair, tmp_path / "out", method="safe-delta", statistics=given)
        assert str(given) in error.problem
        assert isinstance(error, MethodError)
    (folder / "x.safetensors").write_bytes(b"no tensors here")
    error = refused(*pair, tmp_path / "out", method="safe-delta", statistics=folder)
    assert isinstance(error, CheckpointError)


def test_a_statistic_in_two_files_is_refused(pair, tmp_path) -> None:
    folder = measured(tmp_path / "rows", llama())
    (folder / "again.safetensors").write_bytes((folder / "0.safetensors").read_bytes())
    error = refused(*pair, tmp_path / "out", method="safe-delta", statistics=folder)
    assert "again.safetensors" in error.problem


@pytest.mark.parametrize(
    ("options", "problem", "mend"),
    [
        ({"method": "safe-delta"}, "needs statistics of calibration rows (inputs)", "--statistics"),
        ({"method": "spectral-surgery"}, "calibration rows (sensitivity)", "--statistics"),
        ({"method": "safe-lora"}, "needs the model before its alignment", "--unaligned"),
        ({"method": "dare", "statistics": "rows"}, "--statistics has no effect with", "Leave it"),
        ({"method": "wise-ft", "unaligned": "base"}, "--unaligned has no effect", "Leave it"),
        ({"statistics": "rows"}, "--statistics does nothing without --method", "Leave it"),
        ({"unaligned": "base"}, "--unaligned does nothing without --method", "Leave it"),
        ({"method": "magic"}, "no method 'magic'", "magnitude"),
        ({"method": ""}, "no method ''", "magnitude"),
    ],
)
def test_what_a_method_lacks_is_said(pair, tmp_path, options, problem, mend) -> None:
    options = {
        key: str(tmp_path / value) if key != "method" else value for key, value in options.items()
    }
    error = refused(*pair, tmp_path / "out", **options)
    assert problem in error.problem
    assert mend in error.mend
    assert not (tmp_path / "out").exists()


def test_the_output_may_not_lie_in_what_is_read(pair, tmp_path) -> None:
    folder = measured(tmp_path / "rows", llama())
    with pytest.raises(DestinationError):
        compose(*pair, folder / "out", method="safe-delta", statistics=folder)
    unaligned = make(tmp_path / "far", seed=3)
    with pytest.raises(DestinationError):
        compose(*pair, unaligned, method="safe-lora", unaligned=unaligned, overwrite=True)


# --- tensors that are not as usual --------------------------------------------------------------


def test_numbers_that_are_not_finite_are_named_and_nothing_is_written(tmp_path) -> None:
    name, (_, shape) = "model.layers.1.mlp.up_proj.weight", ("F32", (32, 16))
    broken = torch.ones(shape)
    broken[4, 4] = float("inf")
    shapes = llama(dtype="F32")
    base = make(tmp_path / "base", shapes)
    tuned = make(tmp_path / "tuned", shapes, 1, content={name: broken.numpy().tobytes()})
    for method in ("magnitude", "dg-hard", "intruder", "dare"):
        error = refused(base, tuned, tmp_path / "out", method=method)
        assert name in error.problem
        assert not (tmp_path / "out").exists()
    compose(base, tuned, tmp_path / "out", "all - mlp", method="magnitude")


def test_whole_numbers_are_copied_where_they_agree_and_else_refused(tmp_path) -> None:
    shapes = {**llama(), "model.layers.0.self_attn.ids": ("I64", (4,))}
    name = "model.layers.0.self_attn.ids"
    same = {name: payload(name, *shapes[name], 0)}
    base = make(tmp_path / "base", shapes)
    tuned = make(tmp_path / "tuned", shapes, 1, content=same)
    compose(base, tuned, tmp_path / "out", method="magnitude:keep=1")
    assert content(tmp_path / "out") == content(tuned)
    other = make(tmp_path / "other", shapes, 1)
    error = refused(base, other, tmp_path / "out2", method="magnitude:keep=1")
    assert isinstance(error, SelectionError)
    assert name in error.problem


@pytest.mark.parametrize("vocab", ["base", "tuned"])
def test_rows_that_one_side_has_are_that_sides(tmp_path, vocab) -> None:
    base = make(tmp_path / "base", llama(vocabulary=24))
    tuned = make(tmp_path / "tuned", llama(vocabulary=28), 1, llama_config(vocabulary=28))
    compose(base, tuned, tmp_path / "out", method="magnitude:keep=0", vocab=vocab)
    ours, theirs, out = (loaded(f)["lm_head.weight"] for f in (base, tuned, tmp_path / "out"))
    wanted = ours if vocab == "base" else torch.cat([ours, theirs[24:]])
    assert torch.equal(out, wanted)


@pytest.mark.parametrize(("method", "tied"), [("magnitude", True), ("dare", False)])
def test_a_head_with_a_draw_of_its_own_is_untied(tmp_path, method, tied) -> None:
    """Both are on disk and alike; the config says that they are one."""
    config = llama_config(tie_word_embeddings=True)
    head, embedding = "lm_head.weight", "model.embed_tokens.weight"
    folders = []
    for seed in (0, 1):
        same = {head: payload(embedding, *llama()[embedding], seed)}
        folders.append(make(tmp_path / str(seed), seed=seed, config=config, content=same))
    compose(*folders, tmp_path / "out", method=method)
    made = content(tmp_path / "out")
    assert (made[head] == made[embedding]) is tied
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["tie_word_embeddings"] is tied


# --- what is said and recorded ------------------------------------------------------------------


def test_the_record_and_the_card_make_it_again(pair, tmp_path, monkeypatch) -> None:
    folder = measured(tmp_path / "rows", llama())
    options: dict[str, Any] = {"method": "safe-delta:s=30", "statistics": folder}
    compose(*pair, tmp_path / "out", "attention + mlp", **options)
    record = json.loads((tmp_path / "out" / "taia_config.json").read_text())
    settings = record["settings"]
    compose(*pair, tmp_path / "again", record["selection"]["given"], **settings)
    assert content(tmp_path / "again") == content(tmp_path / "out")
    assert settings["method"] == "safe-delta:s=30"
    assert [file["name"] for file in record["statistics"]["files"]] == [
        "0.safetensors",
        "1.safetensors",
    ]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Safe Delta" in card
    assert str(tmp_path) not in card
    line = card.partition("```sh\n")[2].partition("\n")[0]
    words = shlex.split(line)
    assert words[:2] == ["taia", "compose"]
    monkeypatch.chdir(tmp_path)
    words[words.index("--output") + 1] = "third"
    inside(*words[1:])
    assert content(tmp_path / "third") == content(tmp_path / "out")


def test_a_dry_run_says_what_the_method_would_do(pair, tmp_path) -> None:
    before = tree(tmp_path)
    done = compose(*pair, None, method="magnitude:keep=0.3", dry_run=True)
    told = done.to_json()
    assert told["method"] == "magnitude:keep=0.3"
    assert "magnitude:keep=0.3 (Magnitude keep) is calculated for 21 tensors." in told["notes"]
    assert told["total"]["blended"]["tensors"] == 21
    printed = inside("compose", *map(str, pair), "--method", "magnitude:keep=0.3", "--dry-run")
    assert "keep all by magnitude:keep=0.3" in printed.stdout
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["--method", "magnitude:keep=2"], "keep of the method magnitude is 2, which is out of"),
        (["--method", "magnitude:keep=nan"], "has 'keep=nan', which is not a number"),
        (["-m", "sparse"], "There is no method 'sparse'."),
        (["--method", "dare", "--statistics", "rows"], "--statistics has no effect with"),
        (["--statistics", "rows"], "--statistics does nothing without --method."),
    ],
)
def test_what_is_wrong_ends_in_two_lines(pair, tmp_path, typed, line) -> None:
    output = tmp_path / "out"
    ended = inside("compose", *map(str, pair), *typed, "--output", str(output), code=2)
    assert line in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 2
    assert not output.exists()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_composes_or_says_what_it_needs(pair, tmp_path, name) -> None:
    folder = measured(tmp_path / "rows", llama())
    needs = METHODS[name].needs
    statistics = folder if set(needs) - {"unaligned"} else None
    unaligned = pair[0] if "unaligned" in needs else None
    done = compose(*pair, tmp_path / "out", method=name, statistics=statistics, unaligned=unaligned)
    made = floats(tmp_path / "out")
    assert all(torch.isfinite(tensor).all() for tensor in made.values())
    assert done.method is not None
    assert done.method.startswith(name)
