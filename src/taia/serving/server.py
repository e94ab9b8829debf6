"""A server's life: the port, the loading, the signals, the end."""

from __future__ import annotations

import errno
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from taia.errors import InputError, StoppedError
from taia.serving.app import make_app
from taia.serving.service import Service
from taia.serving.settings import Settings
from taia.serving.worker import Loaded, Worker


def serve(
    load: Callable[[], Loaded], settings: Settings, say: Callable[[str], None] = lambda line: None
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

        def told() -> Loaded:
            loaded = load()
            say(f"Ready: {', '.join(loaded.modes)}")
            return loaded

        worker = Worker(told, give_up)
        config = uvicorn.Config(
            make_app(Service(worker, settings)),
            log_level=logging.WARNING,
            access_log=False,
            timeout_graceful_shutdown=round(settings.grace),
            server_header=False,
            proxy_headers=False,
        )
        server = uvicorn.Server(config)
        say(f"Listening at {address(listener)}")
        worker.start()
        with _signals() as caught:
            server.run(sockets=[listener])
    # A worker that still loads is left to end with the process.
    worker.stop(settings.grace if worker.state != "loading" else 0)
    if worker.failure is not None:
        raise worker.failure
    if signal.SIGINT in caught:
        raise StoppedError("The server was interrupted.", "What was under way has ended.")


def address(listener: socket.socket) -> str:
    """Where a socket listens, as a browser takes it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
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
