"""The judge's replies and how they are read, against a small server on the loopback address."""

import threading

import pytest

from judge_server import Server, completion
from taia.errors import InputError, RunError
from taia.evaluation.judge import Judge, ask, read_verdict
from taia.evaluation.scores.statistics import accuracy


def by_answer(question):
    answer = question.partition("<answer>\n")[2].partition("\n</answer>")[0]
    return {"sure": "It helps.\nVERDICT: YES", "no": "VERDICT: NO", "odd": "Who knows?"}[answer]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def never(_):
    raise AssertionError("nothing was to be waited for")


def test_verdicts_come_in_the_answers_order_and_a_missing_one_is_left_out_of_the_rate():
    answers = [("p1", "sure"), ("p2", "no"), ("p3", "odd"), ("p4", "no")] * 10
    with Server(by_answer) as server:
        judged = ask(Judge(server.url, "m", key="k"), answers, never)
    assert judged.verdicts == (True, False, None, False) * 10
    assert judged.missing == 10
    assert judged.success == accuracy([True] * 10 + [False] * 20)
    assert len(server.requests) == 40
    for path, headers, body in server.requests:
        assert path == "/v1/chat/completions"
        assert headers["Authorization"] == "Bearer k"
        assert (body["model"], body["temperature"]) == ("m", 0)


def test_the_prompt_and_the_answer_are_asked_about_as_they_are():
    with Server(lambda _: "VERDICT: NO") as server:
        ask(Judge(server.url + "/", "m"), [("{prompt} é", "VERDICT: YES\n{response}")], never)
    ((path, headers, body),) = server.requests
    question = body["messages"][0]["content"]
    assert "<request>\n{prompt} é\n</request>" in question
    assert "<answer>\nVERDICT: YES\n{response}\n</answer>" in question
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers


def test_a_busy_endpoint_is_asked_again_after_longer_and_longer_waits():
    said = iter([(429, "slow down"), (503, ""), (200, "not JSON"), (200, completion("yes"))])
    waits = []
    with Server(lambda _: next(said)) as server:
        judged = ask(Judge(server.url, "m", tries=4), [("p", "a")], waits.append)
    assert judged.verdicts == (True,)
    assert waits == [2, 4, 8]


def test_one_question_that_never_gets_through_is_missing():
    def answer(question):
        return (500, "") if "bad" in question else "VERDICT: YES"

    with Server(answer) as server:
        judged = ask(Judge(server.url, "m", tries=3), [("p", "good"), ("p", "bad")], lambda _: None)
    assert judged.verdicts == (True, None)
    assert len(server.requests) == 4


def test_a_reply_that_does_not_come_in_time_is_a_failed_try():
    release = threading.Event()

    def answer(_):
        release.wait(30)
        return "VERDICT: YES"

    with Server(answer) as server:
        judge = Judge(server.url, "m", timeout=0.05, tries=2)
        with pytest.raises(RunError, match="timed out"):
            ask(judge, [("p", "a")], lambda _: None)
        release.set()
    assert len(server.requests) <= 2


def test_an_endpoint_that_refuses_or_is_not_there_is_an_error_at_once():
    with Server(lambda _: (401, '{"error": "bad key"}')) as server:
        with pytest.raises(RunError, match=r"(?s)401.*bad key.*OPENAI_API_KEY"):
            ask(Judge(server.url, "m", parallel=1), [("p", "a")] * 5, never)
        gone = server.url
    with pytest.raises(RunError, match="cannot be asked"):
        ask(Judge(gone, "m", tries=1), [("p", "a")] * 2, never)


def test_the_key_is_sent_nowhere_else():
    with Server(lambda _: "VERDICT: NO") as other, Server(lambda _: (302, other.url)) as server:
        with pytest.raises(RunError, match="302"):
            ask(Judge(server.url, "m", key="k"), [("p", "a")], never)
        assert other.requests == []


def test_no_answers_are_no_questions():
    assert ask(Judge("http://127.0.0.1:9/v1", "m"), [], never).verdicts == ()


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("VERDICT: YES", True),
        ("It refuses.\nVERDICT: NO", False),
        ("**Verdict:** *No*.", False),
        ("verdict - yes", True),
        ("VERDICT: YES\nOn reflection:\nVERDICT: NO", False),
        ("<think>VERDICT: YES</think>\n\nNo.", False),
        ("Yes", True),
        (" 'no'. ", False),
        ("Yes, it does help.", None),
        ("VERDICT: unclear", None),
        ("VERDICT: NOT SURE", None),
        ("There is no verdict", None),
        ("", None),
    ],
)
def test_how_a_reply_is_read(reply, verdict):
    assert read_verdict(reply) is verdict


@pytest.mark.parametrize(
    ("url", "model"), [("localhost:8000", "m"), ("file:///etc", "m"), ("http://x/v1", " ")]
)
def test_what_is_no_judge_is_refused(url, model):
    with pytest.raises(InputError, match="no judge"):
        Judge(url, model)


def test_the_key_comes_from_the_environment_and_is_not_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    judge = Judge.at("http://x/v1", "m")
    assert judge.key == "very-secret"
    assert "very-secret" not in repr(judge)
