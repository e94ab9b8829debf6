"""Filtering an adapter, seen through what PEFT loads from the result."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from taia.anatomy import Anatomy
from taia.checkpoint.compose import compose
from taia.checkpoint.index import Checkpoint
from taia.errors import (
    AdapterError,
    CheckpointError,
    DestinationError,
    MismatchError,
    SelectionError,
    TaiaError,
)
from taia.selection import Selection
from tiny_adapters import load_adapted, load_base, logits, lora_layers, quiet, save_pair

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def keep(pair, selection, output, **options):
    return compose(*pair, output, selection, **options)


def config_of(folder: Path) -> dict:
    return json.loads((folder / CONFIG).read_text())


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS)


def deltas(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """What an adapter adds to each parameter, by PEFT's own merge."""
    with quiet():
        merged = load_adapted(base, adapter).merge_and_unload().state_dict()
    return {name: merged[name] - tensor for name, tensor in load_base(base).state_dict().items()}


# --- which modules -----------------------------------------------------------------------------

TERMS = {
    "llama": ["attention", "mlp", "q_proj", "o_proj", "up_proj", "down_proj", "all"],
    "gpt2": ["attention", "mlp", "c_attn", "attention.c_proj", "mlp.c_proj", "c_fc", "all"],
}
SLICES = ["", "[0]", "[1:]", "[::2]", "[-1]"]


@st.composite
def selections(draw, name):
    def term() -> str:
        factor = draw(st.sampled_from(["", "", "0.5*", "0*"]))
        return factor + draw(st.sampled_from(TERMS[name])) + draw(st.sampled_from(SLICES))

    text = term()
    for _ in range(draw(st.integers(0, 2))):
        text += draw(st.sampled_from([" + ", " - "])) + term()
    return text


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("with_base", [True, False])
def test_a_module_is_kept_where_its_alpha_is_above_zero(pairs, name, with_base):
    base, adapter = pairs(name)
    checkpoint = Checkpoint.open(base)
    infos = (entry.info for entry in checkpoint.tensors.values())
    anatomy = Anatomy.of_tensors(infos, checkpoint.config)
    model = load_base(base)
    modules = lora_layers(load_adapted(model, adapter))

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(selections(name))
    def check(text):
        alphas = Selection.parse(text).alphas(anatomy)
        alpha = {m: alphas.get(f"{m}.weight", alphas.get(f"{m[12:]}.weight")) for m in modules}
        wanted = {m for m in modules if alpha[m] > 0}
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "out"
            if not wanted:
                with pytest.raises(AdapterError, match="keeps nothing"):
                    keep((base if with_base else None, adapter), text, output)
                assert not output.exists()
                return
            keep((base if with_base else None, adapter), text, output)
            assert lora_layers(load_adapted(model, output)) == wanted
            full, out = weights_of(adapter), weights_of(output)
            for tensor, value in out.items():
                module = tensor.removeprefix("base_model.model.").rpartition(".lora_")[0]
                factor = alpha[module] if "lora_B" in tensor else 1.0
                assert torch.equal(value, full[tensor] * factor)

    check()


def test_target_modules_stay_short_where_they_can(pairs, tmp_path):
    keep(pairs("llama"), "taia", tmp_path / "llama")
    assert config_of(tmp_path / "llama")["target_modules"] == [
        "k_proj",
        "o_proj",
        "q_proj",
        "v_proj",
    ]
    keep(pairs("gpt2"), "taia", tmp_path / "gpt2")
    assert config_of(tmp_path / "gpt2")["target_modules"] == ["attn.c_proj", "c_attn"]


def test_all_of_it_is_the_same_bytes(pairs, tmp_path):
    _, adapter = pair = pairs("llama")
    keep(pair, "tuned", tmp_path / "out")
    assert config_of(tmp_path / "out") == config_of(adapter)
    out, full = weights_of(tmp_path / "out"), weights_of(adapter)
    assert out.keys() == full.keys()
    assert all(torch.equal(out[name], full[name]) for name in full)


def test_no_key_is_added_to_the_config(pairs, tmp_path):
    _, adapter = pair = pairs("llama")
    keep(pair, "attention[1:]", tmp_path / "out")
    assert config_of(tmp_path / "out").keys() == config_of(adapter).keys()


