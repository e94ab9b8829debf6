"""What transformers and PEFT load as it is, checked by loading it."""

import json

import pytest
import torch

from taia.checkpoint.compose import compose
from taia.errors import CheckpointError, InputError, RunError
from taia.export import to_transformers
from taia.export.run import export
from tiny_adapters import load_adapted, load_base, logits, save_pair
from tiny_models import save_llama
from tiny_molora import molora


def test_an_adapter_stays_one_with_its_record(tmp_path):
    base, adapter = save_pair(tmp_path, "llama")
    compose(base, adapter, tmp_path / "taia", "taia")
    done = export(tmp_path / "taia", "transformers", tmp_path / "out")
    for name in ("adapter_model.safetensors", "adapter_config.json", "taia_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "taia" / name).read_bytes()
    assert done.checks[0].measured["difference"] == 0
    assert done.checks[0].measured["effect"] > 0
    assert done.to_json()["output"] == str(tmp_path / "out")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_it_is_the_model_with_the_adapter(tmp_path, dtype):
    base, adapter = save_pair(tmp_path, "llama", dtype)
    done = export(adapter, "transformers", tmp_path / "out", merge=True)
    merged, wanted = logits(load_base(tmp_path / "out")), logits(load_adapted(base, adapter))
    tolerance = (
        {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0, "atol": 0.02}
    )
    torch.testing.assert_close(merged, wanted, **tolerance)
    assert done.checks[0].measured["difference"] < done.checks[0].measured["effect"] / 10
    assert (tmp_path / "out" / "README.md").read_text().count("# out") == 1
    assert not [name for name in done.files if name.startswith(".")]


def test_a_whole_checkpoint_is_copied_and_loaded(tmp_path):
    model = save_llama(tmp_path / "model")
    done = export(model, "transformers", tmp_path / "out")
    assert done.checks[0].measured["difference"] == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        model / "model.safetensors"
    ).read_bytes()
    assert "tokenizer.json" in done.files


def test_molora_stays_molora(tmp_path):
    save_llama(tmp_path / "base")
    tuned = molora()
    tuned.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    tuned.save_pretrained(tmp_path / "adapter")
    done = export(tmp_path / "adapter", "transformers", tmp_path / "out")
    assert done.checks[0].passed
    assert done.checks[0].measured["effect"] > 0
    for target in ("vllm", "gguf", "ollama"):
        with pytest.raises(InputError, match="MoLoRA"):
            export(tmp_path / "adapter", target, tmp_path / target)


def test_an_output_that_differs_is_not_left_behind(tmp_path, monkeypatch):
    _, adapter = save_pair(tmp_path, "llama")
    real = to_transformers.write

    def damaged(job, folder):
        done = real(job, folder)
        file = folder / "adapter_model.safetensors"
        data = bytearray(file.read_bytes())
        data[-6:-4] = b"\x00\x41"  # one number of one B
        file.write_bytes(data)
        return done

    monkeypatch.setattr(to_transformers, "write", damaged)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RunError, match="not the source"):
        export(adapter, "transformers", tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before
    assert export(adapter, "transformers", tmp_path / "out", verify=False).checks == ()


def test_a_part_that_peft_does_not_find_is_an_error(tmp_path, monkeypatch):
    _, adapter = save_pair(tmp_path, "llama")
    real = to_transformers.write

    def narrowed(job, folder):
        done = real(job, folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(
            json.dumps({**config, "target_modules": ["q_proj", "embed_tokens"]})
        )
        return done

    monkeypatch.setattr(to_transformers, "write", narrowed)
    with pytest.raises(RunError):
        export(adapter, "transformers", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_checking_no_base_is_needed(tmp_path):
    base, adapter = save_pair(tmp_path, "llama")
    base.rename(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="--base"):
        export(adapter, "transformers", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export(adapter, "transformers", tmp_path / "out", verify=False)
    assert (tmp_path / "out" / "adapter_config.json").is_file()


def test_names_that_peft_would_ignore_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    _, adapter = save_pair(tmp_path, "llama")
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({k.replace(".weight", ".default.weight"): v for k, v in tensors.items()}, file)
    with pytest.raises(InputError, match="PEFT would ignore"):
        export(adapter, "transformers", tmp_path / "out")


def test_what_is_not_installed_is_said(tmp_path, monkeypatch):
    from taia import packages

    _, adapter = save_pair(tmp_path, "llama")
    real = packages.find_spec
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "gguf" else real(name))
    with pytest.raises(InputError, match="gguf is not installed") as caught:
        export(adapter, "gguf", tmp_path / "out")
    assert "taia[export]" in caught.value.mend
    with pytest.raises(InputError, match="no target"):
        export(adapter, "onnx", tmp_path / "out")
