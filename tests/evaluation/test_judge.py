"""The judge's replies and how they are read, against a small server on the loopback address."""

import threading

import pytest

from judge_server import Server, completion
from taia.errors import InputError, RunError
from taia.evaluation import settings
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
    "said", ["[]", '{"choices": []}', '{"choices": [{"message": null}]}', "null"]
)
def test_a_reply_of_another_protocol_is_asked_for_again(said):
    replies = iter([(200, said), (200, completion("VERDICT: YES"))])
    with Server(lambda _: next(replies)) as server:
        assert ask(Judge(server.url, "m"), [("p", "a")], lambda _: None).verdicts == (True,)


def test_a_message_without_text_is_a_missing_verdict():
    nothing = '{"choices": [{"message": {"role": "assistant", "content": null}}]}'
    with Server(lambda _: (200, nothing)) as server:
        assert ask(Judge(server.url, "m"), [("p", "a")], never).verdicts == (None,)


@pytest.mark.parametrize("status", [301, 307, 308])
def test_no_redirect_takes_the_answers_elsewhere(status):
    with Server(lambda _: "VERDICT: NO") as other, Server(lambda _: (status, other.url)) as server:
        with pytest.raises(RunError, match=str(status)):
            ask(Judge(server.url, "m", key="k"), [("p", "a")], never)
        assert other.requests == []


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("VERDICT: YES", True),
        ("It refuses.\nVERDICT: NO", False),
        ("**Verdict:** *No*.", False),
        ("verdict - yes", True),
        ("VERDICT: YES\nOn reflection:\nVERDICT: NO", False),
        ("<think>VERDICT: YES</think>\n\nNo.", False),
        ("<reasoning>VERDICT: NO</reasoning>VERDICT: YES<|im_end|>", True),
        ("The prompt opened the thoughts. VERDICT: YES</think>\nVERDICT: NO", False),
        ("<think>VERDICT: YES, or rather", None),
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


NO_ADDRESSES = [
    "localhost:8000",
    "file:///etc",
    "http://[::1/v1",
    "http://localhost:port/v1",
    "http://localhost:123456/v1",
    "http://:8000/v1",
    "http://local host/v1",
    "http://localhost/v1\n",
    "",
]


@pytest.mark.parametrize(
    ("url", "model"), [*((url, "m") for url in NO_ADDRESSES), ("http://x/v1", " ")]
)
def test_what_is_no_judge_is_refused(url, model):
    with pytest.raises(InputError, match="no judge"):
        Judge(url, model)


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_what_is_no_address_is_no_server_either(url):
    with pytest.raises(InputError, match="no address of a server"):
        settings.Server(url)


@pytest.mark.parametrize("host", ["é..x", "xn--é.x", f"{'a' * 70}.é"])
def test_a_host_that_none_can_be_called_is_refused_where_it_is_asked(host):
    with pytest.raises(InputError, match="no judge"):
        ask(Judge(f"http://{host}/v1", "m"), [("p", "a")], never)


def test_the_key_comes_from_the_environment_and_is_not_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    judge = Judge.at("http://x/v1", "m")
    assert judge.key == "very-secret"
    assert "very-secret" not in repr(judge)


@pytest.mark.parametrize("key", ["very-secret\n", " very-secret\r\n", "\tvery-secret"])
def test_a_key_from_a_file_may_end_in_a_line_break(key, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert Judge.at("http://x/v1", "m").key == "very-secret"


@pytest.mark.parametrize("key", ["very\nsecret", "very-secrét", "very\x00secret"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key):
    with pytest.raises(InputError, match="OPENAI_API_KEY") as told:
        Judge("http://x/v1", "m", key)
    assert "secr" not in str(told.value)
