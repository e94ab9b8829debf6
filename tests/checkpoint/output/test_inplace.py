"""Outputs that cannot be renamed: what is in them changes places, whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from outputs import NEW, OLD, fill, names
from taia.checkpoint.output import inplace
from taia.checkpoint.output.staging import staged
from taia.errors import DestinationError, OutputError
from tiny_files import tree

pytestmark = pytest.mark.skipif(os.name != "posix", reason="mounts and permissions of POSIX")


@pytest.fixture(params=["mount", "bind", "stood in", "parent not writable"])
def output(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that may be written and not be renamed."""
    parent = Path(tempfile.mkdtemp())
    folder = parent / "the out put"
    folder.mkdir()
    was, libc = os.geteuid(), ctypes.CDLL(None, use_errno=True)
    place = str(folder).encode()
    source, kind, flags = (place, None, 4096) if request.param == "bind" else (b"t", b"tmpfs", 0)
    mounted = request.param in ("mount", "bind")
    if mounted and (was != 0 or libc.mount(source, place, kind, flags, None) != 0):
        parent.rmdir() if not folder.exists() else shutil.rmtree(parent)
        pytest.skip("file systems cannot be mounted here")
    if request.param == "stood in":
        monkeypatch.chdir(folder)
    if request.param == "parent not writable":
        if was == 0:
            os.chown(folder, 65534, -1)
            os.chown(parent, 65534, -1)
            os.seteuid(65534)
        parent.chmod(0o500)
    try:
        yield folder
    finally:
        parent.chmod(0o700)
        os.seteuid(was)
        if mounted:
            libc.umount(place)
        monkeypatch.undo()
        shutil.rmtree(parent)


def everything(folder: Path) -> dict[str, bytes]:
    """What is in a folder, all but our lock."""
    return {name: data for name, data in tree(folder).items() if name != ".taia-lock"}


@pytest.mark.parametrize("there", [False, True])
def test_it_is_filled_and_stays_the_folder_that_it_was(output: Path, there: bool) -> None:
    if there:
        fill(output, OLD)
    before = output.stat().st_ino
    with staged(output, overwrite=there) as folder:
        fill(folder, NEW)
        shown = {n: d for n, d in everything(output).items() if not n.startswith(".taia-tmp")}
        assert shown == (OLD if there else {})
    assert tree(output) == NEW
    assert output.stat().st_ino == before
    assert names(output.parent) == [output.name]


def test_what_is_there_is_not_overwritten_unasked(output: Path) -> None:
    fill(output, OLD)
    with pytest.raises(DestinationError, match="exists already"), staged(output):
        pytest.fail("the block began")
    assert tree(output) == OLD


@pytest.mark.parametrize("there", [False, True])
def test_an_error_leaves_all_as_it_was(output: Path, there: bool) -> None:
    if there:
        fill(output, OLD)

    def work() -> None:
        with staged(output, overwrite=there) as folder:
            fill(folder, NEW)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert tree(output) == (OLD if there else {})


def test_one_process_at_a_time(output: Path) -> None:
    with (
        staged(output) as folder,
        pytest.raises(DestinationError, match=f"Process {os.getpid()}"),
        staged(output, overwrite=True),
    ):
        pytest.fail("the block began")
    assert not folder.exists()


def test_a_file_systems_own_folder_counts_for_nothing(output: Path) -> None:
    (output / "lost+found").mkdir()
    with staged(output) as folder:
        fill(folder, NEW)
    assert tree(output) == NEW
    assert (output / "lost+found").is_dir()


