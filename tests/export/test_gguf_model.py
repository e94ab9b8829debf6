"""Whole models as GGUF: the same numbers under llama.cpp's names, and the same answers.

Three oracles that share nothing with the export but the gguf library: a writer of the tests' own,
transformers' reader of GGUF, and llama.cpp itself where it is installed.
"""

import importlib.util
import json
import os
import shutil

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import tiny_gguf
import tiny_models
from taia.checkpoint.compose import compose
from taia.errors import CheckpointError, InputError, OutputError, RunError
from taia.export import architectures, gguf_model
from taia.export.run import export
from taia.export.trace import STEPS
from tiny_adapters import load_base, logits, quiet, save_pair

engine = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)
WIDE = {**tiny_models.LLAMA, "hidden_size": 64, "intermediate_size": 96}
WIDE["max_position_embeddings"] = 128
GPT2 = {"vocab_size": 260, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
GRANITE = {
    "attention_multiplier": 0.3,
    "embedding_multiplier": 2.0,
    "residual_multiplier": 0.5,
    "logits_scaling": 3.0,
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16}
MODELS = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-biases": ("llama", {"attention_bias": True}),
    "llama-ffn-biases": ("llama", {"mlp_bias": True}),
    "mistral": ("mistral", {}),
    "mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "granite": ("granite", GRANITE),
    "smollm3": ("smollm3", {"num_hidden_layers": 4}),
    "qwen2": ("qwen2", {}),
    "qwen2-moe": ("qwen2_moe", {**MOE, "shared_expert_intermediate_size": 64}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "qwen3-moe": ("qwen3_moe", {**MOE, "norm_topk_prob": True, "head_dim": 16}),
    "phi3": ("phi3", {}),
    "phi": ("phi", {}),
    "gemma": ("gemma", {"head_dim": 16}),
    "gemma2": ("gemma2", GEMMA),
    "gemma3": ("gemma3_text", {**GEMMA, "num_hidden_layers": 7}),
    "olmo": ("olmo", {}),
    "olmo2": ("olmo2", {}),
    "gpt2": ("gpt2", GPT2),
    "gpt-neox": ("gpt_neox", {}),
    "starcoder2": ("starcoder2", {}),
    "stablelm": ("stablelm", {}),
    "cohere": ("cohere", {}),
}
#: Those that the tests' own writer knows, and those that transformers reads whole.
WRITTEN = ("llama", "llama-tied", "mistral", "granite", "smollm3", "qwen2", "qwen3", "phi3")
WRITTEN += ("gemma", "gemma2", "olmo2")
READ = ("llama", "llama-tied", "mistral", "qwen2", "phi3", "starcoder2", "stablelm")


def save(folder, name="llama", dtype=torch.float32, tokenizer=True, **config):
    kind, more = MODELS[name]
    settings = more if kind == "gpt2" else {**WIDE, **more}
    model = tiny_models.model(kind, **{**settings, **config})
    for key, parameter in model.named_parameters():
        if parameter.dim() == 1:  # biases and norms that say something
            torch.manual_seed(len(key))
            parameter.data += torch.randn_like(parameter) * 0.1
    with quiet():
        model.to(dtype).save_pretrained(folder)
        if tokenizer:
            tiny_models.tokenizer().save_pretrained(folder)
    return folder


def tensors(file):
    return {each.name: each for each in GGUFReader(file).tensors}


def keys(file):
    return {key: field.contents() for key, field in GGUFReader(file).fields.items()}


def numbers(tensor):
    return torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())


