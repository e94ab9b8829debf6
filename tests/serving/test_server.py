"""The server over loopback: what it answers, and how it refuses."""

from __future__ import annotations

import json
import threading

import httpx
import pytest
import torch

import tiny_server
from taia.errors import InputError
from taia.runtime.generation import Generation

MODES = list(tiny_server.MODES)


@pytest.fixture(scope="module")
def server():
    with tiny_server.ready() as running:
        yield running


@pytest.fixture(scope="module")
def alone():
    """The same model, not served."""
    return tiny_server.loaded()


def greedy(alone, mode, prompt, tokens=8):
    request = Generation(mode, tuple(prompt), tokens, end=alone.prompter.end)
    return alone.engine.generate([request])[0]


def events(said: httpx.Response):
    lines = [line for line in said.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def stream(server, path, **body):
    said = server.http.post(f"/v1/{path}", json={"model": "taia", "stream": True, **body})
    assert said.status_code == 200
    assert said.headers["content-type"].startswith("text/event-stream")
    return events(said)


def test_each_mode_is_a_model(server):
    listed = server.http.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == MODES
    assert server.http.get("/v1/models/taia").json()["selection"] == "all - mlp"


def test_the_answers_are_the_engines(server, alone):
    texts = []
    for mode in MODES:
        said = server.complete(model=mode, prompt="hello", max_tokens=8)
        expected = greedy(alone, mode, alone.prompter.tokenizer.encode("hello"))
        choice = said["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == (expected.text, expected.finish)
        assert said["usage"]["completion_tokens"] == len(expected.tokens)
        assert said["model"] == mode
        texts.append(choice["text"])
    assert len(set(texts)) == 3


@pytest.mark.versions
def test_a_chat_goes_through_the_template(server, alone):
    prompt = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    expected = greedy(alone, "taia", alone.prompter.tokenizer.encode(prompt))
    said = server.chat(max_tokens=8)
    assert said["choices"][0]["message"]["content"] == expected.text
    assert said["choices"][0]["message"]["role"] == "assistant"
    assert said["usage"]["prompt_tokens"] == len(alone.prompter.tokenizer.encode(prompt))


def test_the_last_message_is_continued(server, alone):
    prompt = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nOnce"
    expected = greedy(alone, "taia", alone.prompter.tokenizer.encode(prompt))
    messages = [tiny_server.ASKS, {"role": "assistant", "content": "Once"}]
    said = server.chat(
        messages=messages, continue_final_message=True, add_generation_prompt=False, max_tokens=8
    )
    assert said["choices"][0]["message"]["content"] == expected.text


@pytest.mark.versions
@pytest.mark.parametrize("usage", [True, False])
def test_a_streamed_chat_is_the_whole_one(server, usage):
    whole = server.chat(max_tokens=9, logprobs=True, top_logprobs=2)
    pieces = stream(
        server, "chat/completions", messages=[tiny_server.ASKS], temperature=0, max_tokens=9,
        logprobs=True, top_logprobs=2, stream_options={"include_usage": usage},
    )  # fmt: skip
    choices = [choice for piece in pieces for choice in piece["choices"]]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(choice["delta"].get("content", "") for choice in choices)
    assert text == whole["choices"][0]["message"]["content"]
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["length"]
    logprobs = [entry for c in choices if c["logprobs"] for entry in c["logprobs"]["content"]]
    assert logprobs == whole["choices"][0]["logprobs"]["content"]
    assert len({piece["id"] for piece in pieces}) == 1
    counted = [piece["usage"] for piece in pieces if piece.get("usage")]
    assert counted == ([whole["usage"]] if usage else [])


def test_several_prompts_and_answers_keep_their_places(server):
    prompts = ["one", "three", "two words"]
    said = server.complete(prompt=prompts, n=2, max_tokens=6)
    texts = [choice["text"] for choice in said["choices"]]
    assert [choice["index"] for choice in said["choices"]] == list(range(6))
    each = [server.complete(prompt=prompt, max_tokens=6) for prompt in prompts]
    single = [one["choices"][0]["text"] for one in each]
    assert texts == [text for text in single for _ in range(2)]
    assert len(set(single)) == 3
    assert said["usage"]["prompt_tokens"] == sum(one["usage"]["prompt_tokens"] for one in each)


def test_streamed_answers_are_told_apart(server):
    whole = server.complete(prompt=["one", "two"], n=2, seed=5, temperature=1, max_tokens=6)
    texts = ["", "", "", ""]
    body = {"prompt": ["one", "two"], "n": 2, "seed": 5, "temperature": 1, "max_tokens": 6}
    for piece in stream(server, "completions", **body):
        for choice in piece["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == [choice["text"] for choice in whole["choices"]]


def test_a_seed_makes_the_same_answers_that_differ_from_one_another(server):
    asked = {"prompt": "hello", "n": 3, "temperature": 1.5, "max_tokens": 8}
    one, same = (server.complete(**asked, seed=1)["choices"] for _ in range(2))
    other = server.complete(**asked, seed=7)["choices"]
    assert one == same
    assert len({choice["text"] for choice in one}) == 3
    assert {choice["text"] for choice in one}.isdisjoint(choice["text"] for choice in other)


def test_tokens_are_a_prompt_as_their_text_is(server, alone):
    ids = alone.prompter.tokenizer.encode("hello")
    by_text = server.complete(prompt="hello")["choices"][0]["text"]
    assert server.complete(prompt=ids)["choices"][0]["text"] == by_text
    assert server.complete(prompt=[ids])["choices"][0]["text"] == by_text


@pytest.mark.parametrize("many", [False, True])
def test_a_text_ends_the_answer(server, many):
    letters = {str(token): 100 for token in range(65, 91)}
    asked = {"prompt": "hello", "max_tokens": 16, "logit_bias": letters}
    whole = server.complete(**asked)["choices"][0]["text"]
    stop = whole[3:5]
    cut = server.complete(**asked, stop=["never so", stop] if many else stop)
    assert cut["choices"][0]["text"] == whole[: whole.index(stop)]
    assert cut["choices"][0]["finish_reason"] == "stop"


def test_a_bias_decides(server):
    said = server.complete(prompt="hello", max_tokens=3, logit_bias={"65": 100, "66": -100})
    assert said["choices"][0]["text"] == server.texts.decode((65, 65, 65))


def transformers_logprobs(alone, mode, ids):
    with torch.no_grad(), alone.model.mode(mode):
        logits = alone.model.model(input_ids=torch.tensor([ids])).logits[0]
    return torch.log_softmax(logits.double(), -1)


@pytest.mark.parametrize("mode", MODES)
def test_an_echo_has_the_prompts_log_probabilities(server, alone, mode):
    ids = alone.prompter.tokenizer.encode("hello you")
    said = server.complete(
        model=mode, prompt=ids, echo=True, max_tokens=1, logprobs=2
    )["choices"][0]  # fmt: skip
    assert said["text"].startswith("hello you")
    shown = said["logprobs"]
    expected = transformers_logprobs(alone, mode, ids)
    own = [expected[place, token].item() for place, token in enumerate(ids[1:])]
    assert shown["token_logprobs"][0] is None
    assert shown["token_logprobs"][1:-1] == pytest.approx(own, abs=1e-4)
    assert shown["token_logprobs"][-1] == pytest.approx(expected[-1].max().item(), abs=1e-4)
    assert len(shown["tokens"]) == len(shown["top_logprobs"]) == len(ids) + 1
    for place, top in enumerate(shown["top_logprobs"][1:]):
        assert max(top.values()) == pytest.approx(expected[place].max().item(), abs=1e-4)
        assert shown["token_logprobs"][place + 1] in top.values()
    assert shown["text_offset"][:9] == list(range(9))


def test_an_echo_alone_writes_nothing(server):
    said = server.complete(prompt=["hello", "you"], echo=True, max_tokens=0, logprobs=0)
    assert [choice["text"] for choice in said["choices"]] == ["hello", "you"]
    assert {choice["finish_reason"] for choice in said["choices"]} == {"length"}
    assert said["usage"]["completion_tokens"] == 0
    assert [len(c["logprobs"]["tokens"]) for c in said["choices"]] == [5, 3]


def test_a_streamed_echo_begins_with_the_prompt(server):
    pieces = stream(server, "completions", prompt="hello", echo=True, max_tokens=2, logprobs=0)
    texts = [choice["text"] for piece in pieces for choice in piece["choices"]]
    assert texts[0] == "hello"
    assert pieces[0]["choices"][0]["logprobs"]["text_offset"] == [0, 1, 2, 3, 4]


def test_a_model_that_is_not_there_is_named_with_those_that_are(server):
    said = server.complete(404, model="gpt-4", prompt="hi")["error"]
    assert said["code"] == "model_not_found"
    assert all(mode in said["message"] for mode in MODES)
    assert server.http.get("/v1/models/gpt-4").status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "x" * 100, "max_tokens": 10_000}, "max_tokens"),
        ({"prompt": [5] * 3000}, "prompt"),
        ({"prompt": [5] * 2040, "max_tokens": 9}, "prompt"),
        ({"prompt": [260]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "hi", "logit_bias": {"260": 1}}, "logit_bias"),
        ({"prompt": "hi", "logit_bias": {"a": 1}}, "logit_bias"),
        ({"prompt": "hi", "presence_penalty": 1}, "presence_penalty"),
        ({"prompt": "hi", "nonsense": 1}, "nonsense"),
        ({"prompt": ["hi"] * 200}, None),
    ],
)
def test_what_cannot_be_answered_is_refused(server, body, param):
    said = server.complete(400, **body)["error"]
    assert (said["type"], said["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1]", "no|not a JSON object"),
        (b'{"model": "\\ud800"}', "not JSON"),
        (b'{"temperature": NaN}', "not JSON"),
        (b'{"temperature": 1e999, "model": "taia", "prompt": "hi"}', "temperature"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_body_that_is_no_request(server, body, words):
    said = server.http.post(
        "/v1/completions", content=body, headers={"Content-Type": "application/json"}
    )
    assert said.status_code == 400
    assert any(word in said.json()["error"]["message"] for word in words.split("|"))


def test_other_types_of_body_are_refused(server):
    said = server.http.post("/v1/completions", data={"model": "taia"})
    assert said.status_code == 415
    assert "application/json" in said.json()["error"]["message"]


def test_other_paths_and_methods_are_refused_in_the_same_form(server):
    assert server.http.get("/v1/nothing").json()["error"]["type"] == "invalid_request_error"
    assert server.http.get("/v1/completions").status_code == 405
    assert server.http.get("/../settings.py").status_code == 404


def test_no_page_from_elsewhere_may_read_or_call(server):
    said = server.http.get("/v1/models", headers={"Origin": "https://example.com"})
    assert not [name for name in said.headers if name.startswith("access-control")]
    said = server.http.get("/v1/models", headers={"Host": "example.com"})
    assert said.status_code == 400
    assert server.http.options("/v1/models").status_code == 405


def test_a_body_that_is_too_large():
    with tiny_server.ready(max_body=1000) as server:
        assert server.complete(413, prompt="x" * 1000)["error"]["type"] == "invalid_request_error"
        parts = iter([b'{"prompt": "', *[b"x" * 100] * 20])  # of no declared length
        said = server.http.post(
            "/v1/completions", content=parts, headers={"Content-Type": "application/json"}
        )
        assert said.status_code == 413
        assert server.complete(prompt="hi")


def test_a_client_that_is_too_slow():
    with tiny_server.ready(body_timeout=0.05) as server:
        with tiny_server.connected(server) as slow:
            head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
            head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
            slow.sendall(head.encode())
            assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
        assert server.complete(prompt="hi")


def test_a_key_is_asked_for():
    with tiny_server.ready(api_key="secret ü") as server:
        assert server.http.get("/v1/models").status_code == 401
        for wrong in ("Bearer wrong", "secret", "Bearer", "Basic secret"):
            said = server.http.post("/v1/completions", headers={"Authorization": wrong})
            assert said.status_code == 401
            assert said.json()["error"]["code"] == "invalid_api_key"
            assert said.headers["www-authenticate"] == "Bearer"
        right = {"Authorization": "Bearer secret ü".encode()}
        assert server.http.get("/v1/models", headers=right).status_code == 200
        assert server.http.get("/health").status_code == 200


def test_a_model_that_still_loads():
    go = threading.Event()

    def load():
        go.wait()
        return tiny_server.loaded()

    with tiny_server.running(load) as server:
        try:
            said = server.http.get("/health")
            assert (said.status_code, said.json()) == (503, {"status": "loading"})
            assert server.http.get("/v1/models").status_code == 503
            assert server.complete(503, prompt="hi")["error"]["code"] == "loading"
        finally:
            go.set()


def test_an_answer_that_takes_too_long():
    with tiny_server.ready(timeout=0.0) as server:
        assert server.complete(504, prompt="hi", max_tokens=500)["error"]["code"] == "timeout"
        pieces = [
            json.loads(line.removeprefix("data: "))
            for line in server.http.post(
                "/v1/completions", json={"model": "taia", "prompt": "hi", "stream": True}
            ).text.split("\n\n")
            if line.startswith("data: {")
        ]
        assert pieces[-1]["error"]["code"] == "timeout"
        assert server.service.gate.inside == 0


def test_a_failed_step_ends_its_answers_and_no_others(alone):
    loaded = tiny_server.loaded()
    fails = [True]

    def fail(*_):
        if fails:
            fails.pop()
            raise RuntimeError("out of memory")

    loaded.model.model.get_input_embeddings().register_forward_pre_hook(fail)
    with tiny_server.ready(lambda: loaded) as server:
        said = server.complete(500, prompt="hello")["error"]
        assert said["type"] == "server_error"
        assert "out of memory" not in said["message"]
        answer = server.complete(prompt="hello", max_tokens=8)["choices"][0]["text"]
        assert answer == greedy(alone, "taia", alone.prompter.tokenizer.encode("hello")).text
        assert server.http.get("/health").status_code == 200
        fails += [True] * 3
        for _ in range(3):
            server.complete(500, prompt="hello")
        assert server.http.get("/health").json() == {"status": "failing"}
        server.complete(prompt="hello")
        assert server.http.get("/health").json() == {"status": "ready"}


def test_a_failed_scoring_ends_alone(monkeypatch):
    with tiny_server.ready() as server:
        asked = {"prompt": "hello", "echo": True, "logprobs": 0, "max_tokens": 0}

        def fail(*args):
            raise RuntimeError("out of memory")

        with monkeypatch.context() as patch:
            patch.setattr("taia.serving.worker.score", fail)
            server.complete(500, **asked)
        assert server.complete(**asked)


def test_what_the_engine_refuses_is_the_clients_fault(monkeypatch):
    with tiny_server.ready() as server:
        engine = server.service.loaded.engine

        def refuse(request):
            raise InputError("Not this.", "Try that.")

        with monkeypatch.context() as patch:
            patch.setattr(engine, "add", refuse)
            assert server.complete(400, prompt="hi")["error"]["message"] == "Not this. Try that."
        assert server.complete(prompt="hi")


def test_a_template_that_says_no():
    loaded = tiny_server.loaded()
    loaded.prompter.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with tiny_server.ready(lambda: loaded) as server:
        assert "roles must alternate" in server.chat(400)["error"]["message"]
        loaded.prompter.tokenizer.chat_template = None
        assert "/v1/completions" in server.chat(400)["error"]["message"]


def test_settings_of_the_template_only():
    loaded = tiny_server.loaded()
    loaded.prompter.tokenizer.chat_template = "{{ 'yes' if deep else 'no' }}"
    with tiny_server.ready(lambda: loaded) as server:
        said = server.chat(chat_template_kwargs={"deep": True})
        assert said["usage"]["prompt_tokens"] == 3
        assert server.chat()["usage"]["prompt_tokens"] == 2
        error = server.chat(400, chat_template_kwargs={"tokenize": False})["error"]
        assert error["param"] == "chat_template_kwargs"


def test_metrics_count_what_happened():
    with tiny_server.ready() as server:
        said = [server.complete(prompt="hello", max_tokens=3)["usage"] for _ in range(2)]
        server.complete(400, prompt="")
        server.chat(404, model="nobody")
        done = {"mode": "taia", "kind": "completion", "status": "200"}
        assert server.metric("taia_requests_total", done) == 2
        assert server.metric("taia_requests_total", {**done, "status": "400"}) == 1
        lost = {"mode": "", "kind": "chat", "status": "404"}
        assert server.metric("taia_requests_total", lost) == 1
        assert server.metric("taia_tokens_total", {"mode": "taia", "kind": "answer"}) == sum(
            usage["completion_tokens"] for usage in said
        )
        assert server.metric("taia_tokens_total", {"mode": "taia", "kind": "prompt"}) == 10
        for name in ("taia_time_to_first_token_seconds_count", "taia_request_seconds_count"):
            assert server.metric(name, {"mode": "taia"}) >= 2
        assert server.metric("taia_answers_running") == 0
        assert server.metric("taia_answers_waiting") == 0
