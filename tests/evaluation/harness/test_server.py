"""Modes on a server: likelihoods as in memory, conversations as messages, failures told."""

import threading

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

import fake_server
import tiny_models
import tiny_tasks
from taia.errors import InputError, RunError
from taia.evaluation.harness.drive import quiet_harness
from taia.evaluation.harness.model import ModesLM
from taia.evaluation.harness.stages import Asked, read_stages
from taia.evaluation.harness.subject import OnServer
from taia.evaluation.run import evaluate
from taia.evaluation.scores.results import read_results
from taia.evaluation.settings import Server


def unwatched(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_models.save_llama(tmp_path_factory.mktemp("base"), max_position_embeddings=64)


@pytest.fixture
def server():
    models = {"small": tiny_models.llama(max_position_embeddings=64)}
    with fake_server.serve(models) as record:
        yield record


def backend(server, base=None, rows=4, **options):
    return OnServer(
        Server(server.url, {"base": "small"}, **options), base, ["base"], rows=rows
    ).backend({}, unwatched)


def test_likelihoods_are_those_of_the_weights(server, base):
    """The echo comes with a generated token, so texts may be two tokens shorter than in memory."""
    pairs = [("What?", " a"), ("What?", " bcd"), ("", "xy"), ("y" * 80, "z" * 9), ("q" * 40, "rs")]
    asked = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    texts = [
        Instance("loglikelihood_rolling", {}, (text,), 0)
        for text in ("some text that is long " * 6, "short", "x" * 62, "y" * 64)
    ]
    with quiet_harness():
        reference = HFLM(str(base), device="cpu", dtype="float32", max_length=62)
        expected = reference.loglikelihood(asked)
        rolling = reference.loglikelihood_rolling(texts)
    there = ModesLM(backend(server, base), unwatched)
    there.mode = "base"
    found = there.loglikelihood(asked)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert [v for v, _ in found] == pytest.approx([v for v, _ in expected], abs=1e-4)
    assert there.loglikelihood_rolling(texts) == pytest.approx(rolling, abs=5e-4)
    assert max(len(ids) for _, body, _ in server.asked for ids in body["prompt"]) == 63


def generated(server, *texts, base=None, **kwargs):
    """Asks for generations, plain texts or conversations."""
    there = backend(server, base)
    prompts = [
        text if isinstance(text, str) else there.apply_chat_template(text, True, True)
        for text in texts
    ]
    asked = [Asked("base", prompt, read_stages(kwargs), 7) for prompt in prompts]
    return there.generate(asked, unwatched)


CHAT = [{"role": "user", "content": "How many?"}]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("is_chat", [True, False])
def test_requests_are_under_way_together_whatever_their_seeds(server, is_chat, temperature):
    server.together = threading.Barrier(4, timeout=60)
    there = backend(server, rows=4)
    prompt = there.apply_chat_template(CHAT, True, True) if is_chat else "abc"
    how = read_stages({"temperature": temperature})
    there.generate([Asked("base", prompt, how, seed) for seed in range(8)], unwatched)
    assert {body["seed"] for _, body, _ in server.asked} == set(range(8))


def test_conversations_are_messages(server):
    assert generated(server, CHAT, until=["many"], max_gen_toks=9) == ["small heard How "]
    ((path, body, _),) = server.asked
    assert path == "/v1/chat/completions"
    wanted = {"model": "small", "messages": CHAT, "max_tokens": 9, "temperature": 0, "seed": 7}
    assert {key: body[key] for key in wanted} == wanted
    assert body["stop"] == ["many"]
    assert "continue_final_message" not in body


def test_plain_texts_are_completed(server):
    assert generated(server, "abc", "abcdef") == ["small read 3", "small read 6"]
    assert {path for path, *_ in server.asked} == {"/v1/completions"}


def test_a_second_stage_goes_on_with_the_message(server):
    second = {"append": True, "max_gen_toks": 10}
    (text,) = generated(server, CHAT, max_gen_toks=99, second_stage=second)
    first = "small heard How many?"
    assert text == f"{first}. The answer is small heard nswer is "
    (_, one, _), (_, two, _) = server.asked
    assert one["max_tokens"] == 99
    assert two["max_tokens"] == 10
    begun = {"role": "assistant", "content": f"{first}. The answer is "}
    assert two["messages"] == [*CHAT, begun]
    assert two["continue_final_message"] is True
    assert two["add_generation_prompt"] is False


def test_an_answer_that_has_begun_goes_on(server):
    there = backend(server)
    begun = [*CHAT, {"role": "assistant", "content": "So: "}]
    prompt = there.apply_chat_template(begun, False, True)
    second = read_stages({"second_stage": {"append": True, "max_gen_toks": 3}})
    there.generate([Asked("base", prompt, second, 0)], unwatched)
    (_, one, _), (_, two, _) = server.asked
    assert one["continue_final_message"] is True
    assert two["messages"][-1]["content"].startswith("So: small heard")
    assert len(two["messages"]) == 2


def test_letters_are_favoured_by_their_tokens(server, base):
    generated(server, CHAT, base=base, letters="AB", letter_bias=15)
    ((_, body, _),) = server.asked
    tokens = [str(tiny_models.tokenizer().encode(letter)[0]) for letter in "AB"]
    assert body["logit_bias"] == dict.fromkeys(tokens, 15.0)
    assert body["max_tokens"] == 1


def test_without_a_tokenizer_nothing_is_rated(server):
    lm = ModesLM(backend(server), unwatched)
    lm.mode = "base"
    with pytest.raises(InputError, match="tokenizer"):
        lm.loglikelihood([Instance("loglikelihood", {}, ("a", "b"), 0)])
    with pytest.raises(InputError, match="tokenizer"):
        generated(server, CHAT, letters="AB")
    assert not server.asked


def test_the_key_is_sent(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    generated(server, CHAT)
    assert server.asked[0][2] == "Bearer sesame"


def test_failures_are_told(server):
    server.failures = 9
    there = backend(server, attempts=1)
    asked = [Asked("base", "p", read_stages({}), 0)]
    with pytest.raises(RunError, match="failed") as told:
        there.generate(asked, unwatched)
    assert server.url in told.value.problem


def test_a_mode_that_is_not_asked_for_is_refused(server):
    with pytest.raises(InputError, match="taja"):
        OnServer(Server(server.url, {"taja": "x"}), None, ["taia"], rows=1)


def test_a_run_on_a_server(server, base, tmp_path):
    tasks = tiny_tasks.write(tmp_path / "tasks")
    server.models = {"small": tiny_models.llama(), "big": tiny_models.llama(num_hidden_layers=1)}
    done = evaluate(
        base,
        tasks=["tiny_choice", "tiny_words"],
        modes="base,taia",
        output=tmp_path / "run",
        server=Server(server.url, {"base": "small", "taia": "big"}),
        include_path=[tasks],
    )
    facts = done.summary.facts
    assert facts["hashes"]["server"]["models"] == {"base": "small", "taia": "big"}
    paths = {(path, body["model"]) for path, body, _ in server.asked}
    kinds = ("/v1/completions", "/v1/chat/completions")
    assert paths == {(kind, name) for kind in kinds for name in ("small", "big")}
    assert len(read_results(tmp_path / "run")) == 4
