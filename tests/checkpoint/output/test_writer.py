"""Bytes are the sources' own, however they get into the output: copied or cloned, in any layout."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from taia.checkpoint.compose import compose
from taia.checkpoint.output import writer
from tiny_files import content, llama, llama_config, write

#: Tensors of up to 64 blocks, so that there is something to share.
HIDDEN = 256
NAMES = list(llama(hidden=HIDDEN))
FICLONERANGE = 0x4020940D
BLOCK = 4096


class Disk:
    """A kernel whose file system shares whole blocks, or cannot."""

    def __init__(self, refuses: int | None = None) -> None:
        self.refuses, self.cloned, self.asked = refuses, 0, 0

    def ioctl(self, handle: int, request: int, argument: bytes) -> int:
        assert request == FICLONERANGE
        source, first, size, position = struct.unpack("qQQQ", argument)
        self.asked += 1
        if self.refuses is not None:
            raise OSError(self.refuses, os.strerror(self.refuses))
        if first % BLOCK or size % BLOCK or position % BLOCK or not size:
            raise OSError(errno.EINVAL, "not whole blocks")
        assert first + size <= os.fstat(source).st_size
        assert position + size <= os.fstat(handle).st_size
        os.pwrite(handle, os.pread(source, size, first), position)
        self.cloned += size
        return 0


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder, config = tmp_path_factory.mktemp("inputs"), llama_config(hidden=HIDDEN)
    shapes, shards = llama(hidden=HIDDEN), [NAMES[:5], NAMES[5:12], NAMES[12:]]
    return {
        "base": write(folder / "base", shapes, 1, shards=shards, config=config),
        "alike": write(folder / "alike", shapes, 2, shards=shards, config=config),
        "one file": write(folder / "one", shapes, 3, config=config),
    }


@pytest.mark.parametrize("keep", ["taia", "none", "all", "0.5*mlp", "attention[:, 0] + norm"])
@pytest.mark.parametrize("tuned", ["alike", "one file"])
@pytest.mark.parametrize("refuses", [None, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY])
def test_what_is_cloned_is_what_would_be_copied(
    inputs: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keep: str,
    tuned: str,
    refuses: int | None,
) -> None:
    monkeypatch.setattr(writer, "fcntl", None)
    compose(inputs["base"], inputs[tuned], tmp_path / "copied", keep)
    disk = Disk(refuses)
    monkeypatch.setattr(writer, "fcntl", disk)
    told: list[tuple[int, int]] = []
    compose(
        inputs["base"],
        inputs[tuned],
        tmp_path / "cloned",
        keep,
        progress=lambda done, total: told.append((done, total)),
    )
    for file in sorted((tmp_path / "copied").glob("*.safetensors")):
        assert (tmp_path / "cloned" / file.name).read_bytes() == file.read_bytes()
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]
    if refuses is None and keep == "none":
        weights = sum(len(data) for data in content(tmp_path / "copied").values())
        assert disk.cloned > weights / 2  # all but the edges of what lies side by side
    if refuses is not None:
        assert disk.cloned == 0
        assert disk.asked <= 3  # once a file


@pytest.fixture(scope="module", params=["btrfs", "xfs"])
def sharing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A real file system that shares blocks, in a loop device."""
    folder = tmp_path_factory.mktemp(request.param)
    image, mount = folder / "image", folder / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(400 << 20)
    for command in (
        [f"mkfs.{request.param}", "-q", str(image)],
        ["mount", "-o", "loop", str(image), str(mount)],
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", "") or error
            pytest.skip(f"no {request.param} here (that needs root and its tools): {reason}")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_blocks_are_shared_where_the_file_system_can(
    inputs: Mapping[str, Path], tmp_path: Path, sharing: Path
) -> None:
    base, tuned = (
        Path(shutil.copytree(inputs[name], sharing / name)) for name in ("base", "alike")
    )
    compose(base, tuned, tmp_path / "copied")
    os.sync()
    free = os.statvfs(sharing).f_bavail * os.statvfs(sharing).f_frsize
    compose(base, tuned, sharing / "out")
    os.sync()
    used = free - os.statvfs(sharing).f_bavail * os.statvfs(sharing).f_frsize
    weights = content(tmp_path / "copied")
    assert content(sharing / "out") == weights
    assert used < sum(map(len, weights.values())) / 2