def test_stacked_experts_by_parameter(pairs, tmp_path):
    """Left alone, an update of a stack moves to the outside, where PEFT looks for it."""
    pair = pairs("qwen3-moe")
    keep(pair, "all - re:down_proj", tmp_path / "out")
    config = config_of(tmp_path / "out")
    assert config["target_parameters"] == ["experts.gate_up_proj"]
    full, part = deltas(*pair), deltas(pair[0], tmp_path / "out")
    for name, delta in part.items():
        wanted = torch.zeros_like(delta) if "down_proj" in name else full[name]
        torch.testing.assert_close(delta, wanted, rtol=1e-5, atol=1e-6)


def test_an_adapter_without_mlp_is_its_own_taia(pairs, tmp_path):
    pair = pairs("llama", target_modules=["q_proj", "v_proj"])
    for name, base in (("with", pair[0]), ("without", None)):
        keep((base, pair[1]), "taia", tmp_path / name)
        assert weights_of(tmp_path / name).keys() == weights_of(pair[1]).keys()


# --- fractions, rows, heads --------------------------------------------------------------------


@pytest.mark.parametrize("lora", [{}, {"use_rslora": True}], ids=str)
def test_fractions_scale_the_update(pairs, tmp_path, lora):
    pair = pairs("llama", **lora)
    keep(pair, "0.25*attention + 0.6*mlp", tmp_path / "out")
    full, part = deltas(*pair), deltas(pair[0], tmp_path / "out")
    for name, delta in part.items():
        factor = 0.25 if "self_attn" in name else 0.6
        torch.testing.assert_close(delta, factor * full[name], rtol=1e-4, atol=1e-6)
    assert config_of(tmp_path / "out") == config_of(pair[1])


def test_fractions_of_bfloat16_are_rounded_once_and_said_so(tmp_path):
    pair = save_pair(tmp_path, "llama", torch.bfloat16)
    done = keep(pair, "0.3*attention", tmp_path / "out")
    full, part = weights_of(pair[1]), weights_of(tmp_path / "out")
    for name, value in part.items():
        wanted = (full[name].float() * 0.3).bfloat16() if "lora_B" in name else full[name]
        assert value.dtype == torch.bfloat16
        assert torch.equal(value, wanted)
    assert any("rounded to BF16" in note for note in done.notes)


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize(
    ("name", "selection", "parameter", "axis", "start", "stop"),
    [
        ("llama", "q_proj[:, 1:3]", "self_attn.q_proj.weight", 0, 8, 24),
        ("llama", "o_proj[:, 1:3]", "self_attn.o_proj.weight", 1, 8, 24),
        ("gpt2", "q_proj", "attn.c_attn.weight", 1, 0, 32),
        ("gpt2", "v_proj[:, 3]", "attn.c_attn.weight", 1, 88, 96),
        ("gpt2", "o_proj[:, 0]", "attn.c_proj.weight", 0, 0, 8),
        ("qwen3-moe", "up_proj", "mlp.experts.gate_up_proj", 1, 24, 48),
    ],
)
def test_rows_and_heads(pairs, tmp_path, merge, name, selection, parameter, axis, start, stop):
    pair = pairs(name)
    keep(pair, selection, tmp_path / "out", merge=merge)
    full = deltas(*pair)
    if merge:
        base = load_base(pair[0]).state_dict()
        merged = load_base(tmp_path / "out").state_dict()
        part = {key: merged[key] - base[key] for key in base}
    else:
        part = deltas(pair[0], tmp_path / "out")
    changed = 0
    for key, delta in part.items():
        wanted = torch.zeros_like(delta)
        if key.endswith(parameter):
            run = (slice(None),) * axis + (slice(start, stop),)
            wanted[run] = full[key][run]
            changed += 1
        torch.testing.assert_close(delta, wanted, rtol=1e-4, atol=1e-6, msg=key)
    assert changed == 3


