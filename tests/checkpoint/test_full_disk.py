"""A disk that fills up: the error says so, and all is as it was. The disk is real, and small."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from taia.checkpoint.compose import compose
from taia.errors import OutputError
from tiny_files import adapter, llama, llama_config, tree, write

HIDDEN = 32
NAMES = list(llama(hidden=HIDDEN))
#: Bytes free beside what is there; every output takes more than 30 kB.
ROOM = (0, 4096, 8192, 16384, 24576)

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "checkpoint": ("tuned", {"keep": "taia"}),
    "blend": ("tuned", {"keep": "0.5*all"}),
    "adapter": ("adapter", {"keep": "all"}),
    "merge": ("adapter", {"keep": "all", "merge": True}),
}
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder, config = tmp_path_factory.mktemp("inputs"), llama_config(hidden=HIDDEN)
    shapes, shards = llama(hidden=HIDDEN), [NAMES[:5], NAMES[5:12], NAMES[12:]]
    return {
        "base": write(folder / "base", shapes, 1, shards=shards, config=config),
        "tuned": write(folder / "tuned", shapes, 2, config=config),
        "adapter": adapter(folder / "adapter", hidden=HIDDEN, rank=8),
        "old": write(folder / "old", {"x": ("U8", (5,))}, 3, config={}),
    }


@contextmanager
def disk(at: Path, **options: int) -> Iterator[Path]:
    """A small file system of its own."""
    at.mkdir()
    given = ",".join(f"{key}={value}" for key, value in options.items())
    command = ["mount", "-t", "tmpfs", "-o", given, "tmpfs", str(at)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or error
        pytest.skip(f"a small disk cannot be mounted (that needs root on Linux): {reason}")
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every disk look empty, so that it fills up while it is written to."""
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 60))


def refused(inputs: Mapping[str, Path], kind: str, output: Path, there: bool) -> OutputError:
    """Compose where it cannot succeed; all must be as before."""
    tuned, options = KINDS[kind]
    if there:
        shutil.copytree(inputs["old"], output)
    with pytest.raises(OutputError) as caught:
        compose(inputs["base"], inputs[tuned], output, overwrite=there, **options)
    assert caught.value.exit_code == 1
    assert [path.name for path in output.parent.iterdir()] == (["out"] if there else [])
    assert not there or tree(output) == tree(inputs["old"])
    return caught.value


@kinds
@pytest.mark.parametrize("there", [False, True])
def test_a_disk_that_fills_up_keeps_what_was_there_and_nothing_else(
    inputs: Mapping[str, Path], tmp_path: Path, kind: str, there: bool, careless: None
) -> None:
    used = 2 * 4096 if there else 0  # the pages of the old output's two files
    for number, room in enumerate(ROOM):
        # 0 would mean no limit at all.
        with disk(tmp_path / str(number), size=max(4096, used + room)) as place:
            error = refused(inputs, kind, place / "out", there)
            assert "filled up" in error.problem


@kinds
def test_it_succeeds_where_there_is_room(
    inputs: Mapping[str, Path], tmp_path: Path, kind: str, careless: None
) -> None:
    tuned, options = KINDS[kind]
    with disk(tmp_path / "disk", size=1 << 20) as place:
        compose(inputs["base"], inputs[tuned], place / "out", **options)
        compose(inputs["base"], inputs[tuned], tmp_path / "out", **options)
        assert tree(place / "out") == tree(tmp_path / "out")


@kinds
def test_a_disk_without_room_for_another_file(
    inputs: Mapping[str, Path], tmp_path: Path, kind: str, careless: None
) -> None:
    for number in range(2, 6):  # one is the root's
        with disk(tmp_path / str(number), size=1 << 20, nr_inodes=number) as place:
            assert "filled up" in refused(inputs, kind, place / "out", there=False).problem


@kinds
def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    inputs: Mapping[str, Path], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(*_: object, **__: object) -> None:
        pytest.fail("a folder was made")

    with disk(tmp_path / "disk", size=16384 + 4096) as place:  # the lock's block
        (place / "out").mkdir()
        monkeypatch.setattr(Path, "mkdir", made)
        error = refused(inputs, kind, place / "out" / "out", there=False)
    assert "needs" in error.problem
    assert "16.4 kB free" in error.problem


@kinds
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_limit_on_the_size_of_files(
    inputs: Mapping[str, Path], tmp_path: Path, kind: str, there: bool
) -> None:
    """Runs for everybody; the error comes from the same calls as that of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for number, limit in enumerate((100, 4096, 10000)):
        place = tmp_path / str(number)
        place.mkdir()
        if there:
            shutil.copytree(inputs["old"], place / "out")
        tuned, options = KINDS[kind]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OutputError, match="too large"):
                compose(inputs["base"], inputs[tuned], place / "out", overwrite=there, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert [path.name for path in place.iterdir()] == (["out"] if there else [])
        assert not there or tree(place / "out") == tree(inputs["old"])


def test_a_disk_that_fills_up_beside_the_weights_ends_their_writers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tuned = (
        write(tmp_path / name, llama(), seed, config=llama_config())
        for seed, name in enumerate(("base", "tuned"))
    )
    (base / "LICENSE").write_text("of the base")
    before = tree(tmp_path)

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", fill)
        with pytest.raises(OutputError, match="filled up"):
            compose(base, tuned, tmp_path / "out", "taia")
    assert {n: b for n, b in tree(tmp_path).items() if not n.endswith("lock")} == before
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]
    compose(base, tuned, tmp_path / "out", "taia")
    assert (tmp_path / "out" / "LICENSE").read_text() == "of the base"
