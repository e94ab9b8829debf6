"""A folder appears whole or not at all, whatever ends the process; killing is in test_killed."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forks
from outputs import NEW, OLD, fill, names, saying
from taia.checkpoint.output.destination import check_output
from taia.checkpoint.output.staging import staged
from taia.errors import DestinationError, OutputError
from taia.signals import GRACE
from tiny_files import tree

pytestmark = pytest.mark.skipif(os.name != "posix", reason="folders are locked and synced on Unix")


def refusal(output: Path, **options: object) -> str:
    with pytest.raises(DestinationError) as caught, staged(output, **options):
        pytest.fail("the block began")
    return str(caught.value)


def cannot_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without renameat2."""

    def missing(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(ctypes, "CDLL", missing)


@pytest.fixture
def unlocked(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A file system without locks."""
    code = getattr(request, "param", errno.ENOLCK)

    def flock(handle: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of an ordinary user's, which the test then is: root may write anywhere."""
    folder = Path(tempfile.mkdtemp())
    was = os.geteuid()
    if was == 0:
        os.chown(folder, 65534, -1)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if was == 0:
            os.seteuid(0)
        for inner in folder.iterdir():
            inner.chmod(0o700)
        shutil.rmtree(folder)


def test_nothing_is_visible_before_the_end(tmp_path: Path) -> None:
    output = tmp_path / "new" / "parents" / "out"
    with staged(output) as folder:
        fill(folder, NEW)
        assert not output.exists()
        assert folder.parent == output.parent
        assert folder.name.startswith(".")
    assert tree(output) == NEW
    assert names(output.parent) == ["out"]


def test_an_empty_folder_may_be_the_output(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with staged(tmp_path / "out") as folder:
        fill(folder, NEW)
        assert names(tmp_path / "out") == []
    assert tree(tmp_path / "out") == NEW
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("can_swap", [True, False])
def test_overwriting_keeps_the_old_until_the_end_and_nothing_of_it_after(
    tmp_path: Path, can_swap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_swap:
        cannot_swap(monkeypatch)
    output = fill(tmp_path / "out", OLD)
    with staged(output, overwrite=True) as folder:
        fill(folder, NEW)
        assert tree(output) == OLD
    assert tree(output) == NEW
    assert names(tmp_path) == ["out"]


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_the_swap_is_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, rename = fill(tmp_path / "out", OLD), Path.rename
    renamed: list[Path] = []
    monkeypatch.setattr(Path, "rename", lambda one, to: (renamed.append(one), rename(one, to))[1])
    with staged(output, overwrite=True) as folder:
        fill(folder, NEW)
    assert tree(output) == NEW
    assert renamed == []


def test_a_failed_second_rename_brings_the_old_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cannot_swap(monkeypatch)
    output, rename = fill(tmp_path / "out", OLD), Path.rename

    def failing(self: Path, target: Path) -> Path:
        if Path(target) == output and not self.name.endswith("-old"):
            raise OSError(errno.EIO, "the disk is sick", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="the disk is sick"), staged(output, True) as folder:
        fill(folder, NEW)
    assert tree(output) == OLD
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError])
def test_an_error_leaves_all_as_it_was(
    tmp_path: Path, there: bool, error: type[BaseException]
) -> None:
    output = tmp_path / "out"
    if there:
        fill(output, OLD)

    def work() -> None:
        with staged(output, overwrite=there) as folder:
            fill(folder, NEW)
            raise error

    with pytest.raises(error):
        work()
    assert names(tmp_path) == (["out"] if there else [])
    assert not there or tree(output) == OLD


@pytest.fixture
def hangups() -> Iterator[None]:
    """SIGHUP means what it does by default, though the tests run under ``nohup``."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_all_as_it_was(tmp_path: Path, number: signal.Signals) -> None:
    output = fill(tmp_path / "out", OLD)
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [signal.getsignal(n) for n in numbers]

    def work() -> None:
        with staged(output, overwrite=True) as folder:
            fill(folder, NEW)
            signal.raise_signal(number)

    with pytest.raises((SystemExit, KeyboardInterrupt)) as caught:
        work()
    if number != signal.SIGINT:
        assert caught.value.code == 128 + number
    assert tree(output) == OLD
    assert names(tmp_path) == ["out"]
    assert [signal.getsignal(n) for n in numbers] == before


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("later", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_that_come_while_the_first_unwinds_do_not_disturb_cleanup(
    tmp_path: Path, first: signal.Signals, later: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = fill(tmp_path / "out", OLD)
    raised = []
    for name in ("unlink", "rmdir", "close"):  # at each step of the cleanup
        call = getattr(os, name)

        def disturbed(*given: Any, call: Any = call, **more: Any) -> None:
            if raised:
                signal.raise_signal(later)
            call(*given, **more)

        monkeypatch.setattr(os, name, disturbed)

    def work() -> None:
        with staged(output, overwrite=True) as folder:
            fill(folder, NEW)
            raised.append(first)
            signal.raise_signal(first)

    with pytest.raises((SystemExit, KeyboardInterrupt)) as caught:
        work()
    raised.clear()
    assert caught.type is (KeyboardInterrupt if first == signal.SIGINT else SystemExit)
    assert tree(output) == OLD
    assert names(tmp_path) == ["out"]


def test_a_signal_that_a_library_swallowed_may_be_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staged(tmp_path / "out") as folder:
        fill(folder, NEW)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        later = time.monotonic() + GRACE
        monkeypatch.setattr(time, "monotonic", lambda: later)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert tree(tmp_path / "out") == NEW


def test_somebody_elses_signal_handler_stays(tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with staged(tmp_path / "out") as folder:
            fill(folder, NEW)
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert tree(tmp_path / "out") == NEW


@pytest.mark.parametrize(
    ("code", "says"),
    [(errno.ENOSPC, "filled up"), (errno.EDQUOT, "filled up"), (errno.EACCES, "could not")],
)
def test_the_disks_errors_are_told(tmp_path: Path, code: int, says: str) -> None:
    with pytest.raises(OutputError, match=says) as caught, staged(tmp_path / "out") as folder:
        raise OSError(code, os.strerror(code), str(folder / "x"))
    assert caught.value.exit_code == 1
    assert names(tmp_path) == []


def test_what_does_not_fit_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="free"), staged(tmp_path / "a" / "out", needed=10**18):
        pytest.fail("the block began")
    assert names(tmp_path) == []


# A process that was killed, and one that lives: both are real.
HOLDER = """
import sys
from taia.checkpoint.output.staging import staged
with staged(sys.argv[1]) as folder:
    (folder / "config.json").write_text("half")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[forks.Process, Path]]:
    with saying(HOLDER, tmp_path / "out") as (process, said):
        yield process, Path(said)


def test_leftovers_go_when_their_process_is_dead_and_stay_while_it_lives(
    tmp_path: Path, holder: tuple[forks.Process, Path]
) -> None:
    process, left = holder
    assert f"Process {process.pid} is writing {tmp_path / 'out'}" in refusal(tmp_path / "out")
    assert f"Process {process.pid}" in refusal(tmp_path / "out", overwrite=True)
    assert tree(left) == {"config.json": b"half"}
    process.kill()
    process.wait()
    assert left.exists()
    with staged(tmp_path / "out", overwrite=True) as folder:
        fill(folder, NEW)
        assert not left.exists()
    assert names(tmp_path) == ["out"]


@pytest.mark.usefixtures("unlocked")
def test_two_at_once_without_locks_the_second_to_end_loses_and_harms_nothing(
    tmp_path: Path, holder: tuple[forks.Process, Path]
) -> None:
    process, _ = holder

    def work() -> None:
        with staged(tmp_path / "out") as folder:
            fill(folder, NEW)
            process.communicate()  # the other one's end

    with pytest.raises(DestinationError, match="in the meantime"):
        work()
    assert tree(tmp_path / "out") == {"config.json": b"half"}
    assert names(tmp_path) == ["out"]


def test_leftovers_are_swept_before_space_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = fill(tmp_path / ".out.taia-tmp-1-0", OLD)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage._replace(free=0 if left.exists() else 10)
    )
    with staged(tmp_path / "out", needed=10):
        pass