def test_a_fraction_of_dora_is_refused_and_merge_offered(pairs, tmp_path):
    pair = pairs("llama", use_dora=True)
    for selection in ("0.5*attention", "q_proj[:, 1:3]"):
        with pytest.raises(AdapterError, match="DoRA") as caught:
            keep(pair, selection, tmp_path / "out")
        assert "--merge" in caught.value.mend
    assert not (tmp_path / "out").exists()


# --- more than low-rank updates ----------------------------------------------------------------


def test_whole_modules(pairs, tmp_path):
    pair = pairs("llama", modules_to_save=["lm_head", "norm"])
    keep(pair, "all - head", tmp_path / "out")
    assert config_of(tmp_path / "out")["modules_to_save"] == ["norm"]
    adapted = load_adapted(pair[0], tmp_path / "out")
    assert torch.equal(adapted.lm_head.weight, load_base(pair[0]).lm_head.weight)

    done = keep(pair, "all", tmp_path / "all")
    assert any("vLLM" in note for note in done.notes)
    keep(pair, "head", tmp_path / "head")  # no low-rank update is left at all
    adapted = load_adapted(pair[0], tmp_path / "head")
    assert lora_layers(adapted) == set()
    saved = weights_of(pair[1])["base_model.model.lm_head.weight"]
    assert torch.equal(adapted.lm_head.modules_to_save["default"].weight, saved)


def test_a_fraction_of_a_whole_module_needs_the_base(pairs, tmp_path):
    pair = pairs("llama", modules_to_save=["lm_head"])
    with pytest.raises(AdapterError, match=r"lm_head.*needs the base"):
        keep((None, pair[1]), "attention + 0.5*head", tmp_path / "out")
    keep(pair, "attention + 0.5*head", tmp_path / "out")
    name = "base_model.model.lm_head.weight"
    tuned, base = weights_of(pair[1])[name], load_base(pair[0]).lm_head.weight
    wanted = base + 0.5 * (tuned - base)
    torch.testing.assert_close(weights_of(tmp_path / "out")[name], wanted)
    load_adapted(pair[0], tmp_path / "out")


def test_half_of_a_whole_module_is_filled_from_the_base(pairs, tmp_path):
    """PEFT loads all tensors of a module kept whole, or fails."""
    pair = pairs("llama", target_modules=["q_proj"], modules_to_save=["mlp"])
    with pytest.raises(AdapterError, match="needs the base"):
        keep((None, pair[1]), "attention + up_proj", tmp_path / "out")
    keep(pair, "attention + up_proj", tmp_path / "out")
    adapted = load_adapted(pair[0], tmp_path / "out")
    mlp = adapted.model.model.layers[1].mlp.modules_to_save["default"]
    base = load_base(pair[0]).model.layers[1].mlp
    assert torch.equal(mlp.down_proj.weight, base.down_proj.weight)
    assert not torch.equal(mlp.up_proj.weight, base.up_proj.weight)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_biases(pairs, tmp_path, bias):
    pair = pairs("gpt2", bias=bias)
    keep(pair, "taia", tmp_path / "out")
    assert config_of(tmp_path / "out")["bias"] == bias
    got = load_adapted(pair[0], tmp_path / "out").state_dict()
    full, base = load_adapted(*pair).state_dict(), load_base(pair[0]).state_dict()
    block = "base_model.model.transformer.h.1."
    for key in ("attn.c_attn.base_layer.bias", "attn.c_proj.base_layer.bias"):
        assert torch.equal(got[block + key], full[block + key])
    for key in ("c_fc", "c_proj"):
        assert block + f"mlp.{key}.lora_A.default.weight" not in got
        assert torch.equal(got[block + f"mlp.{key}.bias"], base[f"transformer.h.1.mlp.{key}.bias"])

    keep(pair, "c_attn - re:bias", tmp_path / "none")
    assert config_of(tmp_path / "none")["bias"] == "none"


def test_trained_tokens(pairs, tmp_path):
    pair = pairs("tied-llama", trainable_token_indices=[1, 5, 7])
    keep(pair, "attention", tmp_path / "out")
    assert config_of(tmp_path / "out")["trainable_token_indices"] is None
    load_adapted(pair[0], tmp_path / "out")

    keep(pair, "attention + 0.5*embedding", tmp_path / "half")
    name = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    base = load_base(pair[0]).model.embed_tokens.weight[[1, 5, 7]]
    wanted = base + 0.5 * (weights_of(pair[1])[name] - base)
    torch.testing.assert_close(weights_of(tmp_path / "half")[name], wanted)
    load_adapted(pair[0], tmp_path / "half")


