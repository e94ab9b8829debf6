"""A server from its start to its end, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

import forks
import tiny_models
from cli_runner import inside

posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    base = tiny_models.save_llama(folder / "base")
    tiny_models.lora(tiny_models.llama()).save_pretrained(folder / "adapter")
    return str(base), str(folder / "adapter")


def from_nothing(*arguments):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "taia", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def forked(*arguments):
    return forks.start(forks.TAIA, *arguments, stderr=forks.PIPE)


@contextmanager
def serving(start, *arguments):
    """A server that is ready, and a client of it."""
    process = start("serve", *arguments, "--port", "0", "--device", "cpu")
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("Ready"):
                break
        url = re.search(r"http://\S+", "".join(said))
        assert url, said
        with httpx.Client(base_url=url[0], timeout=60) as client:
            yield process, client, said
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


#: An answer that does not end by itself.
LONG = {"model": "taia", "prompt": "hi", "stream": True, "logit_bias": {"257": -100}}


def listed(client, **headers):
    return {m["id"]: m["selection"] for m in client.get("/v1/models", **headers).json()["data"]}


@posix
@pytest.mark.slow
def test_sigterm_lets_running_answers_end(pair):
    with serving(from_nothing, *pair) as (process, client, _):
        assert listed(client) == {"base": "none", "tuned": "all", "taia": "all - mlp"}
        with client.stream("POST", "/v1/completions", json={**LONG, "max_tokens": 300}) as said:
            lines = said.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        last = json.loads(rest[-2].removeprefix("data: "))
        assert last["choices"][0]["finish_reason"] == "length"
        assert process.wait() == 0
        assert process.stderr.read() == ""
        with pytest.raises(httpx.ConnectError):
            client.get("/health")


@posix
@pytest.mark.slow
def test_answers_that_outlast_the_grace_time_are_told_so(pair):
    """Also: only the modes asked for, a warning where others are let in, and Ctrl-C."""
    chosen = ("--modes", "taia,half=attention + 0.5*mlp", "--host", "0.0.0.0", "--grace", "0")
    with serving(forked, *pair, *chosen) as (process, client, said):
        assert "--api-key" in said[0]
        assert list(listed(client, headers={"Host": "example.com"})) == ["taia", "half"]
        with client.stream("POST", "/v1/completions", json={**LONG, "max_tokens": 2000}) as said:
            lines = said.iter_lines()
            next(lines)
            process.send_signal(signal.SIGINT)
            rest = [line for line in lines if line]
        last = json.loads(rest[-2].removeprefix("data: "))
        assert "stopped" in last["error"]["message"]
        assert process.wait() == 130
        assert process.stderr.read().splitlines() == [
            "taia: The server was interrupted.",
            "      What was under way has ended.",
        ]


def test_a_port_in_use_is_said_before_the_model_is_loaded(pair):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = inside("serve", *map(str, pair), "--port", str(port), code=2)
    assert said.stderr.splitlines()[-2:] == [
        f"taia: Port {port} of 127.0.0.1 is in use.",
        "      Choose another with --port, or 0 for any that is free.",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("/nowhere", "{1}"), "/nowhere"),
        (("{0}", "/nowhere"), "/nowhere"),
        (("{0}", "{1}", "--modes", "taia,taia"), "twice"),
        (("{0}", "{1}", "--modes", "experts"), "experts"),
        (("{0}", "{1}", "--host", "192.0.2.1"), "192.0.2.1"),
        (("{0}", "{1}", "--host", "no such host"), "no such host"),
        (("{0}", "{1}", "--print"), "--engine vllm"),
        (("{0}", "{1}", "--", "--tensor-parallel-size", "2"), "--engine vllm"),
    ],
)
def test_bad_input_ends_with_2_and_no_traceback(pair, arguments, words):
    given = [argument.format(*pair) for argument in arguments]
    flags = [] if "--" in given else ["--port", "0", "--device", "cpu"]
    said = inside("serve", *given, *flags, code=2)
    assert words in said.stderr
    assert "Traceback" not in said.stderr
    assert "\ntaia: " in f"\n{said.stderr}"
