"""What names a base: whatever it is, a model or two lines."""

from __future__ import annotations

import json
import os

import pytest

from taia.errors import CheckpointError, InputError
from taia.export.run import export
from taia.export.source import read_source
from tiny_adapters import save_pair

NO_PATHS = {
    "too long": "a" * 5000,
    "too long, with folders": "/".join(["a" * 300] * 20),
    "a home of nobody": "~nobody-of-that-name/model",
    "with a null": "a\0b",
    "half a character": "a\ud800/b",
}


@pytest.fixture
def adapter(tmp_path):
    return save_pair(tmp_path, "llama")[1]


def changed(file, **changes):
    config = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("name", NO_PATHS.values(), ids=NO_PATHS)
@pytest.mark.parametrize("revision", [None, "main"])
def test_a_base_that_the_adapter_names_and_no_path_can_be(adapter, name, revision):
    changed(adapter / "adapter_config.json", base_model_name_or_path=name, revision=revision)
    source = read_source(adapter)
    assert name not in source.local_names
    with pytest.raises(CheckpointError, match=r"--base|exist") as caught:
        _ = source.base
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", NO_PATHS.values(), ids=NO_PATHS)
def test_a_base_that_is_given_or_recorded_and_no_path_can_be(adapter, name):
    with pytest.raises(CheckpointError):
        _ = read_source(adapter, name).base
    changed(adapter / "taia_config.json", base={"path": name})
    with pytest.raises(CheckpointError):
        _ = read_source(adapter).base


@pytest.mark.parametrize("value", [5, ["a"], {"a": 1}, True, ""])
@pytest.mark.parametrize("key", ["path", "repo"])
def test_a_record_of_something_else_is_none(adapter, key, value):
    base = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    changed(adapter / "taia_config.json", base={key: value, "commit": value})
    assert str(read_source(adapter).base.path) == base


@pytest.mark.parametrize("name", NO_PATHS.values(), ids=NO_PATHS)
def test_a_base_gguf_that_no_path_can_be(tmp_path, adapter, name):
    with pytest.raises(InputError, match="cannot be read"):
        export(adapter, "gguf", tmp_path / "out", base_gguf=name)
    assert not (tmp_path / "out").exists()


def test_a_base_gguf_that_is_no_file(tmp_path, adapter):
    os.mkfifo(tmp_path / "pipe.gguf")  # opened for reading, it would wait for somebody to write
    for place, said in (("pipe.gguf", "named pipe"), (".", "folder"), ("none", "cannot be read")):
        with pytest.raises(InputError, match=said):
            export(adapter, "gguf", tmp_path / "out", base_gguf=tmp_path / place)
    (tmp_path / "link").symlink_to(adapter / "adapter_config.json")
    with pytest.raises(InputError, match="not a GGUF"):
        export(adapter, "gguf", tmp_path / "out", base_gguf=tmp_path / "link")
