"""Many clients at once: nothing is lost or mixed, too much is turned away, rows get free."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import ExitStack

import httpx
import pytest
import torch

import tiny_server

CLIENTS = 64
MODES = list(tiny_server.MODES)
#: Every client its own prompt, so that no answer could be another's by chance.
PROMPTS = [f"client {index}: " + "ab"[index % 2] * (index % 7) for index in range(CLIENTS)]
#: Letters only: the random model would write parts of characters, which all look alike.
LETTERS = {str(token): 30.0 for token in range(33, 127)}


def asked(index, **more):
    body = {"model": MODES[index % 3], "prompt": PROMPTS[index], "temperature": 0}
    return {**body, "max_tokens": 5 + index % 4, "logit_bias": LETTERS, **more}


def by_transformers(alone, index, shift=0):
    """Greedy, by a loop over whole forwards in the mode, or in one so many further."""
    body = asked(index)
    ids = alone.prompter.tokenizer.encode(body["prompt"])
    bias = torch.zeros(260)
    bias[[int(token) for token in LETTERS]] = 30.0
    fresh = []
    with torch.no_grad(), alone.model.mode(MODES[(index + shift) % 3]):
        while len(fresh) < body["max_tokens"]:
            logits = alone.model.model(input_ids=torch.tensor([ids + fresh])).logits[0, -1]
            fresh.append(int((logits + bias).argmax()))
    assert not set(fresh) & alone.prompter.end
    return alone.texts.decode(tuple(fresh))


async def together(url, *calls):
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        return await asyncio.gather(*(call(client) for call in calls))


def test_every_client_gets_its_own_answer():
    alone = tiny_server.loaded()
    expected = [by_transformers(alone, index) for index in range(CLIENTS)]

    def whole(index):
        async def call(client):
            said = await client.post("/v1/completions", json=asked(index))
            assert said.status_code == 200
            return said.json()["choices"][0]["text"]

        return call

    with tiny_server.ready(max_rows=16) as server:
        got = asyncio.run(together(server.url, *map(whole, range(CLIENTS))))
        assert server.service.gate.inside == 0
        assert not server.service.loaded.engine.has_work
    assert got == expected
    # The control: in another mode most of them would be different.
    others = [by_transformers(alone, index, shift=1) for index in range(12)]
    assert sum(a != b for a, b in zip(others, expected[:12], strict=True)) >= 10


@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_go_away_free_their_rows(stream):
    body = json.dumps(asked(0, max_tokens=1500, stream=stream))
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with tiny_server.ready(max_rows=2) as server, ExitStack() as clients:
        for _ in range(4):
            client = clients.enter_context(tiny_server.connected(server))
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        gate, engine = server.service.gate, server.service.loaded.engine
        server.until(lambda: gate.inside == 4 and engine.has_work)
        assert (gate.running, gate.waiting) == (2, 2)
        clients.close()
        server.until(lambda: not gate.inside and not engine.has_work)
        gone = {"mode": "base", "kind": "completion", "status": "499"}
        assert server.metric("taia_requests_total", gone) == 4
        assert server.complete(prompt="hello")


def test_what_is_too_much_is_turned_away():
    async def call(client):
        said = await client.post("/v1/completions", json=asked(0, max_tokens=40))
        return said.status_code, said.headers.get("retry-after")

    with tiny_server.ready(max_rows=2, max_waiting=3) as server:
        got = Counter(asyncio.run(together(server.url, *[call] * 20)))
        assert got.keys() == {(200, None), (429, "2")}
        assert got[200, None] >= 5
        assert server.complete(prompt="hello")
