"""An adapter of a quantised base goes out; merging into it, or writing it as GGUF, is refused."""

import json

import pytest

from taia.errors import InputError
from taia.export.run import export
from tiny_adapters import save_pair

QUANTISED = {
    "QLoRA": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "GPTQ": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    "AWQ": {"quant_method": "awq", "bits": 4},
}


@pytest.fixture(params=QUANTISED)
def adapter(tmp_path, request):
    base, adapter = save_pair(tmp_path, "llama")
    file = base / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "quantization_config": QUANTISED[request.param]}))
    return adapter


@pytest.mark.parametrize("target", ["transformers", "vllm"])
def test_the_adapter_goes_out_byte_for_byte(tmp_path, adapter, target):
    done = export(adapter, target, tmp_path / "out", verify=False)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (adapter / name).read_bytes()
    assert done.checks == ()


def test_the_adapter_goes_out_as_gguf(tmp_path, adapter):
    done = export(adapter, "gguf", tmp_path / "out")
    assert done.files == ("adapter.gguf",)
    assert done.checks[0].measured["difference"] == 0


@pytest.mark.parametrize("target", ["transformers", "vllm", "gguf", "ollama"])
def test_merging_is_refused_with_the_way_out(tmp_path, adapter, target):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="quantised") as caught:
        export(adapter, target, tmp_path / "out", merge=True, verify=False)
    assert "base model" in caught.value.mend or "before it was quantised" in caught.value.mend
    assert sorted(tmp_path.rglob("*")) == before


def test_a_quantised_model_is_no_gguf(tmp_path, adapter):
    with pytest.raises(InputError, match="quantised"):
        export(tmp_path / "base", "gguf", tmp_path / "out", verify=False)
    assert not (tmp_path / "out").exists()
