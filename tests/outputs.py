"""Outputs: what stood in them and what will, and those that another process has."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import forks

OLD = {"config.json": b"old", "model.safetensors": b"old weights", "sub/x": b"1"}
NEW = {"config.json": b"new", "a.safetensors": b"new weights", "sub/deep/y": b"2"}


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


#: A hang-up and Ctrl-C end it though the tests run under ``nohup`` or in the background.
_HOLDER = """
import signal, sys
from pathlib import Path
from taia.checkpoint.output.staging import claimed
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
with claimed(Path(sys.argv[1])):
    print("mine", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(output: Path) -> Iterator[forks.Process | subprocess.Popen[str]]:
    """A process that has an output until its input ends."""
    with saying(_HOLDER, output) as (process, said):
        assert said == "mine"
        yield process


@contextmanager
def saying(
    code: str, *arguments: object
) -> Iterator[tuple[forks.Process | subprocess.Popen[str], str]]:
    """A program that has said one line and waits for its input to end, and the line."""
    process = forks.start(
        code, *arguments, modules=forks.LIGHT, stdin=forks.PIPE, stdout=forks.PIPE
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().rstrip("\n")
    finally:
        process.kill()
        process.communicate()
