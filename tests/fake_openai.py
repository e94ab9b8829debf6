"""An OpenAI-compatible server that says what a test tells it to, and the compare page on it."""

from __future__ import annotations

import json
import mimetypes
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import taia

PAGE = Path(taia.__file__).parent / "serving" / "page"

#: A step of a script: wait until the client has gone.
HOLD = object()
#: A step of a script: close the connection in the middle of the answer.
CUT = object()


@dataclass
class Refusal:
    """A script that is an error."""

    status: int
    message: str = "No."
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class FakeServer:
    """What it says, and what was asked of it.

    Attributes:
        scripts: Mode → pieces of text, events to wait for, HOLD or CUT; or a refusal.
        selections: Mode → what /v1/models says it keeps.
        key: The API key it asks for.
        asked: Bodies of the requests for answers, in order.
        paths: Every path that was asked for.
        left: Modes whose client went away while it was held.
        before_models: What /v1/models waits for, or says instead.
        url: Where it is, while it runs.
    """

    scripts: dict[str, Sequence[Any] | Refusal]
    selections: dict[str, str] = field(default_factory=dict)
    key: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    left: Queue[str] = field(default_factory=Queue)
    before_models: threading.Event | Refusal | None = None
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.fake.paths.append(self.path)
        if self.path == "/v1/models":
            before = self.fake.before_models
            if isinstance(before, threading.Event):
                before.wait(30)
            if isinstance(before, Refusal):
                self._refuse(before)
            elif self._authorised():
                data = [
                    {"id": mode, "object": "model", "selection": self.fake.selections.get(mode)}
                    for mode in self.fake.scripts
                ]
                self._send(200, json.dumps({"data": data}).encode(), "application/json")
            return
        file = PAGE / (self.path.partition("?")[0].strip("/") or "index.html")
        if file.is_file():
            kind = mimetypes.guess_type(file.name)[0]
            self._send(200, file.read_bytes(), kind or "application/octet-stream")
        else:
            self._refuse(Refusal(404))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.fake.paths.append(self.path)
        if not self._authorised():
            return
        self.fake.asked.append(body)
        script = self.fake.scripts[body["model"]]
        if isinstance(script, Refusal):
            self._refuse(script)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        with suppress(ConnectionError):
            self._say(body["model"], script)

    def _say(self, mode: str, script: Sequence[Any]) -> None:
        count = 0
        for step in script:
            if step is CUT:
                return
            if step is HOLD:
                # The client sends nothing more: reading ends when it goes.
                self.rfile.read(1)
                self.fake.left.put(mode)
                return
            if isinstance(step, threading.Event):
                step.wait(30)
                continue
            count += 1
            self._event({"choices": [{"delta": {"content": step}, "finish_reason": None}]})
        self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        self._event({"choices": [], "usage": {"completion_tokens": 10 * count}})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, value: Mapping[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def _authorised(self) -> bool:
        if not self.fake.key or self.headers["Authorization"] == f"Bearer {self.fake.key}":
            return True
        self._refuse(Refusal(401))
        return False

    def _refuse(self, refusal: Refusal) -> None:
        body = json.dumps({"error": {"message": refusal.message}}).encode()
        self._send(refusal.status, body, "application/json", refusal.headers)

    def _send(
        self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        # The same as the real server's.
        self.send_header(
            "Content-Security-Policy",
            "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
            "object-src 'none'",
        )
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def running(fake: FakeServer) -> Iterator[FakeServer]:
    """The server on a free port of this machine, until the block ends."""
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