@pytest.mark.parametrize("stop", range(14))
@pytest.mark.parametrize("error", [errno.EIO, None])
def test_stopped_at_any_step_it_is_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, error: int | None
) -> None:
    """By an error of the disk's, and by a kill, which nothing in the process survives."""
    output = fill(tmp_path / "out", OLD)
    hidden = fill(output / ".taia-tmp-1-0", NEW)
    steps = itertools.count()
    real = {name: getattr(Path, name) for name in ("rename", "mkdir", "rmdir", "unlink")}

    def step(name: str):
        def run(*arguments, **options):
            number = next(steps)
            if number == stop or (error is None and number > stop):
                raise OSError(error or errno.EINTR, "stopped", str(arguments[0]))
            return real[name](*arguments, **options)

        return run

    for name in real:
        monkeypatch.setattr(Path, name, step(name))
    if error is None:
        monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with suppress(OSError):
        inplace.swap(hidden, output)
    monkeypatch.undo()
    model = (output / "config.json").is_file()
    if model:
        assert (output / "config.json").read_bytes() in (b"old", b"new")
    if model and (output / "config.json").read_bytes() == b"new":
        assert {n: d for n, d in tree(output).items() if not n.startswith(".taia-")} == NEW
    inplace.sweep(output, ".taia-tmp-")  # the next run
    assert tree(output) in (OLD, NEW)


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from outputs import NEW, OLD, fill, names
from taia.checkpoint.output import inplace
left, rename = int(sys.argv[2]), Path.rename
def dying(self, target):
    global left
    if not left:
        os.kill(os.getpid(), 9)
    left -= 1
    return rename(self, target)
Path.rename = dying
output = Path(sys.argv[1])
inplace.swap(output / ".taia-tmp-1-0", output)
"""


@pytest.mark.parametrize("renames", [0, 2, 4, 6])
def test_killed_for_real(tmp_path: Path, renames: int) -> None:
    output = fill(tmp_path / "out", OLD)
    fill(output / ".taia-tmp-1-0", NEW)
    program = KILLED.format(tests=str(Path(__file__).parents[2]))
    done = subprocess.run([sys.executable, "-c", program, str(output), str(renames)])
    assert done.returncode == -9
    with pytest.raises(DestinationError, match="exists already"), staged(output):
        pass
    assert tree(output) == OLD


def test_read_only_files_and_folders_are_replaced(tmp_path: Path) -> None:
    was = os.geteuid()
    if was == 0:
        os.chown(tmp_path, 65534, -1)
        for parent in tmp_path.parents[:3]:
            parent.chmod(0o755)
        os.seteuid(65534)
    try:
        output = fill(tmp_path / "out", OLD)
        (output / "sub" / "x").chmod(0o400)
        (output / "config.json").chmod(0o400)
        (output / "sub").chmod(0o500)
        with staged(output, overwrite=True) as folder:
            fill(folder, NEW)
        assert tree(output) == NEW
        assert names(tmp_path) == ["out"]
        (output / "sub" / "deep").chmod(0o500)
        inplace.clear(output)
        assert list(output.iterdir()) == []
    finally:
        os.seteuid(was)


def test_a_folder_that_cannot_be_emptied_is_told(tmp_path: Path) -> None:
    fill(tmp_path / "out", OLD)
    original = Path.unlink

    def held(self: Path, *arguments: object, **options: object) -> None:
        if self.name == "model.safetensors":
            raise PermissionError(errno.EPERM, "held", str(self))
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", held)
        with pytest.raises(PermissionError, match=r"model\.safetensors"):
            inplace.clear(tmp_path / "out")
    assert tree(tmp_path / "out") == {"model.safetensors": b"old weights"}  # no model any more


@pytest.mark.parametrize("name", ["x" * 240, "x" * 255, "ü" * 120])
def test_names_as_long_as_the_system_takes(tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    fill(tmp_path / "left", OLD)
    with staged(output) as folder:
        fill(folder, OLD)
    with staged(output, overwrite=True) as folder:
        fill(folder, NEW)
        left = folder.with_name(folder.name.replace(str(os.getpid()), "1"))
        left.mkdir()
    assert tree(output) == NEW
    with staged(output, overwrite=True) as folder:
        assert not left.exists()
        fill(folder, OLD)
    assert tree(output) == OLD
    assert names(tmp_path) == sorted(["left", name])


@pytest.mark.parametrize(
    ("spelling", "place"),
    [("out/", "out"), ("a/../out", "out"), ("./out/.", "out"), ("~/out", "home/out")],
)
def test_spellings_of_an_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with staged(spelling) as folder:
        fill(folder, NEW)
    assert tree(tmp_path) == {f"{place}/{name}": data for name, data in NEW.items()}


def test_who_has_no_home_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DestinationError, match="cannot be an output"), staged("~nobody-such/out"):
        pytest.fail("the block began")
    assert list(tmp_path.iterdir()) == []


def test_a_place_in_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    for output in ("file/out", "file/a/b"):
        with (
            pytest.raises((DestinationError, OutputError), match="file"),
            staged(tmp_path / output),
        ):
            pytest.fail("the block began")
