"""What a request may ask: known, idle, neutral, refused."""

from __future__ import annotations

import pytest

from taia.serving.parameters import HARMLESS, NEUTRAL
from taia.serving.refusal import RefusedError
from taia.serving.requests import ChatAsked, CompletionAsked, read

CHAT = {"model": "taia", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION = {"model": "taia", "prompt": "hi"}


def refused(kind, **body):
    with pytest.raises(RefusedError) as caught:
        read(kind, body)
    assert caught.value.status == 400
    return caught.value


def test_what_is_not_said_is_as_openai_has_it():
    asked = read(CompletionAsked, COMPLETION)
    assert (asked.temperature, asked.top_p, asked.n, asked.stream) == (1, 1, 1, False)
    assert asked.alternatives is None
    assert asked.stops == ()


def test_null_is_as_if_not_said():
    nothing = dict.fromkeys(["temperature", "stop", "seed", "logit_bias", "tools", "user"])
    assert read(ChatAsked, CHAT | nothing) == read(ChatAsked, CHAT)


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_harmless_parameters_are_not_looked_at(name):
    assert read(ChatAsked, {**CHAT, name: "whatever"}) == read(ChatAsked, CHAT)


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_what_is_not_supported_is_let_through_only_where_it_does_nothing(name):
    for value in NEUTRAL[name]:
        assert read(ChatAsked, {**CHAT, name: value}) == read(ChatAsked, CHAT)
    error = refused(ChatAsked, **CHAT, **{name: "something else"})
    assert (error.param, error.code) == (name, "unsupported_parameter")


def test_true_is_not_one():
    assert refused(ChatAsked, **CHAT, best_of=True).param == "best_of"
    assert refused(ChatAsked, **CHAT, ignore_eos=0).param == "ignore_eos"


@pytest.mark.parametrize(
    ("kind", "more", "param"),
    [
        (ChatAsked, {"temperatur": 1}, "temperatur"),
        (ChatAsked, {"prompt": "hi"}, "prompt"),
        (ChatAsked, {"logprobs": 5}, "logprobs"),
        (ChatAsked, {"top_logprobs": 2}, "top_logprobs"),
        (ChatAsked, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (ChatAsked, {"messages": []}, "messages"),
        (ChatAsked, {"messages": [{"role": "user"}]}, "messages"),
        (ChatAsked, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         "messages"),
        (ChatAsked, {"continue_final_message": True}, "continue_final_message"),
        (ChatAsked, {"stream_options": {"include_usage": True}}, "stream_options"),
        (ChatAsked, {"max_completion_tokens": 0}, "max_completion_tokens"),
        (CompletionAsked, {"messages": []}, "messages"),
        (CompletionAsked, {"logprobs": True}, "logprobs"),
        (CompletionAsked, {"n": 0}, "n"),
        (CompletionAsked, {"n": True}, "n"),
        (CompletionAsked, {"n": "2"}, "n"),
        (CompletionAsked, {"temperature": -0.1}, "temperature"),
        (CompletionAsked, {"temperature": float("inf")}, "temperature"),
        (CompletionAsked, {"top_p": 0}, "top_p"),
        (CompletionAsked, {"stop": ""}, "stop"),
        (CompletionAsked, {"stop": ["a"] * 17}, "stop"),
        (CompletionAsked, {"logit_bias": {"5": 101}}, "logit_bias"),
        (CompletionAsked, {"prompt": [1, -1]}, "prompt"),
        (CompletionAsked, {"prompt": [1, "a"]}, "prompt"),
        (CompletionAsked, {"max_tokens": 0}, "max_tokens"),
        (CompletionAsked, {"seed": 2**63}, "seed"),
        (CompletionAsked, {"model": 3}, "model"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_its_name(kind, more, param):
    base = CHAT if kind is ChatAsked else COMPLETION
    assert refused(kind, **{**base, **more}).param == param


def test_what_is_missing_is_named():
    assert refused(ChatAsked, model="taia").param == "messages"
    assert refused(CompletionAsked, prompt="hi").param == "model"


def test_an_echo_may_have_no_answer():
    assert read(CompletionAsked, {**COMPLETION, "max_tokens": 0, "echo": True}).max_tokens == 0


def test_the_new_name_of_max_tokens_wins():
    both = {"max_tokens": 5, "max_completion_tokens": 7}
    assert read(ChatAsked, CHAT | both).max_new_tokens == 7


def test_parts_of_text_are_one_text():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = read(ChatAsked, {**CHAT, "messages": [{"role": "user", "content": parts, "name": "x"}]})
    assert asked.messages[0].to_template() == {"role": "user", "content": "ab", "name": "x"}
