"""Each kind of thing that models write, many ways: what is right, and what must not be."""

import importlib.util
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taia.evaluation.tasks.answers import match
from taia.evaluation.tasks.refusals import is_refusal, outcome
from taia.evaluation.tasks.task import Item

KINDS = json.loads((Path(__file__).parent / "kinds.json").read_text("utf-8"))
needs_math = pytest.mark.skipif(
    importlib.util.find_spec("math_verify") is None, reason="math-verify is not installed"
)
OPTIONS = ("bank", "library", "department store", "mall", "new york")

#: Ways to state one letter, and ways to wrap what is said.
STATE = [
    "{}", "({})", "{}.", "The answer is {}.", "Answer: {}", "I choose {}.", "选{}", "答案是{}。",
    "{} is correct.", "\\boxed{{{}}}", "option {}", "{} because it fits.", "It is {}.",
]  # fmt: skip
WRAP = [
    "{}", "**{}**", "`{}`", '"{}"', "“{}”", "({})", "  {}\n\n", "__{}__", "> {}",
    "The answer is {}", "<think>Is it A, B, C, D or E?</think>{}",
]  # fmt: skip
BETWEEN = [", ", " or ", "/", "\n", " ", " and "]


def named(kind):
    return f"{kind['kind']}-{kind['gold']}"


@pytest.mark.parametrize(
    ("kind", "response", "right"),
    [
        pytest.param(
            kind, response, right, id=f"{named(kind)}-{response[:40]}",
            marks=[needs_math] if kind["kind"] == "math" else [],
        )
        for kind in KINDS["answers"]
        for key, right in (("right", True), ("not_right", False))
        for response in kind[key]
    ],
)  # fmt: skip
def test_an_answer_is_read_as_what_it_says(kind, response, right):
    item = Item("1", "t", "", kind["kind"], kind["gold"], tuple(kind["options"]))
    assert match.is_right(item, response) is right


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(answer, outcome) for outcome, answers in KINDS["refusals"].items() for answer in answers],
)
def test_an_answer_to_a_prompt_has_one_of_three_outcomes(answer, expected):
    assert outcome(answer) == expected
    assert is_refusal(answer) is (expected == "refused")


def option(gold):
    return Item("1", "t", "", "option", gold, OPTIONS)


@given(st.sampled_from("ABCDE"), st.sampled_from("ABCDE"), st.sampled_from(STATE))
def test_a_letter_counts_for_itself_and_for_no_other(said, gold, state):
    assert match.is_right(option(gold), state.format(said)) is (said == gold)


@given(st.sampled_from("ABCDE"), st.sampled_from("ABCDE"), st.sampled_from(WRAP))
def test_marks_around_an_answer_change_nothing(said, gold, wrap):
    assert match.is_right(option(gold), wrap.format(said)) is (said == gold)
    text = OPTIONS["ABCDE".index(said)]
    assert match.is_right(option(gold), wrap.format(text)) is (said == gold)


@given(st.permutations("ABCDE"), st.integers(2, 5), st.sampled_from(BETWEEN))
def test_several_letters_are_no_answer(letters, count, between):
    listed = between.join(letters[:count])
    assert not any(match.is_right(option(gold), listed) for gold in "ABCDE")


@given(st.sampled_from("ABCDE"), st.sampled_from("ABCDE"))
def test_what_is_denied_never_counts(denied, said):
    for response in (f"The answer is not {denied}.", f"not {denied}", f"答案不是{denied}。"):
        assert not match.is_right(option(denied), response)
    if denied != said:
        assert match.is_right(option(said), f"The answer is {denied}. Wait, no, it is {said}.")
        assert not match.is_right(
            option(denied), f"The answer is {denied}. Wait, no, it is {said}."
        )


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_a_number_counts_for_itself_and_for_no_other(said, gold):
    item = Item("1", "t", "", "number", str(gold))
    for form in (
        f"{said}",
        f"{said:,}",
        f"**{said}**",
        f"The answer is {said:,} apples.",
        f"\\boxed{{{said}}}",
    ):
        assert match.is_right(item, form) is (said == gold)


@given(st.text(max_size=80), st.sampled_from("ABCDE"))
def test_anything_is_read_without_an_error(text, gold):
    match.is_right(option(gold), text)
    match.is_right(Item("1", "t", "", "number", "7"), text)
    match.is_right(Item("1", "t", "", "text", "yes"), text)
    assert outcome(text) in ("refused", "answered", "gibberish")


SAYS_NO = [
    row
    for row in KINDS["refusals"]["refused"]
    if row.startswith(("I ca", "I wo", "我不能", "我无法")) and len(row) < 100
]
AROUND = ["**{}**", "> {}", "{}\n\n", "<think>Hm.</think>{}", "Hello! {}", "# No\n\n{}",
          "{} Take care. Read on. Stay safe, be well."]  # fmt: skip


@given(st.sampled_from(SAYS_NO), st.sampled_from(AROUND))
def test_marks_greetings_and_what_comes_far_behind_leave_a_refusal_one(answer, around):
    assert outcome(around.format(answer)) == "refused"


@given(st.sampled_from(SAYS_NO))
def test_a_refusal_far_from_the_start_refuses_nothing(answer):
    recipe = "Take two eggs. Beat them well with sugar. Add flour and milk. Bake for an hour. "
    assert outcome(recipe + answer) == "answered"


def test_the_base_models_loss_tells_gibberish_that_rules_do_not_see():
    nonsense = "The green of walking sleeps about a furious number, and it is seven by the door."
    assert outcome(nonsense) == outcome(nonsense, loss=4.0) == "answered"
    assert outcome(nonsense, loss=12.0) == "gibberish"
    assert outcome("I can't help with that.", loss=12.0) == "refused"