@pytest.mark.parametrize("name", WRITTEN)
def test_every_tensor_and_key_is_what_an_independent_writer_writes(tmp_path, name):
    save(tmp_path / "model", name)
    export(tmp_path / "model", "gguf", tmp_path / "out", outtype="f32", verify=False)
    tiny_gguf.save(load_base(tmp_path / "model"), tmp_path / "oracle.gguf")
    ours, oracle = (tensors(f) for f in (tmp_path / "out" / "model.gguf", tmp_path / "oracle.gguf"))
    assert ours.keys() == oracle.keys()
    for key in oracle:
        torch.testing.assert_close(numbers(ours[key]), numbers(oracle[key]), rtol=0, atol=0)
    said = keys(tmp_path / "out" / "model.gguf")
    for key, value in keys(tmp_path / "oracle.gguf").items():
        if not key.startswith(("GGUF.", "tokenizer.")):
            assert said[key] == value, key


@pytest.mark.parametrize("name", READ)
def test_transformers_reads_the_same_model_from_the_file(tmp_path, name):
    save(tmp_path / "model", name)
    export(tmp_path / "model", "gguf", tmp_path / "out", outtype="f32", verify=False)
    with quiet():
        read = AutoModelForCausalLM.from_pretrained(
            tmp_path / "out", gguf_file="model.gguf", dtype=torch.float32
        )
    torch.testing.assert_close(logits(read.eval()), logits(load_base(tmp_path / "model")))


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_is_read_back_and_llama_cpp_answers_as_transformers(tmp_path, name):
    save(tmp_path / "model", name)
    read, *ran = export(tmp_path / "model", "gguf", tmp_path / "out", outtype="f32").checks
    assert read.measured["equal"] == read.measured["of"] == len(tensors_of(tmp_path / "out"))
    if importlib.util.find_spec("llama_cpp"):
        assert ran[0].said.startswith("llama.cpp")
        assert ran[0].measured["equal"] == STEPS
        gelu = name in ("gemma", "gemma2", "gemma3", "gpt2", "gpt-neox", "starcoder2", "phi")
        assert ran[0].measured["difference"] < (3e-3 if gelu else 2e-5)  # a table of float16


def tensors_of(folder):
    return tensors(folder / "model.gguf")


def test_every_architecture_of_the_table_is_tested():
    assert {kind for kind, _ in MODELS.values()} == architectures.ARCHITECTURES.keys()