def test_leftovers_of_other_outputs_stay(tmp_path: Path) -> None:
    others = [".out2.taia-tmp-1-0", ".o.taia-tmp-1-0", ".out", ".x.taia-tmp-1-0"]
    for name in others:
        (tmp_path / name).mkdir()
    with staged(tmp_path / "out"):
        pass
    with staged(tmp_path / "[ox]*"):
        pass
    assert names(tmp_path) == sorted([*others, "[ox]*", "out"])


def test_leftovers_beside_the_target_of_a_symlink_go(tmp_path: Path) -> None:
    fill(tmp_path / "disk" / "out", OLD)
    (tmp_path / "disk" / ".out.taia-tmp-1-0").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "out")
    with staged(tmp_path / "link", overwrite=True) as folder:
        fill(folder, NEW)
    assert names(tmp_path / "disk") == ["out"]
    assert (tmp_path / "link").is_symlink()
    assert tree(tmp_path / "link") == NEW


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_old_returns_after_a_kill_between_two_renames(tmp_path: Path, overwrite: bool) -> None:
    fill(tmp_path / ".out.taia-tmp-1-0-old", OLD)
    fill(tmp_path / ".out.taia-tmp-1-0", NEW)
    if overwrite:
        with (
            pytest.raises(RuntimeError),
            staged(tmp_path / "out", overwrite=True),
        ):
            raise RuntimeError
    else:
        assert "exists already" in refusal(tmp_path / "out")
    assert tree(tmp_path / "out") == OLD
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("unlocked", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], indirect=True)
def test_file_systems_without_locks_are_written_to(tmp_path: Path, unlocked: None) -> None:
    (tmp_path / ".out.taia-tmp-1-0").mkdir()
    with staged(tmp_path / "out") as folder:
        fill(folder, NEW)
    assert tree(tmp_path / "out") == NEW
    # Nobody can tell whether its process lives.
    assert names(tmp_path) == [".out.taia-tmp-1-0", "out"]


