"""A server's life: the port, the loading, the signals, the end."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import uvicorn

from taia.errors import InputError, StoppedError
from taia.serving.app import make_app
from taia.serving.service import Service
from taia.serving.settings import ServingSettings
from taia.serving.worker import ServedModel, Worker

#: Seconds for the last words to clients whose answers were cut.
_LAST_WORDS: Final = 5


class _Server(uvicorn.Server):
    """Ends what outlasts the grace time itself, before uvicorn would cut the connections.

    Args:
        config: What to serve.
        worker: Who answers.
        grace: Seconds that running answers get.
    """

    def __init__(self, config: uvicorn.Config, worker: Worker, grace: float) -> None:
        super().__init__(config)
        self._worker, self._grace = worker, grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the server."""
        asyncio.get_running_loop().call_later(self._grace, self._worker.stop)
        await super().shutdown(sockets)


def serve(
    load: Callable[[], ServedModel],
    settings: ServingSettings,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve until told to stop; answers under way are finished, within the grace time.

    The port is taken first and the model loaded meanwhile, so that ``/health`` can tell.

    Args:
        load: Makes the model.
        settings: Where to listen, and what is allowed.
        say: Called with the address, and when the model is there.

    Raises:
        InputError: If it cannot listen there, or the model cannot be used.
        StoppedError: If it was interrupted at the terminal.
    """
    with _listening(settings) as listener:
        server: uvicorn.Server

        def give_up() -> None:
            server.should_exit = True

        worker = Worker(load, lambda: say("Ready."), give_up)
        config = uvicorn.Config(
            make_app(Service(worker, settings)),
            log_level=logging.WARNING,
            access_log=False,
            timeout_graceful_shutdown=math.ceil(settings.grace) + _LAST_WORDS,
            server_header=False,
            proxy_headers=False,
        )
        server = _Server(config, worker, settings.grace)
        say(f"Listening at {address(listener)}")
        worker.start()
        with _signals() as caught:
            server.run(sockets=[listener])
    worker.stop()
    if worker.state != "loading":  # else it is left to end with the process
        worker.join(_LAST_WORDS)
    if worker.failure is not None:
        raise worker.failure
    if signal.SIGINT in caught:
        raise StoppedError("The server was interrupted.", "What was under way has ended.")


def address(listener: socket.socket) -> str:
    """Where a socket listens, as a browser takes it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _listening(settings: ServingSettings) -> Iterator[socket.socket]:
    """A socket at the address, closed at the end.

    Raises:
        InputError: If it is taken, or not this machine's.
    """
    host, port = settings.host, settings.port
    try:
        (family, kind, proto, _, place), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise InputError(
            f"There is no address {host!r}: {error.strerror}.", "Check --host."
        ) from error
    with socket.socket(family, kind, proto) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
            listener.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InputError(
                    f"Port {port} of {host} is in use.",
                    "Choose another with --port, or 0 for any that is free.",
                ) from error
            raise InputError(
                f"Cannot listen at {host}, port {port}: {error.strerror}.",
                "Check --host and --port.",
            ) from error
        yield listener


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Notes which signals ended the server: uvicorn raises them again once it has shut down."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
