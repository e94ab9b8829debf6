"""Adapters in llama.cpp itself: the same scores and greedy tokens as PEFT's, on the same weights.

The bases are float32 files, so the two programs differ by the order of float32 sums only: scores
that spread over a unit or two then differ by some 1e-6. Gemma is the exception: llama.cpp looks its
GELU up in a table of float16, which leaves some 1e-4.
"""

import importlib.util
import json

import gguf
import pytest
import torch
from peft import PeftModel

import tiny_gguf
import tiny_models
from taia.checkpoint.compose import compose
from taia.errors import AdapterError, InputError, RunError
from taia.export import architectures
from taia.export.run import export
from taia.export.trace import STEPS
from tiny_adapters import load_base, quiet, save_pair

engine = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)
SIZES = {k: v for k, v in tiny_models.LLAMA.items() if k != "num_hidden_layers"}
GRANITE = {
    "attention_multiplier": 0.3,
    "embedding_multiplier": 2.0,
    "residual_multiplier": 0.5,
    "logits_scaling": 3.0,
}
MODELS = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "mistral": ("mistral", {}),
    "granite": ("granite", GRANITE),
    "smollm3": ("smollm3", {"num_hidden_layers": 4}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "phi3": ("phi3", {}),
    "gemma": ("gemma", {"head_dim": 8}),
    "gemma2": ("gemma2", {"head_dim": 8, "query_pre_attn_scalar": 8}),
    "olmo2": ("olmo2", {}),
}


def make(folder, name="llama", **lora):
    """A base, its float32 GGUF file and an adapter of all its linear layers."""
    kind, more = MODELS[name]
    base = tiny_models.model(kind, **{**SIZES, "num_hidden_layers": 2, **more})
    with quiet():
        base.save_pretrained(folder / "base")
    base.name_or_path = str(folder / "base")
    tiny_gguf.save(base, folder / "base.gguf")
    tuned = tiny_models.lora(base, **{"lora_alpha": 8, **lora})
    with quiet():
        tuned.save_pretrained(folder / "adapter")
    return folder / "base.gguf", folder / "adapter"


def llama_cpp_scores(base, adapter, ids):
    """llama.cpp's scores after each token, asked for here and not by taia."""
    from llama_cpp import Llama

    lora = None if adapter is None else str(adapter)
    f32 = {"type_k": 0, "type_v": 0}
    model = Llama(str(base), lora_path=lora, n_ctx=64, logits_all=True, verbose=False, **f32)
    model.eval(ids)
    scores = torch.from_numpy(model.scores[: len(ids)].copy())
    model.close()
    return scores


def peft_scores(folder, adapter, ids):
    model = load_base(folder)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


@engine
@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_says_in_llama_cpp_what_it_says_in_peft(tmp_path, name):
    gguf, adapter = make(tmp_path, name)
    done = export(adapter, "gguf", tmp_path / "out", base_gguf=gguf)
    read, ran = done.checks
    assert read.measured["difference"] == 0
    assert ran.measured["equal"] == STEPS
    close = 1e-3 if name.startswith("gemma") else 1e-5
    assert ran.measured["difference"] < close
    assert ran.measured["effect"] > 0.3


@engine
def test_the_scores_compared_are_llama_cpps_and_the_adapter_is_why_they_agree(tmp_path):
    gguf, adapter = make(tmp_path)
    export(adapter, "gguf", tmp_path / "out", verify=False)
    ids = [3, 77, 200, 4, 9, 250]
    file = tmp_path / "out" / "adapter.gguf"
    ours = llama_cpp_scores(gguf, file, ids)
    torch.testing.assert_close(ours, peft_scores(tmp_path / "base", adapter, ids), **TIGHT)
    alone = llama_cpp_scores(gguf, None, ids)
    torch.testing.assert_close(alone, peft_scores(tmp_path / "base", None, ids), **TIGHT)
    assert (ours - alone).abs().max() > 1


TIGHT = {"rtol": 1e-4, "atol": 1e-4}