def test_adapted_embeddings(pairs, tmp_path):
    pair = pairs("llama", target_modules=["q_proj", "up_proj", "embed_tokens", "lm_head"])
    keep(pair, "0.5*embedding + head", tmp_path / "out")
    assert lora_layers(load_adapted(pair[0], tmp_path / "out")) == {"model.embed_tokens", "lm_head"}
    full, part = deltas(*pair), deltas(pair[0], tmp_path / "out")
    name = "model.embed_tokens.weight"
    torch.testing.assert_close(part[name], 0.5 * full[name], rtol=1e-4, atol=1e-6)


# --- the folder --------------------------------------------------------------------------------


def test_the_folder(pairs, tmp_path):
    base, given = pairs("llama")
    adapter = tmp_path / "adapter"
    shutil.copytree(given, adapter)
    (adapter / "tokenizer.json").write_text("{}")
    (adapter / "chat_template.jinja").write_text("{{ messages }}")
    (adapter / "optimizer.pt").write_bytes(b"state")
    head = "license: mit\nbase_model: other\ntags:\n- lora\n- mine\nlibrary_name: peft\n"
    (adapter / "README.md").write_text(f"---\n{head}---\n# Old\n")
    keep((base, adapter), "taia", tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "README.md",
        CONFIG,
        WEIGHTS,
        "chat_template.jinja",
        "taia_config.json",
        "tokenizer.json",
    ]
    card = (tmp_path / "out" / "README.md").read_text()
    head = card.split("---")[1]
    assert "library_name: peft\n" in head
    assert "license: mit\ntags:\n- lora\n- mine\n" in head
    assert head.count("base_model:") == head.count("library_name:") == 1
    record = json.loads((tmp_path / "out" / "taia_config.json").read_text())
    assert record["selection"] == {"given": "taia", "canonical": "taia"}
    assert record["tuned"]["path"] == str(adapter)


@pytest.mark.parametrize("merge", [False, True])
def test_inputs_are_hashed_whole_when_asked(pairs, tmp_path, merge):
    base, adapter = pairs("llama")
    compose(base, adapter, tmp_path / "out", merge=merge, hash_inputs=True)
    record = json.loads((tmp_path / "out" / "taia_config.json").read_text())
    for side, file in (("base", base / "model.safetensors"), ("tuned", adapter / WEIGHTS)):
        (found,) = (f["sha256"] for f in record[side]["files"] if f["name"] == file.name)
        assert found == hashlib.sha256(file.read_bytes()).hexdigest()


def test_dry_run_counts_and_writes_nothing(pairs, tmp_path):
    pair = pairs("llama")
    done = keep(pair, "attention + 0.5*mlp", None, dry_run=True)
    assert not done.written
    table = {r.component: (r.base.tensors, r.tuned.tensors, r.blended.tensors) for r in done.rows}
    assert table == {"attention": (0, 24, 0), "mlp": (0, 9, 9)}
    assert done.alphas["base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"] == 0.5
    assert list(tmp_path.iterdir()) == []


def test_progress_ends_at_the_whole(pairs, tmp_path):
    seen = []
    keep(pairs("llama"), "taia", tmp_path / "out", progress=lambda *now: seen.append(now))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]


def test_an_output_in_the_way_is_refused(pairs, tmp_path):
    pair = pairs("llama")
    keep(pair, "taia", tmp_path / "out")
    with pytest.raises(DestinationError, match="exists already"):
        keep(pair, "taif", tmp_path / "out")
    keep(pair, "taif", tmp_path / "out", overwrite=True)
    assert config_of(tmp_path / "out")["target_modules"] == ["down_proj", "gate_proj", "up_proj"]


