"""A small server of OpenAI's protocol over tiny models, and a record of what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch


class Record:
    """What was asked: (path, body, key) each, in the order of arrival."""

    def __init__(self, models: Mapping[str, Any]) -> None:
        self.models = models
        self.asked: list[tuple[str, dict[str, Any], str | None]] = []
        self.failures = 0
        #: What each request waits for before it is answered: so many others under way beside it.
        self.together: threading.Barrier | None = None
        self.lock = threading.Lock()
        self.url = ""

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/v1/chat/completions":
            said = f"{body['model']} heard {body['messages'][-1]['content'][-9:]}"
            message = {"role": "assistant", "content": said}
            return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        if not body.get("echo"):
            text = f"{body['model']} read {len(body['prompt'])}"
            return {"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}
        choices = [self._rated(i, body["model"], ids) for i, ids in enumerate(body["prompt"])]
        return {"choices": choices}

    @torch.no_grad()
    def _rated(self, index: int, name: str, ids: list[int]) -> dict[str, Any]:
        """The prompt's tokens with their log-probabilities, and one more that is generated."""
        with self.lock:
            logs = self.models[name](torch.tensor([ids])).logits[0].log_softmax(-1)
        values: list[float | None] = [None]
        tops: list[dict[str, float] | None] = [None]
        for place, token in enumerate([*ids[1:], int(logs[-1].argmax())]):
            value, best = float(logs[place, token]), int(logs[place].argmax())
            values.append(value)
            tops.append({str(token): value, str(best): float(logs[place, best])})
        return {
            "index": index,
            "text": "",
            "logprobs": {"token_logprobs": values, "top_logprobs": tops},
        }


@contextmanager
def serve(models: Mapping[str, Any] | None = None) -> Iterator[Record]:
    """Serve models by their ids, for as long as the block runs."""
    record = Record(models or {})

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with record.lock:
                record.asked.append((self.path, body, self.headers.get("Authorization")))
                fails = record.failures > 0
                record.failures -= fails
            if record.together is not None:
                record.together.wait()
            data = json.dumps({} if fails else record.answer(self.path, body)).encode()
            self.send_response(500 if fails else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    record.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield record
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
