"""Two sides that are not spelled, sized, tied, typed or cut alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taia.checkpoint.compose import compose
from taia.checkpoint.index import Checkpoint
from taia.errors import MismatchError, SelectionError
from tiny_files import content, llama, llama_config, payload, write

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def make(folder: Path, tensors=None, seed=0, config=None, **more) -> Path:
    return write(
        folder,
        llama() if tensors is None else tensors,
        seed,
        config=llama_config() if config is None else config,
        **more,
    )


def mismatch(base: Path, tuned: Path, **options) -> MismatchError:
    with pytest.raises(MismatchError) as caught:
        compose(base, tuned, base.parent / "out", **options)
    assert not (base.parent / "out").exists()
    return caught.value


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"model_type": "mistral"}, "model_type"),
        ({"num_hidden_layers": 3}, "num_hidden_layers"),
        ({"num_attention_heads": 8}, "num_attention_heads"),
        ({"num_key_value_heads": 1}, "num_key_value_heads"),
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8"),
    ],
)
def test_another_architecture_is_refused(tmp_path, change, key) -> None:
    tuned = make(tmp_path / "tuned", config=llama_config(**change))
    error = mismatch(make(tmp_path / "base"), tuned)
    assert key in error.problem


def test_tensors_of_one_side_are_named(tmp_path) -> None:
    fewer = llama()
    del fewer["model.layers.1.mlp.up_proj.weight"]
    more = llama() | {"model.layers.0.self_attn.q_proj.bias": ("BF16", (16,))}
    base = make(tmp_path / "base")
    assert (
        "'model.layers.1.mlp.up_proj.weight'"
        in mismatch(base, make(tmp_path / "fewer", fewer)).problem
    )
    error = mismatch(base, make(tmp_path / "more", more))
    assert "The tuned model has the tensor 'model.layers.0.self_attn.q_proj.bias'" in error.problem


def test_another_shape_is_named(tmp_path) -> None:
    other = llama() | {"model.layers.1.mlp.up_proj.weight": ("BF16", (33, 16))}
    error = mismatch(make(tmp_path / "base"), make(tmp_path / "tuned", other))
    assert "'model.layers.1.mlp.up_proj.weight' has shape (32, 16) in the base and (33, 16)" in (
        error.problem
    )


def test_quantised_on_one_side_is_refused(tmp_path) -> None:
    other = llama() | {"model.layers.1.mlp.up_proj.weight": ("I8", (32, 16))}
    error = mismatch(make(tmp_path / "base"), make(tmp_path / "tuned", other))
    assert "is BF16 in the base and I8" in error.problem


def test_another_dtype_is_rounded_to_the_base_s(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    load = pytest.importorskip("safetensors.torch").load_file
    base = make(tmp_path / "base")
    tuned = make(tmp_path / "tuned", llama(dtype="F32"), 1)
    done = compose(base, tuned, tmp_path / "out", "taia")
    ours, theirs, out = (load(f / "model.safetensors") for f in (base, tuned, tmp_path / "out"))
    for name, tensor in out.items():
        right = ours[name] if ".mlp." in name else theirs[name].to(torch.bfloat16)
        assert torch.equal(tensor, right)
    assert any("F32" in note and "rounded" in note for note in done.notes)


# --- tied heads


def test_both_tied(tmp_path) -> None:
    config = llama_config(tie_word_embeddings=True)
    base = make(tmp_path / "base", llama(tied=True), 0, config)
    tuned = make(tmp_path / "tuned", llama(tied=True), 1, config)
    done = compose(base, tuned, tmp_path / "out")
    assert HEAD not in content(tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text()) == config
    assert done.notes == ()


def test_only_the_tuned_model_has_a_head_of_its_own(tmp_path) -> None:
    base = make(tmp_path / "base", llama(tied=True), 0, llama_config(tie_word_embeddings=True))
    tuned = make(tmp_path / "tuned", llama(), 1)
    done = compose(base, tuned, tmp_path / "out", "taia")
    out, ours, theirs = content(tmp_path / "out"), content(base), content(tuned)
    assert out[HEAD] == theirs[HEAD]
    assert out[EMBEDDING] == theirs[EMBEDDING]
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["tie_word_embeddings"] is False
    assert any("stands in" in note for note in done.notes)

    compose(base, tuned, tmp_path / "only-embedding", "embedding")
    out = content(tmp_path / "only-embedding")
    assert out[HEAD] == ours[EMBEDDING]  # the base's head is its embedding
    assert out[EMBEDDING] == theirs[EMBEDDING]

    compose(base, tuned, tmp_path / "neither", "attention")
    assert HEAD not in content(tmp_path / "neither")
    config = json.loads((tmp_path / "neither/config.json").read_text())
    assert config["tie_word_embeddings"] is True


def test_a_head_of_its_own_goes_into_the_last_shard_and_the_index(tmp_path) -> None:
    names = list(llama(tied=True))
    base = make(
        tmp_path / "base",
        llama(tied=True),
        config=llama_config(tie_word_embeddings=True),
        shards=[names[:9], names[9:]],
    )
    tuned = make(tmp_path / "tuned", llama(), 1)
    compose(base, tuned, tmp_path / "out", "tuned")
    assert content(tmp_path / "out") == content(tuned)
    opened = Checkpoint.open(tmp_path / "out")
    assert opened.tensors[HEAD].file.name == "model-00002-of-00002.safetensors"
    assert opened.metadata["total_size"] == sum(map(len, content(tuned).values()))


def test_a_head_that_repeats_the_embedding_stays_tied(tmp_path) -> None:
    base = make(tmp_path / "base", llama(tied=True), 0, llama_config(tie_word_embeddings=True))
    same = {HEAD: payload(EMBEDDING, *llama()[EMBEDDING], 1)}
    tuned = make(tmp_path / "tuned", llama(), 1, content=same)
    done = compose(base, tuned, tmp_path / "out")
    assert HEAD not in content(tmp_path / "out")
    assert any("repeats its embedding" in note for note in done.notes)


def test_only_the_base_has_a_head_of_its_own(tmp_path) -> None:
    base = make(tmp_path / "base")
    tuned = make(tmp_path / "tuned", llama(tied=True), 1, llama_config(tie_word_embeddings=True))
    done = compose(base, tuned, tmp_path / "out", "head")
    out = content(tmp_path / "out")
    assert out[HEAD] == content(tuned)[EMBEDDING]
    assert out[EMBEDDING] == content(base)[EMBEDDING]
    assert any("ties its head" in note for note in done.notes)


def test_a_tied_head_on_disk_is_untied_when_it_would_differ(tmp_path) -> None:
    config = llama_config(tie_word_embeddings=True)
    base, tuned = (make(tmp_path / s, llama(), n, config) for n, s in enumerate(("b", "t")))
    compose(base, tuned, tmp_path / "both", "embedding + head")
    assert json.loads((tmp_path / "both/config.json").read_text()) == config
    compose(base, tuned, tmp_path / "one", "embedding")
    changed = json.loads((tmp_path / "one/config.json").read_text())
    assert changed == {**config, "tie_word_embeddings": False}


def head_only() -> dict:
    """A tied pair kept as its head."""
    return {name: value for name, value in llama().items() if name != EMBEDDING}


TIED = llama_config(tie_word_embeddings=True)


def test_a_tied_model_kept_as_its_head_is_the_tuned_one(tmp_path) -> None:
    tuned = make(tmp_path / "tuned", head_only(), 1, TIED)
    theirs = content(tuned)
    for name, tensors, config in (("tied", llama(tied=True), TIED), ("untied", llama(), None)):
        base = make(tmp_path / name, tensors, 0, config)
        done = compose(base, tuned, tmp_path / f"{name}-out", "tuned")
        out = content(tmp_path / f"{name}-out")
        assert out.keys() == tensors.keys()
        assert out[EMBEDDING] == theirs[HEAD]
        assert all(out[key] == theirs[key] for key in out.keys() & theirs.keys())
        assert any("ties its head" in note for note in done.notes)
        compose(base, tuned, tmp_path / f"{name}-kept", "attention")
        assert content(tmp_path / f"{name}-kept")[EMBEDDING] == content(base)[EMBEDDING]


def test_a_tied_model_kept_as_its_head_is_the_base(tmp_path) -> None:
    base = make(tmp_path / "base", head_only(), 0, TIED)
    tuned = make(tmp_path / "tuned", llama(tied=True), 1, TIED)
    compose(base, tuned, tmp_path / "out", "taia")
    out = content(tmp_path / "out")
    assert out.keys() == head_only().keys()
    assert out[HEAD] == content(tuned)[EMBEDDING]
    assert json.loads((tmp_path / "out/config.json").read_text()) == TIED
    compose(base, tuned, tmp_path / "less", "attention")
    assert content(tmp_path / "less")[HEAD] == content(base)[HEAD]


def test_a_tied_model_kept_as_its_head_becomes_untied(tmp_path) -> None:
    base = make(tmp_path / "base", head_only(), 0, TIED)
    tuned = make(tmp_path / "tuned", llama(), 1)
    compose(base, tuned, tmp_path / "out", "embedding")
    out = content(tmp_path / "out")
    assert out[EMBEDDING] == content(tuned)[EMBEDDING]
    assert out[HEAD] == content(base)[HEAD]
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["tie_word_embeddings"] is False
    compose(base, tuned, tmp_path / "neither", "attention")
    assert content(tmp_path / "neither").keys() == head_only().keys()


def test_two_tied_models_kept_as_their_heads(tmp_path) -> None:
    base, tuned = (make(tmp_path / s, head_only(), n, TIED) for n, s in enumerate(("b", "t")))
    done = compose(base, tuned, tmp_path / "out", "tuned")
    assert content(tmp_path / "out") == content(tuned)
    assert done.notes == ()


# --- vocabularies


@pytest.fixture(params=[(24, 30), (30, 24)], ids=["grown", "shrunk"])
def resized(request, tmp_path) -> tuple[Path, Path, int, int]:
    mine, theirs = request.param
    base = make(tmp_path / "base", llama(vocabulary=mine), 0, llama_config(vocabulary=mine))
    tuned = make(tmp_path / "tuned", llama(vocabulary=theirs), 1, llama_config(vocabulary=theirs))
    (base / "tokenizer.json").write_text("base")
    (tuned / "tokenizer.json").write_text("tuned")
    return base, tuned, mine, theirs


def test_vocabularies_of_two_sizes_need_a_choice(resized) -> None:
    base, tuned, mine, theirs = resized
    error = mismatch(base, tuned)
    assert f"{mine} rows in the base and {theirs}" in error.problem
    assert "--vocab" in error.mend


@pytest.mark.parametrize("keep", ["taia", "attention", "0.5*all"])
@pytest.mark.parametrize("vocab", ["base", "tuned"])
def test_rows_come_from_whoever_has_them(resized, tmp_path, vocab, keep) -> None:
    torch = pytest.importorskip("torch")
    base, tuned, mine, theirs = resized
    rows = mine if vocab == "base" else theirs
    compose(base, tuned, tmp_path / "out", keep, vocab=vocab)
    out, ours, others = content(tmp_path / "out"), content(base), content(tuned)
    alpha = {"taia": 1.0, "attention": 0.0, "0.5*all": 0.5}[keep]
    for name in (HEAD, EMBEDDING):
        one, two = (
            torch.frombuffer(bytearray(side[name]), dtype=torch.bfloat16).view(-1, 16)
            for side in (ours, others)
        )
        both = min(mine, theirs)
        a, b = one[:both].float(), two[:both].float()
        expected = torch.cat(
            [
                (a + alpha * (b - a)).bfloat16() if alpha % 1 else (two if alpha else one)[:both],
                (one if mine > theirs else two)[both:rows],
            ]
        )
        got = torch.frombuffer(bytearray(out[name]), dtype=torch.bfloat16).view(-1, 16)
        assert torch.equal(got, expected)
    assert json.loads((tmp_path / "out/config.json").read_text())["vocab_size"] == rows
    assert (tmp_path / "out/tokenizer.json").read_text() == vocab


# --- names and experts


def mixtral(experts: str, count: int = 3) -> dict[str, tuple[str, tuple[int, ...]]]:
    """A Mixtral under its older names, or with experts fused under its newer ones."""
    tensors = {name: tensor for name, tensor in llama(1).items() if ".mlp." not in name}
    at = "model.layers.0"
    if experts == "fused":
        tensors |= {
            f"{at}.mlp.gate.weight": ("BF16", (count, 16)),
            f"{at}.mlp.experts.gate_up_proj": ("BF16", (count, 64, 16)),
            f"{at}.mlp.experts.down_proj": ("BF16", (count, 16, 32)),
        }
    else:
        at = f"{at}.block_sparse_moe"
        tensors[f"{at}.gate.weight"] = ("BF16", (count, 16))
        for number in range(count):
            for part, shape in (("w1", (32, 16)), ("w3", (32, 16)), ("w2", (16, 32))):
                tensors[f"{at}.experts.{number}.{part}.weight"] = ("BF16", shape)
    return tensors


CONFIG = llama_config(1, model_type="mixtral", num_local_experts=3)


def fuse(apart: dict[str, bytes], count: int = 3) -> dict[str, bytes]:
    """The same weights with experts fused: the definition, in plain bytes."""
    old, new = "model.layers.0.block_sparse_moe", "model.layers.0.mlp"
    result = {name: data for name, data in apart.items() if old not in name}
    result[f"{new}.gate.weight"] = apart[f"{old}.gate.weight"]
    single = [
        {part: apart[f"{old}.experts.{n}.{part}.weight"] for part in ("w1", "w2", "w3")}
        for n in range(count)
    ]
    result[f"{new}.experts.gate_up_proj"] = b"".join(one["w1"] + one["w3"] for one in single)
    result[f"{new}.experts.down_proj"] = b"".join(one["w2"] for one in single)
    return result


@pytest.mark.parametrize("keep", ["tuned", "base", "taia", "experts"])
@pytest.mark.parametrize("layouts", [("apart", "fused"), ("fused", "apart")])
def test_experts_apart_and_fused(tmp_path, layouts, keep) -> None:
    base = make(tmp_path / "base", mixtral(layouts[0]), 0, CONFIG)
    tuned = make(tmp_path / "tuned", mixtral(layouts[1]), 1, CONFIG)
    done = compose(base, tuned, tmp_path / "out", keep)
    out, ours, theirs = content(tmp_path / "out"), content(base), content(tuned)
    assert out.keys() == ours.keys()  # laid out like the base
    if layouts[0] == "apart":
        out, ours = fuse(out), fuse(ours)
    else:
        theirs = fuse(theirs)
    for name, data in out.items():
        kept = {
            "tuned": True,
            "base": False,
            "taia": ".mlp." not in name,
            "experts": ".experts." in name,
        }[keep]
        assert data == (theirs if kept else ours)[name], name
    assert any("experts" in note for note in done.notes)


def test_experts_fused_and_blended(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    base = make(tmp_path / "base", mixtral("fused"), 0, CONFIG)
    tuned = make(tmp_path / "tuned", mixtral("apart"), 1, CONFIG)
    compose(base, tuned, tmp_path / "out", "0.5*experts")
    name = "model.layers.0.mlp.experts.gate_up_proj"
    a, b, got = (
        torch.frombuffer(bytearray(data[name]), dtype=torch.bfloat16)
        for data in (content(base), fuse(content(tuned)), content(tmp_path / "out"))
    )
    assert torch.equal(got, (a.float() + 0.5 * (b.float() - a.float())).bfloat16())


def test_experts_that_do_not_fit_are_refused(tmp_path) -> None:
    base = make(tmp_path / "base", mixtral("apart"), 0, CONFIG)
    four = make(tmp_path / "four", mixtral("fused", 4), 1, CONFIG)
    assert "number of experts" in mismatch(base, four).problem
    turned = mixtral("fused") | {"model.layers.0.mlp.experts.gate_up_proj": ("BF16", (3, 16, 64))}
    error = mismatch(base, make(tmp_path / "turned", turned, 1, CONFIG))
    assert "experts out differently" in error.problem
    assert "save_pretrained" in error.mend


@pytest.mark.parametrize("older", ["base", "tuned"])
def test_a_prefix_on_one_side(tmp_path, older) -> None:
    plain = {
        "wte.weight": ("F32", (10, 8)),
        "wpe.weight": ("F32", (6, 8)),
        "h.0.ln_1.weight": ("F32", (8,)),
        "h.0.attn.c_attn.weight": ("F32", (8, 24)),
        "h.0.attn.c_proj.weight": ("F32", (8, 8)),
        "h.0.mlp.c_fc.weight": ("F32", (8, 32)),
        "h.0.mlp.c_proj.weight": ("F32", (32, 8)),
        "ln_f.weight": ("F32", (8,)),
    }
    config = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 10}
    masks = {"h.0.attn.bias": ("F32", (1, 1, 6, 6)), "h.0.attn.masked_bias": ("F32", ())}
    old = make(tmp_path / "old", plain | masks, 0, config)
    new = make(tmp_path / "new", {f"transformer.{name}": t for name, t in plain.items()}, 1, config)
    base, tuned = (old, new) if older == "base" else (new, old)
    done = compose(base, tuned, tmp_path / "out", "taia")
    out, ours, theirs = content(tmp_path / "out"), content(base), content(tuned)
    assert out.keys() == ours.keys()
    for name, data in out.items():
        bare = name.removeprefix("transformer.")
        other = f"transformer.{bare}" if older == "base" else bare
        kept = "mlp" not in bare and bare not in masks
        assert data == (theirs[other] if kept else ours[name])
    assert any("other names" in note for note in done.notes)
    assert any("causal masks" in note for note in done.notes)


def test_layers_that_transformers_does_not_load_are_the_base_s(tmp_path) -> None:
    extra = {
        name.replace("layers.0.", "layers.2."): tensor
        for name, tensor in llama().items()
        if "layers.0." in name
    }
    base = make(tmp_path / "base", llama() | extra)
    tuned = make(tmp_path / "tuned", llama(), 1)
    done = compose(base, tuned, tmp_path / "out", "tuned")
    out = content(tmp_path / "out")
    assert all(out[name] == content(base)[name] for name in extra)
    assert all(out[name] == data for name, data in content(tuned).items())
    assert any("does not load" in note for note in done.notes)


# --- config


def test_positions_come_with_the_attention(tmp_path) -> None:
    base = make(tmp_path / "base", config=llama_config(rope_theta=1e4))
    tuned = make(tmp_path / "tuned", config=llama_config(rope_theta=1e6))
    for keep, theta in (("taia", 1e6), ("taif", 1e4)):
        done = compose(base, tuned, tmp_path / keep, keep)
        assert json.loads((tmp_path / keep / "config.json").read_text())["rope_theta"] == theta
        assert any("positions" in note for note in done.notes)


def test_the_two_spellings_of_positions_are_one(tmp_path) -> None:
    base = make(tmp_path / "base", config=llama_config(rope_theta=1e4, rope_scaling=None))
    five = {"rope_theta": 1e4, "rope_type": "default"}
    tuned = make(tmp_path / "tuned", seed=1, config=llama_config(rope_parameters=five))
    done = compose(base, tuned, tmp_path / "out")
    assert (tmp_path / "out/config.json").read_bytes() == (base / "config.json").read_bytes()
    assert done.notes == ()


@pytest.mark.parametrize(
    ("dtype", "scale", "shape"),
    [("I8", "SCB", (1,)), ("U8", "weight.absmax", (4,)), ("I8", "weight_scale", (1,))],
)
def test_rows_of_quantised_weights_do_not_part_from_their_scales(
    tmp_path, dtype, scale, shape
) -> None:
    path = "model.layers.0.self_attn.q_proj"
    shapes = llama() | {f"{path}.weight": (dtype, (16, 16)), f"{path}.{scale}": ("F32", shape)}
    base, tuned = make(tmp_path / "base", shapes), make(tmp_path / "tuned", shapes, 1)
    with pytest.raises(SelectionError, match="matches none"):
        compose(base, tuned, tmp_path / "out", "q_proj[0, 0:2] + norm")
    assert not (tmp_path / "out").exists()
    compose(base, tuned, tmp_path / "whole", "q_proj[0]")
    found, wanted = content(tmp_path / "whole"), content(tuned)
    assert all(found[name] == wanted[name] for name in wanted if path in name)


def test_rows_of_quantised_weights_take_the_scales_of_their_rows(tmp_path) -> None:
    path = "model.layers.0.self_attn.q_proj"
    shapes = llama() | {f"{path}.weight": ("I8", (16, 16)), f"{path}.SCB": ("F32", (16,))}
    base, tuned = make(tmp_path / "base", shapes), make(tmp_path / "tuned", shapes, 1)
    compose(base, tuned, tmp_path / "out", "q_proj[0, 0:2]")
    out, ours, theirs = map(content, (tmp_path / "out", base, tuned))
    for name, half in ((f"{path}.weight", 128), (f"{path}.SCB", 32)):
        assert out[name] == theirs[name][:half] + ours[name][half:]