def test_what_is_durable_is_on_the_disk_before_it_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(
        os, "fsync", lambda file: (events.append(str(os.fstat(file).st_ino)), fsync(file))[1]
    )
    monkeypatch.setattr(
        Path, "rename", lambda one, to: (events.append("appears"), rename(one, to))[1]
    )
    output = tmp_path / "out"
    with staged(output) as folder:
        fill(folder, NEW)
    inside = {str(path.stat().st_ino) for path in (output, *output.rglob("*"))}
    assert set(events[: events.index("appears")]) == inside
    assert events[events.index("appears") + 1 :] == [str(tmp_path.stat().st_ino)]
    events.clear()
    with staged(tmp_path / "quick", durable=False) as folder:
        fill(folder, NEW)
    assert events == ["appears"]


def test_a_disk_that_fails_at_the_sync_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = iter([errno.EINVAL, errno.EIO])  # the first: a file system that does not sync

    def fsync(file: int) -> None:
        code = next(codes)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OutputError, match="could not be written"), staged(tmp_path / "out") as f:
        fill(f, {"config.json": b"new"})
    assert names(tmp_path) == []


def test_what_is_there_and_is_no_model_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "home", {"thesis.tex": b"!"})
    assert "not a model" in refusal(tmp_path / "home", overwrite=True)
    assert "exists already" in refusal(tmp_path / "home")
    fill(tmp_path, {"file": b"!"})
    assert "is a file" in refusal(tmp_path / "file", overwrite=True)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert "broken symlink" in refusal(tmp_path / "dangling")
    assert tree(tmp_path) == {"home/thesis.tex": b"!", "file": b"!"}


def test_other_marks_make_other_folders_replaceable(tmp_path: Path) -> None:
    fill(tmp_path / "out", {"results.json": b"{}"})
    with staged(tmp_path / "out", True, ("results.json",)) as folder:
        fill(folder, {"results.json": b"[]"})
    assert tree(tmp_path / "out") == {"results.json": b"[]"}
    fill(tmp_path / "model", OLD)
    with pytest.raises(DestinationError, match="not a model"):
        check_output(tmp_path / "model", [], True, ("results.json",))


@pytest.mark.parametrize(
    ("output", "where"),
    [
        ("base", "is an input"),
        ("link", "is an input"),
        ("base/sub/out", "lies in an input"),
        ("link/out", "lies in an input"),
        (".", "holds an input"),
        ("base/model.safetensors", "is an input"),
    ],
)
def test_inputs_are_never_outputs(tmp_path: Path, output: str, where: str) -> None:
    fill(tmp_path / "base", OLD)
    (tmp_path / "link").symlink_to(tmp_path / "base")
    given = tmp_path / "base" / "model.safetensors" if output.endswith("s") else tmp_path / "base"
    with pytest.raises(DestinationError, match=where):
        check_output(tmp_path / output, [given], overwrite=True)
    assert tree(tmp_path / "base") == OLD


@pytest.mark.parametrize("name", ["nul\0", "long" * 100, "loop/out"])
def test_impossible_names_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises((DestinationError, OutputError)), staged(tmp_path / name):
        pytest.fail("the block began")
    assert names(tmp_path) == ["loop"]


def test_what_may_not_be_written_is_told(place: Path) -> None:
    (place / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"), staged(place / "locked" / "out"):
        pytest.fail("the block began")
    for missing in ("out", "new/out"):  # said before any work is done
        with pytest.raises(OutputError, match="Permission denied"):
            check_output(place / "locked" / missing, [], overwrite=False)
    (place / "shut").mkdir(mode=0o000)
    assert "cannot be listed" in refusal(place / "shut")
    assert "Permission denied" in refusal(place / "shut" / "out")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="these are Linux's")
@pytest.mark.parametrize("place", ["/proc/out", "/proc/deep/er/out", "/sys/out", "/proc/self/out"])
def test_where_permissions_say_yes_and_the_system_no_is_told_beforehand(place):
    with pytest.raises((OutputError, DestinationError)):
        check_output(Path(place), [], False)


def test_looking_whether_a_folder_can_be_written_leaves_nothing(tmp_path):
    before = tmp_path.stat().st_mtime_ns
    assert check_output(tmp_path / "a" / "out", [], False) == tmp_path.resolve() / "a" / "out"
    assert list(tmp_path.iterdir()) == []
    if sys.platform.startswith("linux"):  # the file that is tried has no name
        assert tmp_path.stat().st_mtime_ns == before
