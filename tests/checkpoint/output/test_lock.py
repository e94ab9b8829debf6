"""Of all processes one at a time works on an output, and the others are told which."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import forks
from outputs import held, names
from taia.checkpoint.output.lock import check_free, hidden, locked
from taia.checkpoint.output.staging import claimed
from taia.errors import DestinationError


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[forks.Process]:
    with held(tmp_path / "out") as process:
        yield process


@pytest.mark.parametrize("spelling", ["out", "./out", "sub/../out", "link", "out/"])
def test_the_running_process_is_named_however_the_output_is_spelt(
    tmp_path: Path, holder: forks.Process, spelling: str
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    with (
        pytest.raises(DestinationError) as caught,
        claimed(Path(f"{tmp_path}/{spelling}")),
    ):
        pytest.fail("the block began")
    assert caught.value.problem == f"Process {holder.pid} is writing {tmp_path / 'out'}."
    assert caught.value.exit_code == 2
    with pytest.raises(DestinationError, match=str(holder.pid)):
        check_free(tmp_path / "out")


def test_another_output_is_free(tmp_path: Path, holder: forks.Process) -> None:
    for other in ("out2", "ou"):
        with claimed(tmp_path / other) as output:
            check_free(output)


def test_what_lies_in_an_output_is_no_output_of_another(
    tmp_path: Path, holder: forks.Process
) -> None:
    with pytest.raises(DestinationError, match=str(holder.pid)):
        check_free(tmp_path / "out" / "inner")
    holder.kill()
    holder.communicate()
    check_free(tmp_path / "out" / "inner")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_dead_process_blocks_nobody_and_leaves_nothing(
    tmp_path: Path, holder: forks.Process, number: signal.Signals
) -> None:
    holder.send_signal(number)
    holder.wait()
    assert names(tmp_path) == ([".out.taia-lock"] if number == signal.SIGKILL else [])
    check_free(tmp_path / "out")
    with claimed(tmp_path / "out"):
        assert names(tmp_path) == [".out.taia-lock"]
    assert names(tmp_path) == []


def test_a_child_that_outlives_its_parent_holds_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with locked(tmp_path / "out"):
        child = os.fork()
        if child == 0:
            os.read(reading, 1)
            os._exit(0)
    with locked(tmp_path / "out") as alone:
        assert alone
    os.write(writing, b"x")
    assert os.waitpid(child, 0)[1] == 0


def test_who_waits_is_next(tmp_path: Path, holder: forks.Process) -> None:
    events: list[str] = []

    def wait() -> None:
        with claimed(tmp_path / "out", wait=True):
            events.append("waited")

    thread = threading.Thread(target=wait)
    thread.start()
    assert events == []
    events.append("the other ends")
    holder.communicate()
    thread.join(60)
    assert events == ["the other ends", "waited"]
    assert names(tmp_path) == []


def test_two_threads_are_two(tmp_path: Path) -> None:
    with (
        claimed(tmp_path / "out"),
        pytest.raises(DestinationError, match=f"Process {os.getpid()} is"),
        claimed(tmp_path / "out"),
    ):
        pytest.fail("the block began")
    with claimed(tmp_path / "out"):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_all_may(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch, holder: forks.Process
) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / "out") as alone:
        assert not alone
    check_free(tmp_path / "out")


def test_parents_that_were_made_for_nothing_go(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b" / "out"):
        assert (tmp_path / "a" / "b").is_dir()
    assert names(tmp_path) == []
    with locked(tmp_path / "a" / "b" / "out"):
        (tmp_path / "a" / "kept").touch()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["kept"]


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("1")
    (tmp_path / ".out.taia-lock").symlink_to("precious")
    with locked(tmp_path / "out") as alone:
        assert not alone
    assert (tmp_path / "precious").read_text() == "1"


@pytest.mark.parametrize("name", ["x" * 240, "x" * 255, "ü" * 120, "模" * 80, "\udcff" * 200])
def test_long_names_have_short_ones_beside_them(tmp_path: Path, name: str) -> None:
    mine = hidden(name)
    assert mine.startswith(f".{name[:20]}" if name.isprintable() else ".")
    assert len(os.fsencode(mine)) < 100
    assert mine != hidden(name[:-1])
    with locked(tmp_path / name) as alone:
        assert alone
        assert names(tmp_path) == [f"{mine}.taia-lock"]
