"""What a task asks of a generation."""

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

from taia.errors import InputError
from taia.evaluation.harness.stages import Asked, Stage, Stages, in_stages, lead, read_stages


def test_what_tasks_usually_have():
    kwargs = {"until": ["\n", ""], "do_sample": False, "temperature": 0.0, "max_gen_toks": 7}
    assert read_stages(kwargs) == Stages(Stage(7, until=("\n",)))
    assert read_stages({"until": "x"}) == Stages(Stage(256, until=("x",)))
    assert read_stages({"max_new_tokens": 9}).first.max_new_tokens == 9


def test_draws():
    kwargs = {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "top_k": 5}
    assert read_stages(kwargs).first == Stage(256, temperature=0.8, top_p=0.9, top_k=5)
    greedy = {"do_sample": False, "temperature": 0.8}
    assert read_stages(greedy).first.temperature == 0


@pytest.mark.parametrize(
    ("kwargs", "temperature"),
    [
        ({"do_sample": True}, 1.0),
        ({"do_sample": True, "top_p": 0.9}, 1.0),
        ({"do_sample": True, "temperature": None}, 1.0),
        ({"do_sample": True, "temperature": 0.25}, 0.25),
        ({"temperature": 0.25}, 0.25),
        ({"temperature": "0.25"}, 0.25),
        ({"do_sample": False}, 0.0),
        ({"top_p": 0.9}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_temperature_of_draws(kwargs, temperature):
    """As transformers has it, where drawing is asked for and no temperature told."""
    assert read_stages(kwargs).first.temperature == temperature
    assert read_stages(kwargs).is_drawn is (temperature > 0)
    second = {"append": True, "max_gen_toks": 2, **kwargs}
    assert read_stages({"second_stage": second}).is_drawn is (temperature > 0)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"do_sample": True, "temperature": 0},
        {"do_sample": "yes"},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"do_sample": True, "top_p": 1.5},
        {"top_k": -3},
        {"max_gen_toks": 0},
    ],
)
def test_draws_that_cannot_be_are_refused(kwargs):
    (key, value) = list(kwargs.items())[-1]
    with pytest.raises(InputError) as told:
        read_stages(kwargs)
    assert key in told.value.problem
    assert str(value) in told.value.problem


def test_letters_are_one_token_whatever_the_length_asked_for():
    letters = {"letters": "ABCD", "letter_bias": 100, "max_gen_toks": 20}
    assert read_stages(letters, 50).first == Stage(1, letters="ABCD", letter_bias=100.0)
    assert read_stages({"letters": "AB"}).first.letter_bias == 15


def test_the_length_asked_for_is_the_first_stage_s():
    kwargs = {"max_gen_toks": 1024, "second_stage": {"append": True, "max_gen_toks": 10}}
    assert read_stages(kwargs, 64) == Stages(Stage(64), Stage(10))


def test_the_second_stage_can_be_a_letter():
    second = {"append": True, "letters": "ABCDE", "letter_bias": 100, "max_gen_toks": 1}
    found = read_stages({"max_gen_toks": 5, "second_stage": second})
    assert found.second == Stage(1, letters="ABCDE", letter_bias=100.0)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"num_beams": 4},
        {"letter": "AB"},
        {"second_stage": {"append": True, "penalty": 2}},
        {"second_stage": {"max_gen_toks": 3}},
        {"second_stage": "yes"},
    ],
)
def test_what_is_unknown_is_refused(kwargs):
    with pytest.raises(InputError):
        read_stages(kwargs)


def test_what_is_appended():
    assert lead("So it is 3.") == " The answer is "
    assert lead("So it is 3") == lead("") == ". The answer is "


def test_all_first_stages_run_together_then_all_second_ones():
    two, one = Stages(Stage(8), Stage(3)), Stages(Stage(8))
    asked = [Asked("base", "p", two, 1), Asked("taia", "q", one, 1), Asked("taia", "p", two, 1)]
    calls, seeds = [], []

    def generate(turns, name, watch):
        seeds.extend(turn.seed for turn in turns)
        calls.append([(t.asked.mode, t.asked.prompt, t.stage, t.begun) for t in turns])
        return [f"<{t.asked.mode}>" + ("." if t.asked.mode == "taia" else "") for t in turns]

    texts = in_stages(asked, generate, lambda *_: None)
    assert texts == ["<base>. The answer is <base>", "<taia>.", "<taia>. The answer is <taia>."]
    assert [len(call) for call in calls] == [3, 2]
    assert seeds[:3] == [1, 1, 1]
    assert len({*seeds[3:], 1}) == 2, "a second stage goes on with draws of its own"
    assert calls[1] == [
        ("base", "p", Stage(3), "<base>. The answer is "),
        ("taia", "p", Stage(3), "<taia>. The answer is "),
    ]