@engine
@pytest.mark.parametrize("name", ["llama", "llama-tied"])
def test_without_the_permutation_of_q_and_k_it_is_another_model(tmp_path, name, monkeypatch):
    gguf, adapter = make(tmp_path, name)
    with monkeypatch.context() as patched:
        patched.setattr(architectures, "interleaved", lambda rows, heads: rows)
        with pytest.raises(RunError, match="not the source"):
            export(adapter, "gguf", tmp_path / "out", base_gguf=gguf)
    assert not (tmp_path / "out").exists()
    assert export(adapter, "gguf", tmp_path / "out", base_gguf=gguf).checks[1].passed


@engine
@pytest.mark.parametrize(
    "lora",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2, "up_proj": 7}},
        {"alpha_pattern": {"k_proj": 3.0, "down_proj": 20.0}},
        {
            "use_rslora": True,
            "rank_pattern": {"q_proj": 2},
            "alpha_pattern": {"q_proj": 1.5},
        },
    ],
    ids=lambda lora: "+".join(lora),
)
def test_scales_of_every_kind(tmp_path, lora):
    gguf, adapter = make(tmp_path, **lora)
    ran = export(adapter, "gguf", tmp_path / "out", base_gguf=gguf).checks[1]
    assert ran.measured["equal"] == STEPS
    assert ran.measured["difference"] < 1e-5


@engine
def test_a_fractional_taia_adapter(tmp_path):
    gguf, adapter = make(tmp_path)
    compose(tmp_path / "base", adapter, tmp_path / "part", "attention + 0.5*mlp")
    done = export(tmp_path / "part", "gguf", tmp_path / "out", base_gguf=gguf)
    assert done.checks[1].measured["difference"] < 1e-5
    assert done.use == f"llama-cli -m {gguf} --lora {tmp_path}/out/adapter.gguf"


@engine
def test_an_alpha_of_zero_scales_to_nothing(tmp_path):
    gguf, adapter = make(tmp_path, lora_alpha=0, alpha_pattern={"q_proj": 8})
    ran = export(adapter, "gguf", tmp_path / "out", base_gguf=gguf).checks[1]
    assert ran.measured["difference"] < 1e-5


@engine
def test_a_half_precision_base_is_allowed_what_it_differs_by(tmp_path):
    _, adapter = make(tmp_path)
    half = tiny_gguf.save(load_base(tmp_path / "base"), tmp_path / "half.gguf", half=True)
    ran = export(adapter, "gguf", tmp_path / "out", base_gguf=half).checks[1]
    assert ran.passed
    assert ran.measured["allowed"] < ran.measured["effect"] / 100


@engine
def test_another_models_gguf_is_refused(tmp_path):
    _, adapter = make(tmp_path)
    torch.manual_seed(0)
    other = tiny_models.llama()
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tiny_gguf.save(other, tmp_path / "other.gguf")
    tiny_gguf.save(tiny_models.model("qwen2", **SIZES), tmp_path / "qwen.gguf")
    with pytest.raises(InputError, match="does not answer as the base"):
        export(adapter, "gguf", tmp_path / "out", base_gguf=tmp_path / "other.gguf")
    with pytest.raises((InputError, RunError)):
        export(adapter, "gguf", tmp_path / "out", base_gguf=tmp_path / "qwen.gguf")
    assert not (tmp_path / "out").exists()


def test_without_a_base_gguf_the_file_is_read_back(tmp_path):
    _, adapter = make(tmp_path, alpha_pattern={"k_proj": 3.0})
    (check,) = export(adapter, "gguf", tmp_path / "out").checks
    assert "llama.cpp itself was not run: no --base-gguf" in check.said
    assert check.measured["difference"] < 1e-6