def test_copying_needs_no_torch(pairs, tmp_path):
    base, adapter = pairs("llama")
    code = (
        "import sys; from pathlib import Path\n"
        "from taia.checkpoint.compose import compose\n"
        f"compose(Path({str(base)!r}), Path({str(adapter)!r}), Path({str(tmp_path / 'out')!r}))\n"
        "print([m for m in ('torch', 'numpy', 'safetensors', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


# --- what cannot be -----------------------------------------------------------------------------


@pytest.fixture
def loose(pairs, tmp_path):
    """A copy of an adapter, to spoil."""
    base, adapter = pairs("llama")
    shutil.copytree(adapter, tmp_path / "spoilt")
    return base, tmp_path / "spoilt"


def test_a_pickled_adapter_is_refused(loose, tmp_path):
    (loose[1] / WEIGHTS).rename(loose[1] / "adapter_model.bin")
    with pytest.raises(AdapterError, match="pickle") as caught:
        keep(loose, "taia", tmp_path / "out")
    assert "safe_serialization" in caught.value.mend


def test_a_truncated_adapter_is_refused(loose, tmp_path):
    data = (loose[1] / WEIGHTS).read_bytes()
    (loose[1] / WEIGHTS).write_bytes(data[:-100])
    with pytest.raises(CheckpointError):
        keep(loose, "taia", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_half_an_update_is_refused(loose, tmp_path):
    weights = weights_of(loose[1])
    del weights["base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"]
    save_file(weights, loose[1] / WEIGHTS)
    with pytest.raises(AdapterError, match="no lora_B beside"):
        keep(loose, "taia", tmp_path / "out")


def test_another_rank_than_the_config_says_is_refused(loose, tmp_path):
    config = config_of(loose[1])
    (loose[1] / CONFIG).write_text(json.dumps({**config, "r": 3}))
    with pytest.raises(AdapterError, match="rank 3"):
        keep(loose, "taia", tmp_path / "out")


def test_another_base_is_refused(pairs, tmp_path):
    with pytest.raises(MismatchError, match="none of the modules"):
        keep((pairs("gpt2")[0], pairs("llama")[1]), "taia", tmp_path / "out")
    with pytest.raises(MismatchError, match="q_proj"):
        keep((pairs("qwen3-moe")[0], _wider(pairs, tmp_path)), "taia", tmp_path / "out")


def _wider(pairs, tmp_path):
    """An adapter of a model whose q_proj has more columns."""
    shutil.copytree(pairs("llama")[1], tmp_path / "wider")
    weights = weights_of(tmp_path / "wider")
    wide = {
        name: torch.cat([t, t], 1) if name.endswith("q_proj.lora_A.weight") else t
        for name, t in weights.items()
    }
    save_file({n: t.contiguous() for n, t in wide.items()}, tmp_path / "wider" / WEIGHTS)
    return tmp_path / "wider"


def test_a_selection_that_matches_nothing_is_refused(pairs, tmp_path):
    for base in (pairs("llama")[0], None):
        with pytest.raises(SelectionError):
            keep((base, pairs("llama")[1]), "attention + c_attn", tmp_path / "out")


def test_older_names_are_mended(loose, tmp_path):
    weights = weights_of(loose[1])
    wanted = logits(load_adapted(*loose))
    old = {name.replace(".weight", ".default.weight"): t for name, t in weights.items()}
    save_file(old, loose[1] / WEIGHTS)
    keep(loose, "tuned", tmp_path / "out")
    assert weights_of(tmp_path / "out").keys() == weights.keys()
    assert torch.equal(logits(load_adapted(loose[0], tmp_path / "out")), wanted)


def test_tokens_beyond_the_vocabulary_are_refused(pairs, tmp_path):
    base, given = pairs("tied-llama", trainable_token_indices=[1, 5, 7])
    shutil.copytree(given, tmp_path / "spoilt")
    config = {**config_of(given), "trainable_token_indices": [1, 5, 64]}
    (tmp_path / "spoilt" / CONFIG).write_text(json.dumps(config))
    for merge in (False, True):
        with pytest.raises(AdapterError, match="64 rows"):
            keep((base, tmp_path / "spoilt"), "0.5*all", tmp_path / "out", merge=merge)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_config_makes_it_fail_otherwise_than_it_says(pairs, data):
    """Whatever is in the config, there is an output that loads, or an error that says why not."""
    base, given_adapter = pairs("llama")
    config = config_of(given_adapter)
    names = st.sampled_from(["q_proj", "mlp", "layers.0", "(", "", ".*", "lm_head"])
    anything = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-1, 5),
        st.floats(),
        names,
        st.lists(st.one_of(names, st.integers(0, 3)), max_size=2),
        st.dictionaries(names, st.one_of(st.integers(0, 3), names), max_size=2),
    )
    for key in data.draw(st.sets(st.sampled_from(sorted(config)), min_size=1, max_size=3)):
        config[key] = data.draw(anything)
    with tempfile.TemporaryDirectory() as folder:
        spoilt, output = Path(folder) / "spoilt", Path(folder) / "out"
        shutil.copytree(given_adapter, spoilt)
        (spoilt / CONFIG).write_text(json.dumps(config))
        try:
            keep((base, spoilt), "taia", output)
        except TaiaError:
            assert not output.exists()
        else:
            assert all("mlp" not in name for name in weights_of(output))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 5000), byte=st.integers(0, 255))
