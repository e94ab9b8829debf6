"""Processes that need not import: each is a fork of one that has imported, and has done no more.

From the fork on, a process runs a program as ``python -m`` does: its arguments, environment, folder
and streams are those that the test gives, signals reach it by its number, and the interpreter
itself ends it. Where there is no such fork (all but Linux), a program starts from nothing instead.

This file is a module of the tests', and what is forked.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Final

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL

#: What is imported before the fork: nothing heavy, for what must not need it; that and torch; all.
LIGHT: Final = (
    *("taia.cli", "taia.demo.run", "taia.evaluation.run", "taia.training.ahead"),
    *("pydantic.fields", "pydantic.type_adapter"),  # which the parser of arguments uses, if it can
)
TORCH: Final = (*LIGHT, "torch")
HEAVY: Final = (*LIGHT, "taia.training.run", "taia.serving.load", "taia.serving.server")

#: ``python -m taia``
TAIA: Final = "from taia.__main__ import main; main()"


class Process:
    """What a test needs of :class:`subprocess.Popen`."""

    def __init__(self, ended: int, streams: dict[str, IO[str]]) -> None:
        self._ended = os.fdopen(ended)
        self.pid = int(self._ended.readline())
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = map(streams.get, ("stdin", "stdout", "stderr"))

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(int(self._ended.readline()))
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        """Lets its input end, and reads what it says: of two pipes, one no longer than a pipe."""
        if self.stdin is not None:
            with suppress(BrokenPipeError):
                self.stdin.close()
        said = []
        for stream in (self.stdout, self.stderr):
            said.append("" if stream is None or stream.closed else stream.read())
            if stream is not None:
                stream.close()
        self.wait()
        return said[0], said[1]

    def send_signal(self, number: int) -> None:
        if self.returncode is None and not select.select([self._ended], [], [], 0)[0]:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    code: str,
    *arguments: object,
    modules: tuple[str, ...] = HEAVY,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    **streams: Any,
) -> Process | subprocess.Popen[str]:
    """Starts a program whose stdin, stdout, stderr are files, pipes or (else) lead nowhere."""
    environment = dict(os.environ) if env is None else env
    given = list(map(str, arguments))
    if sys.platform != "linux":
        streams = {name: streams.get(name, DEVNULL) for name in ("stdin", "stdout", "stderr")}
        command = [sys.executable, "-c", code, *given]
        return subprocess.Popen(command, env=environment, cwd=cwd, text=True, **streams)
    task = {"code": code, "argv": ["-c", *given], "env": environment, "cwd": str(cwd or Path.cwd())}
    with ExitStack() as theirs:
        handles, ours = [], {}
        for name in ("stdin", "stdout", "stderr"):
            stream, reads = streams.get(name, DEVNULL), name == "stdin"
            if stream == PIPE:
                ends = [os.fdopen(end, mode) for end, mode in zip(os.pipe(), "rw", strict=True)]
                stream, ours[name] = ends if reads else ends[::-1]
            elif stream == DEVNULL:
                stream = open(os.devnull, "r" if reads else "w")  # noqa: PTH123, SIM115
            handles.append(theirs.enter_context(stream).fileno())
        ended, tells = os.pipe()
        theirs.callback(os.close, tells)
        with _starting:
            server = _server(modules)
        socket.send_fds(server, [json.dumps(task).encode()], [*handles, tells])
    return Process(ended, ours)


def run(
    code: str, *arguments: object, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, and keeps what it says."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        handles = [os.fdopen(os.dup(file.fileno()), "w") for file in (out, err)]
        process = start(code, *arguments, stdout=handles[0], stderr=handles[1], **options)
        try:
            returncode = process.wait(timeout)
        finally:
            process.kill()
        said = [(file.seek(0), file.read())[1] for file in (out, err)]
    return subprocess.CompletedProcess(code, returncode, *said)


_starting = threading.Lock()


@cache
def _server(modules: tuple[str, ...]) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", Path(__file__).stem, str(theirs.fileno()), *modules],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
            pass_fds=[theirs.fileno()],
            stdin=DEVNULL,
            stdout=DEVNULL,
        )
    return ours


def _serve(asked: socket.socket) -> str:
    """Forks for each task; comes back in the fork alone, with the code that it is to run."""
    gc.collect()
    gc.freeze()
    assert threading.active_count() == 1, "a thread would be missing in the forks"
    while True:
        text, handles, _, _ = socket.recv_fds(asked, 1 << 20, 4)
        if not text:
            os._exit(0)
        keeper = os.fork()
        if keeper:
            os.waitpid(keeper, 0)
            for handle in handles:
                os.close(handle)
            continue
        *streams, tells = handles
        # Whoever waits is no child of the server's, which hears the next task.
        if os.fork():
            os._exit(0)
        child = os.fork()
        if child:
            for stream in streams:
                os.close(stream)
            os.write(tells, f"{child}\n".encode())
            os.write(tells, f"{os.waitpid(child, 0)[1]}\n".encode())
            os._exit(0)
        asked.close()
        os.close(tells)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        # Made anew: what they lead to may be of another kind, which a stream asks once.
        sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115
        sys.stdout = open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
        sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
        task = json.loads(text)
        os.environ.clear()
        os.environ.update(task["env"])
        os.chdir(task["cwd"])
        sys.argv = task["argv"]
        return task["code"]


if __name__ == "__main__":
    from taia.cli.environment import prepare

    prepare()
    for _module in sys.argv[2:]:
        importlib.import_module(_module)
    _code = _serve(socket.socket(fileno=int(sys.argv[1])))
    # Of a text exec() would say how a process ends that Ctrl-C leaves: Interrupted tells of that.
    exec(compile(_code, "<forked>", "exec"), {"__name__": "__main__"})
