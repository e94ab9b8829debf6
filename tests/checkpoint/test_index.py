from __future__ import annotations

import json
from pathlib import Path

import pytest

from taia.checkpoint.index import Checkpoint
from taia.errors import CheckpointError
from tiny_files import llama, llama_config, write

NAMES = list(llama())
SHARDS = [NAMES[:5], NAMES[5:12], NAMES[12:]]


def sharded(folder: Path) -> Path:
    return write(folder, llama(), shards=SHARDS, config=llama_config())


def edit_index(folder: Path, **weight_map: str | None) -> None:
    file = folder / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    for name, target in weight_map.items():
        index["weight_map"].pop(name, None)
        if target is not None:
            index["weight_map"][name] = target
    file.write_text(json.dumps(index))


def refusal(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(path)
    return caught.value


def test_opens_one_file_and_several(tmp_path: Path) -> None:
    one = Checkpoint.open(write(tmp_path / "one", llama(), config=llama_config()))
    several = Checkpoint.open(sharded(tmp_path / "several"))
    for checkpoint in (one, several):
        assert {n: (e.dtype, e.shape) for n, e in checkpoint.tensors.items()} == llama()
        assert checkpoint.config == llama_config()
    assert len(several.shards) == 3
    assert one.index is None
    assert several.metadata["total_size"] == sum(e.nbytes for e in several.tensors.values())


def test_opens_a_file_by_its_path(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", llama())
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert list(Checkpoint.open(folder / "other.safetensors").tensors) == NAMES
    assert "other.safetensors" in refusal(folder).mend


def test_follows_links_as_the_hub_cache_has_them(tmp_path: Path) -> None:
    real = sharded(tmp_path / "blobs")
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for file in real.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    assert list(Checkpoint.open(snapshot).tensors) == NAMES


@pytest.mark.parametrize(
    "target",
    [
        "../outside.safetensors",
        "/etc/outside.safetensors",
        "sub/outside.safetensors",
        "..\\outside.safetensors",
        "C:outside.safetensors",
        "..",
        "config.json",
        ".hidden.safetensors",
        "nul\0.safetensors",
        "",
    ],
)
def test_refuses_an_index_that_points_elsewhere(tmp_path: Path, target: str) -> None:
    write(tmp_path, {"secret": ("U8", (3,))})
    (tmp_path / "model.safetensors").rename(tmp_path / "outside.safetensors")
    folder = sharded(tmp_path / "m")
    edit_index(folder, secret=target)
    assert "'secret'" in refusal(folder).problem
    assert "own folder" in refusal(folder).mend


def test_refuses_an_index_and_files_that_disagree(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "a")
    edit_index(folder, ghost="model-00001-of-00003.safetensors")
    assert "'ghost'" in refusal(folder).problem
    folder = sharded(tmp_path / "b")
    edit_index(folder, **{NAMES[0]: "model-00002-of-00003.safetensors"})
    assert repr(NAMES[0]) in refusal(folder).problem
    folder = sharded(tmp_path / "c")
    edit_index(folder, **{NAMES[3]: None})
    assert f"{NAMES[3]!r}, which" in refusal(folder).problem
    folder = sharded(tmp_path / "d")
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "'model-00002-of-00003.safetensors', which is not there" in refusal(folder).problem


def test_refuses_a_tensor_in_two_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", llama(), shards=[NAMES, NAMES[:1]])
    assert "in both" in refusal(folder).problem


@pytest.mark.parametrize(
    ("files", "problem", "mend"),
    [
        ({}, "is empty", "model.safetensors"),
        ({"readme.md": b""}, "no safetensors weights", "model.safetensors"),
        ({"pytorch_model.bin": b"x"}, "pickled", "save_pretrained"),
        ({"consolidated.00.pth": b"x"}, "pickled", "save_pretrained"),
        ({"model-q4.gguf": b"GGUF"}, "GGUF", "safetensors"),
        ({"adapter_config.json": b"{}"}, "adapter", "TUNED"),
        ({"a.safetensors": b"", "b.safetensors": b""}, "2 safetensors files", "index"),
        ({"model.safetensors.index.json": b"[]"}, "not a JSON object", "again"),
        ({"model.safetensors.index.json": b"{"}, "not JSON", "again"),
        ({"model.safetensors.index.json": b"{}"}, "weight_map", "again"),
        ({"model.safetensors.index.json": b'{"weight_map":{"a":3}}'}, "'a'", "own folder"),
    ],
)
def test_says_what_there_is_instead(
    tmp_path: Path, files: dict[str, bytes], problem: str, mend: str
) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    error = refusal(tmp_path)
    assert problem in error.problem
    assert mend in error.mend


def test_refuses_single_files_that_are_not_safetensors(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    assert "pickled" in refusal(tmp_path / "pytorch_model.bin").problem
    assert "does not exist" in refusal(tmp_path / "nowhere").problem


def test_refuses_a_config_that_cannot_be_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", llama())
    (folder / "config.json").write_text("{")
    assert "config.json is not JSON" in refusal(folder).problem


def test_refuses_a_checkpoint_without_tensors(tmp_path: Path) -> None:
    assert "no tensor" in refusal(write(tmp_path / "m", {})).problem
