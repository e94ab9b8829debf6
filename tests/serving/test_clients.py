"""The libraries that people use, against a server on loopback."""

from __future__ import annotations

import pytest

import tiny_models
import tiny_server
from taia.runtime.generation import Generation

openai = pytest.importorskip("openai", reason="the official client, in taia[dev]")

ASKS = [tiny_server.ASKS]


@pytest.fixture(scope="module")
def server():
    with tiny_server.ready(api_key="secret") as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="secret", max_retries=0) as made:
        yield made


def test_the_models(client):
    assert [model.id for model in client.models.list()] == ["base", "tuned", "taia"]
    assert client.models.retrieve("taia").owned_by == "taia"


def test_a_chat_whole_and_streamed(client):
    asked = {"model": "taia", "messages": ASKS, "temperature": 0, "max_completion_tokens": 8}
    whole = client.chat.completions.create(**asked)
    pieces = list(
        client.chat.completions.create(
            **asked, stream=True, stream_options={"include_usage": True}
        )
    )  # fmt: skip
    streamed = "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
    assert streamed == whole.choices[0].message.content
    assert pieces[-1].usage == whole.usage
    assert whole.usage.completion_tokens == 8


def test_log_probabilities_of_a_chat(client):
    said = client.chat.completions.create(
        model="tuned", messages=ASKS, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3
    )
    for entry in said.choices[0].logprobs.content:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == entry.top_logprobs[0].logprob < 0
        assert entry.bytes == entry.top_logprobs[0].bytes


def test_several_answers(client):
    said = client.chat.completions.create(
        model="base", messages=ASKS, n=3, seed=4, temperature=1.5, max_tokens=6
    )
    assert [choice.index for choice in said.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in said.choices}) == 3


def test_a_completion_whole_and_streamed(client):
    asked = {"model": "base", "prompt": "hello", "temperature": 0, "max_tokens": 8}
    whole = client.completions.create(**asked, logprobs=1)
    pieces = client.completions.create(**asked, stream=True)
    assert "".join(p.choices[0].text for p in pieces) == whole.choices[0].text
    assert len(whole.choices[0].logprobs.tokens) == whole.usage.completion_tokens


def test_errors_are_the_clients_own(client, server):
    with pytest.raises(openai.NotFoundError, match="base, tuned, taia"):
        client.chat.completions.create(model="gpt-4", messages=ASKS)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="taia", messages=ASKS, presence_penalty=1)
    assert caught.value.param == "presence_penalty"
    wrong = openai.OpenAI(base_url=f"{server.url}/v1", api_key="no", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError):
        wrong.models.list()


def test_an_error_within_a_stream_is_raised():
    with tiny_server.ready(timeout=0.0) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        with client, pytest.raises(openai.APIError, match="longer than 0 s"):
            list(client.chat.completions.create(model="taia", messages=ASKS, stream=True))


@pytest.fixture(scope="module")
def harness(server, tmp_path_factory):
    """lm-eval's model for OpenAI's interface."""
    for name in ("lm_eval", "aiohttp", "tenacity", "tiktoken"):
        pytest.importorskip(name, reason="in taia[dev]")
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_models.tokenizer().save_pretrained(folder)
    return lambda mode, **more: LocalCompletionsAPI(
        model=mode, base_url=f"{server.url}/v1/completions", tokenizer=str(folder),
        header={"Authorization": "Bearer secret"}, max_length=256, max_retries=1, **more,
    )  # fmt: skip


def instances(kind, *arguments):
    from lm_eval.api.instance import Instance

    return [
        Instance(request_type=kind, doc={}, arguments=each, idx=index)
        for index, each in enumerate(arguments)
    ]


@pytest.mark.parametrize("batch", [{"batch_size": 1}, {"batch_size": 3}, {"num_concurrent": 4}])
def test_lm_eval_scores_through_the_server_as_in_memory(harness, batch):
    from lm_eval.models.huggingface import HFLM

    asked = instances(
        "loglikelihood",
        ("Question: what?\nAnswer:", " yes"),
        ("Question: what?\nAnswer:", " no"),
        ("Longer: " + "x" * 40, " maybe so"),
        ("a", "b"),
    )
    alone = tiny_server.loaded()
    found = {}
    for mode in ("base", "taia"):
        with alone.model.mode(mode):
            local = HFLM(pretrained=alone.model.model, tokenizer=tiny_models.tokenizer())
            expected = local.loglikelihood(asked, disable_tqdm=True)
        got = harness(mode, **batch).loglikelihood(asked, disable_tqdm=True)
        assert [value for value, _ in got] == pytest.approx([v for v, _ in expected], abs=1e-3)
        assert [greedy for _, greedy in got] == [greedy for _, greedy in expected]
        found[mode] = [value for value, _ in got]
    assert found["base"] != pytest.approx(found["taia"], abs=1)


def test_lm_eval_knows_a_greedy_answer(harness):
    """The control of the test above, where random continuations are hardly ever greedy."""
    alone = tiny_server.loaded()
    context = alone.prompter.tokenizer.encode("hello")
    said = alone.engine.generate([Generation("taia", tuple(context), 3)])[0]
    greedy = [token.id for token in said.tokens]
    other = [*greedy[:-1], (greedy[-1] + 1) % tiny_models.VOCABULARY]
    asked = [(("", ""), context, greedy), (("", ""), context, other)]
    got = harness("taia")._loglikelihood_tokens(asked)
    assert [is_greedy for _, is_greedy in got] == [True, False]


def test_lm_eval_generates_through_the_server(harness):
    asked = instances(
        "generate_until",
        ("hello", {"until": ["\n"], "max_gen_toks": 8, "do_sample": False}),
        ("you there", {"until": ["\n"], "max_gen_toks": 8, "do_sample": False}),
    )
    alone = tiny_server.loaded()
    for mode in ("base", "taia"):
        got = harness(mode).generate_until(asked, disable_tqdm=True)
        expected = [
            alone.engine.generate(
                [
                    Generation(
                        mode,
                        tuple(alone.prompter.tokenizer.encode(prompt)),
                        8,
                        end=alone.prompter.end,
                        stop=("\n",),
                    )
                ]
            )[0].text
            for prompt in ("hello", "you there")
        ]
        assert got == expected
