"""A server on loopback over a tiny model, in threads of this process."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

import tiny_models
from taia.runtime.switchable import SwitchableModel
from taia.serving.app import make_app
from taia.serving.load import prepare
from taia.serving.server import address
from taia.serving.service import Service
from taia.serving.settings import ServingSettings
from taia.serving.texts import TokenTexts
from taia.serving.worker import ServedModel, Worker

MODES = {"base": "none", "tuned": "all", "taia": "all - mlp"}


def loaded(settings: ServingSettings | None = None, **config: Any) -> ServedModel:
    """A tiny Llama with an adapter, ready to be served."""
    tuned = tiny_models.lora(tiny_models.llama(**config))
    model = SwitchableModel.wrap(tuned, modes=MODES)
    return prepare(model, MODES, tiny_models.tokenizer(), settings or ServingSettings())


@dataclass(frozen=True)
class Running:
    """A server that runs.

    Attributes:
        url: Its address.
        service: What answers.
        http: A client of it.
    """

    url: str
    service: Service
    http: httpx.Client

    @property
    def texts(self) -> TokenTexts:
        """The vocabulary's tokens as text."""
        return self.service.loaded.texts

    def post(self, path: str, status: int = 200, **body: Any) -> Any:
        """The JSON that a request is answered with."""
        said = self.http.post(f"/v1/{path}", json=body)
        assert said.status_code == status, said.text
        return said.json()

    def complete(self, status: int = 200, **body: Any) -> Any:
        """A completion."""
        return self.post("completions", status, **{"model": "taia", "temperature": 0, **body})

    def chat(self, status: int = 200, **body: Any) -> Any:
        """A chat's answer."""
        body = {"model": "taia", "temperature": 0, "messages": [ASKS], **body}
        return self.post("chat/completions", status, **body)

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition, leaving the time to the server's threads."""
        while not condition():
            self.http.get("/health")

    def metric(self, name: str, labels: Mapping[str, str] | None = None) -> float | None:
        """A counter's value, None where nothing was counted."""
        from prometheus_client.parser import text_string_to_metric_families

        for family in text_string_to_metric_families(self.http.get("/metrics").text):
            for sample in family.samples:
                if sample.name == name and dict(sample.labels) == (labels or {}):
                    return sample.value
        return None


ASKS = {"role": "user", "content": "hello"}


@contextmanager
def running(load: Callable[[], ServedModel] | None = None, **settings: Any) -> Iterator[Running]:
    """A server until the block ends. It listens; its model may still be loading."""
    chosen = ServingSettings(**settings)
    worker = Worker(load or (lambda: loaded(chosen)))
    service = Service(worker, chosen)
    config = uvicorn.Config(make_app(service), log_level=logging.ERROR, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = address(listener)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        worker.start()
        thread.start()
        try:
            with httpx.Client(base_url=url, timeout=60) as client:
                yield Running(url, service, client)
        finally:
            server.should_exit = True
            thread.join()
            worker.stop()
            worker.join()


@contextmanager
def ready(load: Callable[[], ServedModel] | None = None, **settings: Any) -> Iterator[Running]:
    """A server that has its model, until the block ends."""
    with running(load, **settings) as server:
        server.until(lambda: server.service.worker.state != "loading")
        yield server


def connected(server: Running) -> socket.socket:
    """A bare connection to a server."""
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)))