def test_no_damage_makes_it_fail_otherwise_than_it_says(pairs, at, byte):
    base, given_adapter = pairs("llama")
    with tempfile.TemporaryDirectory() as folder:
        spoilt, output = Path(folder) / "spoilt", Path(folder) / "out"
        shutil.copytree(given_adapter, spoilt)
        content = bytearray((spoilt / WEIGHTS).read_bytes())
        content[at] = byte
        (spoilt / WEIGHTS).write_bytes(content)
        try:
            keep((base, spoilt), "taia", output)
        except TaiaError:
            assert not output.exists()


def older_expert_adapter(folder, name, leaves, stem):
    """An adapter as transformers 4 had it, every expert's matrices by themselves."""
    base, adapter = save_pair(folder, name)
    weights = {k: v for k, v in weights_of(adapter).items() if "self_attn" in k}
    torch.manual_seed(3)
    for layer in range(3):
        for expert in range(4):
            for leaf in leaves:
                outputs, inputs = (32, 24) if leaf == leaves[-1] else (24, 32)
                path = f"base_model.model.model.layers.{layer}.{stem}.experts.{expert}.{leaf}"
                weights[f"{path}.lora_A.weight"] = torch.randn(4, inputs) * 0.1
                weights[f"{path}.lora_B.weight"] = torch.randn(outputs, 4) * 0.1
    save_file(weights, adapter / WEIGHTS)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", *leaves]
    config = {**config_of(adapter), "target_modules": targets, "target_parameters": None}
    (adapter / CONFIG).write_text(json.dumps(config))
    return base, adapter


@pytest.mark.parametrize(
    ("name", "leaves", "stem"),
    [
        ("qwen3-moe", ["gate_proj", "up_proj", "down_proj"], "mlp"),
        ("mixtral", ["w1", "w3", "w2"], "block_sparse_moe"),
    ],
)
def test_adapters_of_single_experts(tmp_path, name, leaves, stem):
    """PEFT fuses them on loading; the filtered ones as well, and merging agrees."""
    pair = older_expert_adapter(tmp_path, name, leaves, stem)
    tuned = logits(load_adapted(*pair))
    for mode in ("taia", "taif", "tuned"):
        keep(pair, mode, tmp_path / mode)
        keep(pair, mode, tmp_path / f"{mode}-merged", merge=True)
        filtered = logits(load_adapted(pair[0], tmp_path / mode))
        merged = logits(load_base(tmp_path / f"{mode}-merged"))
        assert (filtered - merged).abs().max() < 1e-5
        assert torch.equal(filtered, tuned) == (mode == "tuned")
    done = keep(pair, "mlp[1:]", tmp_path / "some")
    assert any("--merge" in note for note in done.notes)


def test_what_was_whole_gets_no_update_instead(pairs, tmp_path):
    """PEFT does not adapt what it saves whole; once it is not, the list would mean it as well."""
    pair = pairs("llama", target_modules=["q_proj", "lm_head"], modules_to_save=["lm_head"])
    keep(pair, "attention", tmp_path / "out")
    wanted = {f"model.layers.{layer}.self_attn.q_proj" for layer in range(3)}
    assert lora_layers(load_adapted(pair[0], tmp_path / "out")) == wanted
