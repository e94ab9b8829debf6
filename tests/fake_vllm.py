"""A stand-in for the program ``vllm``: started as vLLM is, it answers from what it is given.

The program only passes on what it is asked; threads of the test's process load the base and the
adapters that it was started with, and answer, rightly or wrongly.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fake_vllm_program
from fake_vllm_program import ANSWERS, option

LENGTH = 2048


class Fake:
    """What it is given, what it does, and what it was asked.

    Attributes:
        argv: What the program was started with, each time.
        asked: Bodies of the requests, in the order of arrival.
        answers_as: Whose answer a model's name gets, of the names in the order given, base first.
        load: Loads an adapter, given base and folder.
        change: Has the last word on an answer, given what was asked.
        hold: What a request waits for before it is answered.
        reached: Set when one does.
        at_start: Called when the program begins.
        length: What it says that it reads.
    """

    def __init__(self) -> None:
        self.argv: list[list[str]] = []
        self.asked: list[dict[str, Any]] = []
        self.answers_as: Callable[[list[str], str], str] = lambda _, name: name
        self.load: Callable[[Any, Path], Any] = load
        self.change: Callable[[dict[str, Any], dict[str, Any]], None] = lambda *_: None
        self.hold: threading.Event | None = None
        self.reached = threading.Event()
        self.at_start: Callable[[], object] = lambda: None
        self.length = LENGTH
        self.lifelines: list[socket.socket] = []
        self._models: dict[str, Any] = {}
        self._lock = threading.Lock()

    def started(self, argv: list[str]) -> None:
        self.at_start()
        self.argv.append(argv)
        self._models = {}

    @property
    def names(self) -> list[str]:
        """The models' names, base first."""
        return [option(self.argv[-1], "--served-model-name")[0], *self.adapters]

    @property
    def adapters(self) -> dict[str, Path]:
        """Name → folder."""
        given = option(self.argv[-1], "--lora-modules")
        return {name: Path(folder) for name, _, folder in (one.partition("=") for one in given)}

    def have_ended(self, seconds: float = 60) -> bool:
        """Whether all its processes have, each time; waited for."""
        for lifeline in self.lifelines:
            lifeline.settimeout(seconds)
            try:
                if lifeline.recv(1):
                    return False
            except TimeoutError:
                return False
        return bool(self.lifelines)

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        if self.hold is not None and not body.get("echo"):
            self.reached.set()
            self.hold.wait(60)
        with self._lock:
            model = self._model(self.answers_as(self.names, body["model"]))
            choices = [complete(model, ids, body) for ids in prompts(body)]
        for index, choice in enumerate(choices):
            choice["index"] = index
            self.change(body, choice)
        return {"choices": choices}

    def _model(self, name: str) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        if name not in self._models:
            dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
            dtype = dtypes[option(self.argv[-1], "--dtype")[0]]
            made = AutoModelForCausalLM.from_pretrained(self.argv[-1][1], dtype=dtype)
            if name in self.adapters:
                made = self.load(made, self.adapters[name])
            self._models[name] = made.eval()
        return self._models[name]


def prompts(body: dict[str, Any]) -> list[list[int]]:
    """Those that are asked together."""
    given = body["prompt"]
    return [given] if isinstance(given[0], int) else given


def load(base: Any, folder: Path) -> Any:
    """An adapter with the one rank and the one scale that vLLM reads."""
    from peft import PeftModel

    config = json.loads((folder / "adapter_config.json").read_text())
    assert not config["rank_pattern"]
    assert not config["alpha_pattern"]
    return PeftModel.from_pretrained(base, folder)


def complete(model: Any, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
    """A completion, and the prompt's log-probabilities where it is echoed."""
    import torch

    import tiny_models

    tokenizer = tiny_models.tokenizer()
    bias = {int(token): value for token, value in body.get("logit_bias", {}).items()}
    draws = torch.Generator().manual_seed(body.get("seed", 0))
    made: list[int] = []
    with torch.no_grad():
        prompt_logs = model(torch.tensor([prompt])).logits[0].float().log_softmax(-1)
        last = prompt_logs[-1]
        while len(made) < body["max_tokens"]:
            logits = last.clone()
            for token, value in bias.items():
                logits[token] += value
            if body["temperature"]:
                chances = (logits / body["temperature"]).softmax(-1)
                made.append(int(torch.multinomial(chances, 1, generator=draws)))
            else:
                made.append(int(logits.argmax()))
            text = tokenizer.decode(made, skip_special_tokens=True)
            ends = any(stop in text for stop in body.get("stop") or [])
            if ends or made[-1] in body.get("stop_token_ids", []):
                break
            last = model(torch.tensor([prompt + made])).logits[0, -1].float().log_softmax(-1)
    choice = {"text": text, "token_ids": made, "prompt_token_ids": prompt}
    if body.get("echo"):
        rows = [*prompt_logs[:-1], prompt_logs[-1]]
        values = [
            float(row[token]) for row, token in zip(rows, [*prompt[1:], made[0]], strict=True)
        ]
        tops = [{"same": v, "best": float(row.max())} for v, row in zip(values, rows, strict=True)]
        choice["logprobs"] = {"token_logprobs": [None, *values], "top_logprobs": [None, *tops]}
    return choice


@contextmanager
def installed(folder: Path, monkeypatch: Any) -> Iterator[Fake]:
    """The program on the PATH, and who answers for it, for as long as the block runs."""
    fake = Fake()

    class Handler(BaseHTTPRequestHandler):
        wbufsize = (
            -1
        )  # heads and bodies in one piece; else each answer waits for an acknowledgement

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/start":
                fake.started(body)
                said: Any = {}
            elif any(len(ids) + body["max_tokens"] > fake.length for ids in prompts(body)):
                self._say({"error": "too long"}, 400)
                return
            else:
                said = fake.answer(body)
            self._say(said)

        def do_GET(self) -> None:
            self._say({"data": [{"id": n, "max_model_len": fake.length} for n in fake.names]})

        def _say(self, said: Any, status: int = 200) -> None:
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # what still computes is waited for
    lifeline = socket.create_server(("127.0.0.1", 0))
    answers = threading.Thread(target=server.serve_forever, args=(0.01,))
    keeps = threading.Thread(target=_keep, args=(lifeline, fake))
    answers.start()
    keeps.start()
    program = folder / "vllm"
    words = shlex.join([sys.executable, "-S", "-E", fake_vllm_program.__file__])
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    ports = server.server_address[1], lifeline.getsockname()[1]
    monkeypatch.setenv(ANSWERS, json.dumps(ports))
    try:
        yield fake
    finally:
        if fake.hold is not None:
            fake.hold.set()
        server.shutdown()
        server.server_close()
        lifeline.shutdown(socket.SHUT_RDWR)
        lifeline.close()
        answers.join()
        keeps.join()
        for one in fake.lifelines:
            one.close()


def _keep(listener: socket.socket, fake: Fake) -> None:
    with suppress(OSError):
        while True:
            fake.lifelines.append(listener.accept()[0])