@pytest.mark.parametrize("name", ["llama", "llama-tied", "olmo", "mixtral"])
def test_without_the_permutation_of_q_and_k_nothing_is_left(tmp_path, name, monkeypatch):
    if name not in READ and importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("transformers has no reader for it, and llama-cpp-python is not installed")
    save(tmp_path / "model", name)
    before = sorted(tmp_path.iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(architectures, "interleaved", lambda rows, heads: rows)
        with pytest.raises(RunError, match="not the source"):
            export(tmp_path / "model", "gguf", tmp_path / "out", outtype="f32")
    assert sorted(tmp_path.iterdir()) == before
    assert export(tmp_path / "model", "gguf", tmp_path / "out", outtype="f32").checks[-1].passed


def test_one_wrong_number_in_the_file_is_seen(tmp_path, monkeypatch):
    save(tmp_path / "model")
    real = gguf_model.blocks

    def wrong(stored, names):
        for block in real(stored, names):
            if stored.name == "blk.1.ffn_up.weight":
                block = block.copy()
                block[5, 2] += 0.01
            yield block

    with monkeypatch.context() as patched:
        patched.setattr(gguf_model, "blocks", wrong)
        with pytest.raises(RunError, match="20 of 21 tensors"):
            export(tmp_path / "model", "gguf", tmp_path / "out", outtype="f32")
    assert not (tmp_path / "out").exists()


BOUND = {"f32": 0.0, "f16": 2**-11, "bf16": 2**-8, "q8_0": 0.5 / 127 + 2**-10}


@pytest.mark.parametrize("outtype", BOUND)
@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_outtypes_round_as_they_say_and_no_further(tmp_path, name, outtype):
    save(tmp_path / "model", name)
    done = export(tmp_path / "model", "gguf", tmp_path / "out", outtype=outtype)
    assert all(check.passed for check in done.checks)
    export(tmp_path / "model", "gguf", tmp_path / "exact", outtype="f32", verify=False)
    exact = tensors(tmp_path / "exact" / "model.gguf")
    for key, tensor in tensors(tmp_path / "out" / "model.gguf").items():
        wanted, got = numbers(exact[key]), numbers(tensor)
        if wanted.dim() == 1 or key.endswith(("_inp.weight", "position_embd.weight")):
            assert tensor.tensor_type == GGMLQuantizationType.F32
            assert torch.equal(got, wanted)
            continue
        assert tensor.tensor_type == GGMLQuantizationType[outtype.upper()]
        size = wanted.abs()
        if outtype == "q8_0":
            blocks = size.unflatten(-1, (-1, 32))
            size = blocks.amax(-1, keepdim=True).expand_as(blocks).flatten(-2)
        assert ((got - wanted).abs() <= BOUND[outtype] * size + 2**-24).all()
        assert outtype == "f32" or not torch.equal(got, wanted)


@pytest.mark.parametrize(("dtype", "wanted"), [("bfloat16", "BF16"), ("float32", "F16")])
def test_auto_keeps_bf16_and_takes_f16_for_the_rest(tmp_path, dtype, wanted):
    save(tmp_path / "model", dtype=getattr(torch, dtype))
    done = export(tmp_path / "model", "gguf", tmp_path / "out")
    assert f"Matrices are {wanted.lower()}." in done.notes
    file = tmp_path / "out" / "model.gguf"
    assert tensors(file)["blk.0.ffn_up.weight"].tensor_type == GGMLQuantizationType[wanted]
    if wanted == "BF16":
        source = load_file(tmp_path / "model" / "model.safetensors")
        up = source["model.layers.0.mlp.up_proj.weight"].float()
        assert torch.equal(numbers(tensors(file)["blk.0.ffn_up.weight"]), up)


def test_rows_that_are_no_whole_blocks_are_f16(tmp_path):
    save(tmp_path / "model", intermediate_size=72)
    export(tmp_path / "model", "gguf", tmp_path / "out", outtype="q8_0")
    kinds = {key: each.tensor_type for key, each in tensors_of(tmp_path / "out").items()}
    assert kinds["blk.0.ffn_down.weight"] == GGMLQuantizationType.F16
    assert kinds["blk.0.ffn_up.weight"] == GGMLQuantizationType.Q8_0


@pytest.mark.parametrize("lora", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_an_adapter_is_merged_first(tmp_path, lora):
    _, adapter = save_pair(tmp_path, "llama", **lora)
    done = export(adapter, "gguf", tmp_path / "out", merge=True, outtype="f32")
    assert done.files == ("model.gguf",)
    assert done.checks[-1].measured["equal"] == STEPS
    assert done.checks[-1].measured["effect"] > 10 * done.checks[-1].measured["difference"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.gguf"]
    export(adapter, "transformers", tmp_path / "merged", merge=True)
    export(tmp_path / "merged", "gguf", tmp_path / "two", outtype="f32")
    one, two = tensors_of(tmp_path / "out"), tensors_of(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(torch.equal(numbers(one[key]), numbers(two[key])) for key in one)


def test_a_composed_model(tmp_path):
    save(tmp_path / "base")
    tuned = load_base(tmp_path / "base")
    for parameter in tuned.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    with quiet():
        tuned.save_pretrained(tmp_path / "tuned")
    compose(tmp_path / "base", tmp_path / "tuned", tmp_path / "taia", "taia")
    export(tmp_path / "taia", "gguf", tmp_path / "out", outtype="f32")
    found = tensors_of(tmp_path / "out")
    for place, key, name in (
        ("base", "blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight"),
        ("tuned", "blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight"),
    ):
        source = load_file(tmp_path / place / "model.safetensors")
        assert torch.equal(numbers(found[key]), source[name])


def test_shards_are_one_file(tmp_path):
    save(tmp_path / "model", "llama-tied")
    with quiet():
        load_base(tmp_path / "model").save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    for place in ("model", "shards"):
        export(tmp_path / place, "gguf", tmp_path / f"{place}.out", outtype="f32", verify=False)
    one, two = tensors_of(tmp_path / "model.out"), tensors_of(tmp_path / "shards.out")
    assert one.keys() == two.keys()
    assert all(torch.equal(numbers(one[key]), numbers(two[key])) for key in one)


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1000.0,
    "original_max_position_embeddings": 64,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
    "long_factor": [2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6, 2.7],
}
LINEAR = {"rope_type": "linear", "rope_theta": 1000.0, "factor": 2.0}


@engine
@pytest.mark.parametrize(
    ("name", "rope"),
    [("llama", LLAMA3), ("llama", LINEAR), ("qwen2", YARN), ("phi3", LONG)],
    ids=lambda value: value if isinstance(value, str) else value["rope_type"],
)
def test_scaled_positions_are_scaled_in_llama_cpp(tmp_path, name, rope):
    save(tmp_path / "model", name, rope_parameters=rope)
    ran = export(tmp_path / "model", "gguf", tmp_path / "out", outtype="f32").checks[-1]
    assert ran.measured["difference"] < 1e-4
    plain = {"rope_type": "default", "rope_theta": rope["rope_theta"]}
    save(tmp_path / "plain", name, rope_parameters=plain)
    shutil.copy(tmp_path / "model" / "model.safetensors", tmp_path / "plain")
    ids = torch.arange(1, 40)[None]
    with torch.no_grad():
        scaled, unscaled = (load_base(tmp_path / p)(ids).logits for p in ("model", "plain"))
    assert (scaled - unscaled).abs().max() > 0.1  # or nothing was tested


def test_llama3s_factors_are_its_formula(tmp_path):
    """Wavelengths above 64 / 1 are stretched by 8, below 64 / 4 not at all, between by a ramp."""
    save(tmp_path / "model", rope_parameters=LLAMA3)
    export(tmp_path / "model", "gguf", tmp_path / "out", verify=False)
    found = numbers(tensors_of(tmp_path / "out")["rope_freqs.weight"]).tolist()
    wanted = []
    for pair in range(8):
        wavelength = 2 * torch.pi * 500.0 ** (pair / 8)
        smooth = (64 / wavelength - 1) / 3
        ramp = 1 / ((1 - smooth) / 8 + smooth)
        wanted.append(1.0 if wavelength < 16 else 8.0 if wavelength > 64 else ramp)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert sum(1.01 < factor < 7.99 for factor in found) == 1  # all three branches


REFUSED = {
    "another architecture": ({"model_type": "falcon_mamba"}, "falcon_mamba.*llama"),
    "a number for a name": ({"model_type": 3}, "model_type=3"),
    "vision": ({"model_type": "llava"}, "'llava'"),
    "quantised": ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantised"),
    "activation": ({"hidden_act": "relu"}, "'relu'"),
    "positions": (
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
        "'dynamic'",
    ),
    "fewer layers": ({"num_hidden_layers": 1}, "no name for 'model.layers.1"),
    "no layers": ({"num_hidden_layers": -4}, "num_hidden_layers=-4"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_said_is_refused_and_nothing_is_left(tmp_path, why):
    save(tmp_path / "model")
    changed, words = REFUSED[why]
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
    before = sorted(tmp_path.rglob("*"))
    for target in ("gguf", "ollama"):
        with pytest.raises(InputError, match=words) as caught:
            export(tmp_path / "model", target, tmp_path / "out", verify=False)
        assert caught.value.mend
    assert sorted(tmp_path.rglob("*")) == before


def test_a_window_that_llama_cpp_does_not_know_is_refused_or_told(tmp_path):
    save(tmp_path / "qwen", "qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=1)
    with pytest.raises(InputError, match="use_sliding_window"):
        export(tmp_path / "qwen", "gguf", tmp_path / "out")
    save(tmp_path / "mistral", "mistral", sliding_window=100)
    notes = export(tmp_path / "mistral", "gguf", tmp_path / "out").notes
    assert any("sliding window of 100 tokens" in note for note in notes)


def test_numbers_beyond_float16_are_refused(tmp_path):
    save(tmp_path / "model", dtype=torch.bfloat16)
    file = tmp_path / "model" / "model.safetensors"
    found = load_file(file)
    found["model.layers.1.mlp.up_proj.weight"][3, 4] = 1e6
    save_file(found, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"up_proj.*float16") as caught:
        export(tmp_path / "model", "gguf", tmp_path / "out", outtype="f16", verify=False)
    assert "bf16" in caught.value.mend
    assert not (tmp_path / "out").exists()
    export(tmp_path / "model", "gguf", tmp_path / "out", outtype="bf16", verify=False)


@pytest.mark.parametrize("error", [OSError(28, os.strerror(28)), KeyboardInterrupt()])
def test_a_full_disk_or_ctrl_c_leaves_nothing(tmp_path, monkeypatch, error):
    _, adapter = save_pair(tmp_path, "llama")
    before = sorted(tmp_path.iterdir())
    real = gguf_model.blocks

    def failing(stored, names):
        if stored.name == "blk.1.ffn_up.weight":
            raise error
        return real(stored, names)

    monkeypatch.setattr(gguf_model, "blocks", failing)
    wanted = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OutputError
    with pytest.raises(wanted):
        export(adapter, "gguf", tmp_path / "out", merge=True)
    assert sorted(tmp_path.iterdir()) == before


def test_options_that_would_do_nothing_are_refused(tmp_path):
    base, adapter = save_pair(tmp_path, "llama")
    (tmp_path / "base.gguf").write_bytes(b"GGUF")
    for words, source, options in (
        ("--outtype is of no use --to gguf of an adapter", adapter, {"outtype": "f16"}),
        ("--base-gguf is of no use", base, {"base_gguf": tmp_path / "base.gguf"}),
        ("no outtype 'q4_k_m'", base, {"outtype": "q4_k_m"}),
        ("no adapter to merge", base, {"merge": True}),
    ):
        with pytest.raises(InputError, match=words):
            export(source, "gguf", tmp_path / "out", **options)
    with pytest.raises(InputError, match="--outtype is of no use --to vllm"):
        export(base, "vllm", tmp_path / "out", outtype="f16")
    assert not (tmp_path / "out").exists()


def test_what_is_not_the_models_is_left_out(tmp_path):
    """Old checkpoints hold tables that transformers makes itself."""
    save(tmp_path / "model", "gpt2")
    file = tmp_path / "model" / "model.safetensors"
    more = {f"transformer.h.{n}.attn.bias": torch.ones(1, 1, 8, 8) for n in range(2)}
    save_file({**load_file(file), **more}, file, metadata={"format": "pt"})
    done = export(tmp_path / "model", "gguf", tmp_path / "out", outtype="f32")
    assert all(check.passed for check in done.checks)
    assert len(tensors_of(tmp_path / "out")) == 28


def test_a_template_that_is_no_text_is_refused_and_an_outputs_name_is_not(tmp_path):
    base = save(tmp_path / "base")
    name = os.fsdecode(b"n\xffme")
    try:
        (tmp_path / name).touch()
    except OSError:  # not every file system takes it
        name = "n\u202eme"
    (tmp_path / name).unlink(missing_ok=True)
    export(base, "gguf", tmp_path / name, outtype="f32")
    (title,) = [
        field.contents()
        for key, field in GGUFReader(tmp_path / name / "model.gguf").fields.items()
        if key == "general.name"
    ]
    assert title in (r"n\udcffme", r"n\u202eme")
    file = base / "tokenizer_config.json"
    config = json.loads(file.read_text()) | {"chat_template": "\ud800{{ messages }}"}
    file.write_text(json.dumps(config))
    (base / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="half a character"):
        export(base, "gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()
