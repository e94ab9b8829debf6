"""A vLLM of our own: started, waited for, asked, and ended with all the processes it began."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from taia.errors import RunError, first_line

#: Seconds between two looks whether it answers, and that it may take to end before it is killed.
_PAUSE: Final = 0.25
_GRACE: Final = 5.0
#: Bytes of what it printed that are read, and lines of them that are told.
_TAIL: Final = 1 << 16
_LINES: Final = 3
_ERROR: Final = re.compile(r"\b\w*(?:Error|Exception): \S")
_HINT: Final = "Give what it asks for with --vllm-args, or leave --engine vllm out."


@dataclass(frozen=True)
class Child:
    """A vLLM that answers.

    Attributes:
        url: Its address, without a path.
        key: The key that it asks for; nobody else on this machine knows it.
        log: What it prints.
        process: Its first process.
    """

    url: str
    key: str = field(repr=False)
    log: Path
    process: subprocess.Popen[bytes]

    def ask(self, path: str, body: object | None = None, timeout: float = 600) -> Any:  # noqa: ANN401 - JSON
        """The JSON that it answers with.

        Args:
            path: As ``/v1/models``.
            body: What is posted; ``None`` to get.
            timeout: Seconds that it may take.

        Raises:
            RunError: If it does not answer, or with an error.
        """
        try:
            return json.loads(self._open(path, body, timeout))
        except HTTPError as error:
            said = " ".join(error.read(500).decode("utf-8", "replace").split())
            raise self.failed(f"vLLM answered HTTP {error.code}: {said}") from error
        except (OSError, HTTPException, ValueError) as error:
            raise self.failed(f"vLLM does not answer: {first_line(error)}") from error

    def failed(self, problem: str) -> RunError:
        """An error, with the last that vLLM printed where it has ended."""
        code = self.process.poll()
        if code is not None:
            problem = f"vLLM ended with code {code}. It said: {_last_words(self.log)}"
        return RunError(f"{problem}.", _HINT)

    def _open(self, path: str, body: object | None, timeout: float) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        # A proxy that the environment names is not for this machine.
        opener = build_opener(ProxyHandler({}))
        with opener.open(Request(self.url + path, data, headers), timeout=timeout) as answer:
            content: bytes = answer.read()
        return content

    def is_up(self) -> bool:
        """Whether it answers by now."""
        try:
            self._open("/health", None, 5)
        except (OSError, HTTPException):
            return False
        return True


@contextmanager
def running(command: Sequence[str], log: Path, patience: float) -> Iterator[Child]:
    """A vLLM for as long as the block runs; however it ends, all its processes end with it.

    Args:
        command: What starts it, but for its address and key.
        log: The file that takes what it prints.
        patience: Seconds that it may take until it answers.

    Raises:
        RunError: If it ends before it answers, or does not answer in time.
    """
    key, port = secrets.token_hex(16), _free_port()
    with log.open("wb") as printed:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            # A key on the command line could be read by everybody on the machine.
            env=os.environ | {"VLLM_API_KEY": key},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            # A group of its own: Ctrl-C in a terminal is for us, and we end the whole group.
            start_new_session=True,
        )
    try:
        child = Child(f"http://127.0.0.1:{port}", key, log, process)
        _wait(child, patience)
        yield child
    finally:
        _end(process)


def _wait(child: Child, patience: float) -> None:
    until = time.monotonic() + patience
    while not child.is_up():
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(_PAUSE)
            raise child.failed("")
        if time.monotonic() > until:
            raise RunError(
                f"vLLM did not answer within {patience:g} seconds. It said: "
                f"{_last_words(child.log)}.",
                _HINT,
            )


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        # Its engine is a process of its own, which may outlive the one that was started.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _last_words(log: Path) -> str:
    """The last errors that it printed, else its last lines."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        text = file.read().decode("utf-8", "replace")
    lines = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    errors = [line for line in lines if _ERROR.search(line)]
    return " | ".join((errors or lines)[-_LINES:]).rstrip(".") or "nothing"