def test_reading_back_sees_one_wrong_number(tmp_path, monkeypatch):
    _, adapter = make(tmp_path)
    real = gguf.GGUFWriter.add_tensor

    def wrong(writer, name, tensor, *rest):
        if name == "blk.1.ffn_up.weight.lora_b":
            tensor = tensor.copy()
            tensor[5, 2] += 0.01
        return real(writer, name, tensor, *rest)

    monkeypatch.setattr(gguf.GGUFWriter, "add_tensor", wrong)
    with pytest.raises(RunError, match="not the source"):
        export(adapter, "gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_interleaving_is_what_the_format_says():
    rows = torch.arange(24.0).reshape(12, 2)
    wanted = torch.from_numpy(tiny_gguf.neighbours(rows.numpy(), 2))
    assert torch.equal(architectures.interleaved(rows, 2), wanted)
    assert not torch.equal(wanted, rows)


def test_what_it_cannot_carry(tmp_path):
    for number, (kind, lora, words) in enumerate(
        [
            ("llama", {"use_dora": True}, "DoRA"),
            ("llama", {"modules_to_save": ["lm_head"]}, "modules_to_save"),
            ("llama", {"lora_bias": True}, "lora_bias"),
            ("tied-llama", {"target_modules": ["q_proj", "lm_head"]}, "lm_head"),
        ]
    ):
        folder = tmp_path / str(number)
        with quiet():
            _, adapter = save_pair(folder, kind, **lora)
        with pytest.raises(AdapterError, match=words) as caught:
            export(adapter, "gguf", folder / "out")
        assert "--merge" in caught.value.mend
        assert not (folder / "out").exists()


@pytest.mark.parametrize("content", [b"", b"GGU", b"PK\x03\x04 a zip"])
def test_a_base_that_is_not_gguf(tmp_path, content):
    _, adapter = make(tmp_path)
    (tmp_path / "odd.gguf").write_bytes(content)
    with pytest.raises(InputError, match="not a GGUF"):
        export(adapter, "gguf", tmp_path / "out", base_gguf=tmp_path / "odd.gguf")
    with pytest.raises(InputError, match="cannot be read"):
        export(adapter, "gguf", tmp_path / "out", base_gguf=tmp_path / "none.gguf")
    with pytest.raises(InputError, match="no use"):
        export(adapter, "vllm", tmp_path / "out", base_gguf=tmp_path / "base.gguf")


@engine
def test_a_truncated_gguf_is_no_traceback(tmp_path):
    gguf, adapter = make(tmp_path)
    gguf.write_bytes(gguf.read_bytes()[:2000])
    with pytest.raises(InputError, match="does not load"):
        export(adapter, "gguf", tmp_path / "out", base_gguf=gguf)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("num_attention_heads", None, "num_attention_heads=None"),
        ("num_hidden_layers", "two", "num_hidden_layers='two', which is not"),
        ("num_attention_heads", 3, "not 3 heads"),
        ("num_hidden_layers", 1, "no name for model.layers.1"),
    ],
)
def test_a_config_that_is_not_the_adapters(tmp_path, key, value, words):
    _, adapter = make(tmp_path)
    file = tmp_path / "base" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(InputError, match=words):
        export(adapter, "gguf", tmp_path / "out", verify=False)
    assert not (tmp_path / "out").exists()


def test_an_architecture_without_names_is_refused_with_those_that_have_some(tmp_path):
    _, adapter = make(tmp_path)
    file = tmp_path / "base" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": "opt"}))
    with pytest.raises(AdapterError, match=r"'opt'.*llama") as caught:
        export(adapter, "gguf", tmp_path / "out", verify=False)
    assert "--merge" in caught.value.mend
    assert not (tmp_path / "out").exists()


@engine
@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox"])
def test_adapters_of_fused_projections(tmp_path, kind):
    """The base's file is taia's own here, which test_gguf_model.py checks."""
    config = {k: v for k, v in SIZES.items() if k != "num_key_value_heads"}
    base = tiny_models.model(kind, **config, num_hidden_layers=2)
    with quiet():
        base.save_pretrained(tmp_path / "base")
        base.name_or_path = str(tmp_path / "base")
        tiny_models.lora(base).save_pretrained(tmp_path / "adapter")
    export(tmp_path / "base", "gguf", tmp_path / "file", outtype="f32", verify=False)
    file = tmp_path / "file" / "model.gguf"
    ran = export(tmp_path / "adapter", "gguf", tmp_path / "out", base_gguf=file).checks[1]
    assert ran.measured["equal"] == STEPS
    assert ran.measured["effect"] > 10 * ran.measured["difference"]
