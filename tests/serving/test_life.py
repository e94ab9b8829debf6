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

import tiny_models
from cli_runner import taia

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    base = tiny_models.save_llama(folder / "base")
    tiny_models.lora(tiny_models.llama()).save_pretrained(folder / "adapter")
    return str(base), str(folder / "adapter")


@contextmanager
def serving(*arguments):
    """A server that is ready, and a client of it."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "taia", "serve", *arguments, "--port", "0", "--device", "cpu"],
        stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_lets_running_answers_end(pair, number, code):
    with serving(*pair) as (process, client, _):
        body = {"model": "taia", "prompt": "hi", "max_tokens": 300, "stream": True}
        body |= {"temperature": 0, "logit_bias": {"257": -100}}
        with client.stream("POST", "/v1/completions", json=body) as said:
            lines = said.iter_lines()
            next(lines)
            process.send_signal(number)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        last = json.loads(rest[-2].removeprefix("data: "))
        assert last["choices"][0]["finish_reason"] == "length"
        assert process.wait() == code
        complaint = process.stderr.read()
        assert "Traceback" not in complaint
        assert ("interrupted" in complaint) == (code == 130)
        with pytest.raises(httpx.ConnectError):
            client.get("/health")


def test_answers_that_outlast_the_grace_time_are_cut(pair):
    with serving(*pair, "--grace", "0") as (process, client, _):
        body = {"model": "taia", "prompt": "hi", "max_tokens": 2000, "stream": True}
        body |= {"temperature": 0, "logit_bias": {"257": -100}}
        with client.stream("POST", "/v1/completions", json=body) as said:
            lines = said.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
        assert process.wait() == 0
        assert "Traceback" not in process.stderr.read()


def test_only_the_modes_asked_for_are_served(pair):
    modes = "taia,half=attention + 0.5*mlp"
    with serving(*pair, "--modes", modes, "--api-key", "k") as (_, client, _):
        assert client.get("/v1/models").status_code == 401
        listed = client.get("/v1/models", headers={"Authorization": "Bearer k"}).json()
        assert {model["id"]: model["selection"] for model in listed["data"]} == {
            "taia": "all - mlp",
            "half": "attention + 0.5*mlp",
        }


def test_others_are_let_in_only_with_a_warning(pair):
    with serving(*pair, "--host", "0.0.0.0") as (_, client, said):
        assert "--api-key" in said[0]
        port = client.base_url.port
        assert httpx.get(f"http://127.0.0.1:{port}/health", headers={"Host": "a"}).is_success


def test_a_port_in_use_is_said_before_the_model_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = taia("serve", "/nowhere", "/nowhere", "--port", str(port), code=2)
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
def test_bad_input_ends_with_2_and_two_lines(pair, arguments, words):
    said = taia("serve", *(a.format(*pair) for a in arguments), "--port", "0", code=2)
    assert words in said.stderr
    assert "Traceback" not in said.stderr
    assert re.search(r"^taia: .+\n      .+$", said.stderr, re.MULTILINE)
