"""The Modelfile: its lines, and that it stands beside an adapter that was checked."""

import pytest

import tiny_models
from taia.export.run import export
from tiny_adapters import save_pair


@pytest.fixture
def adapter(tmp_path):
    _, adapter = save_pair(tmp_path, "llama")
    return adapter


def test_the_modelfile(tmp_path, adapter):
    tiny_models.tokenizer().save_pretrained(tmp_path / "base")
    done = export(adapter, "ollama", tmp_path / "My out")
    assert done.files == ("Modelfile", "adapter.gguf")
    lines = (tmp_path / "My out" / "Modelfile").read_text().splitlines()
    assert lines[:2] == [f"FROM {tmp_path}/base", "ADAPTER ./adapter.gguf"]
    assert lines[2].startswith('TEMPLATE """{{ range .Messages }}{{ if eq .Role "system" }}')
    assert 'PARAMETER stop "<|im_end|>"' in lines
    assert done.use == f"ollama create 'my out' -f '{tmp_path}/My out'/Modelfile"
    assert "Ollama itself was not run" in done.checks[-1].said
    assert any("chatml" in note for note in done.notes)


def test_an_unknown_chat_template_is_left_out_and_said(tmp_path, adapter):
    made = tiny_models.tokenizer()
    made.chat_template = "{{ messages[0]['content'] }}"
    made.save_pretrained(tmp_path / "base")
    done = export(adapter, "ollama", tmp_path / "out")
    assert "TEMPLATE" not in (tmp_path / "out" / "Modelfile").read_text()
    assert any("TEMPLATE is left out" in note for note in done.notes)


def test_it_builds_on_the_gguf_that_was_given(tmp_path, adapter):
    file = tmp_path / "base.gguf"
    file.write_bytes(b"GGUF")
    export(adapter, "ollama", tmp_path / "out", base_gguf=file, verify=False)
    assert (tmp_path / "out" / "Modelfile").read_text().startswith(f"FROM {file}\n")


@pytest.mark.parametrize("merge", [False, True])
def test_a_whole_model_is_its_own_base(tmp_path, merge):
    base = tiny_models.llama()
    base.name_or_path = str(tiny_models.save_llama(tmp_path / "base"))
    tiny_models.lora(base).save_pretrained(tmp_path / "adapter")
    source = tmp_path / ("adapter" if merge else "base")
    done = export(source, "ollama", tmp_path / "out", merge=merge, outtype="f16")
    assert done.files == ("Modelfile", "model.gguf")
    lines = (tmp_path / "out" / "Modelfile").read_text().splitlines()
    assert lines[0] == "FROM ./model.gguf"
    assert not any(line.startswith("ADAPTER") for line in lines)
    assert any(line.startswith("TEMPLATE") for line in lines)
    assert done.use == f"ollama create out -f {tmp_path}/out/Modelfile"
    assert "Ollama itself was not run" in done.checks[-1].said
