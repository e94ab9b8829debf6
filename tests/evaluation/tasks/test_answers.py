"""Hand-made answers with their verdicts, by both protocols; and what is read from an answer."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from taia.errors import InputError
from taia.evaluation.tasks.answers import match
from taia.evaluation.tasks.answers.choices import letter
from taia.evaluation.tasks.answers.extract import final_answer
from taia.evaluation.tasks.answers.numbers import number
from taia.evaluation.tasks.answers.statements import boxed
from taia.evaluation.tasks.registry import find
from taia.evaluation.tasks.task import Item

KINDS = {"taia_math": "math", "taia_svamp": "number"}
ROWS = [
    json.loads(line)
    for line in (Path(__file__).parent / "answers.jsonl").read_text("utf-8").splitlines()
]
needs_math = pytest.mark.skipif(
    importlib.util.find_spec("math_verify") is None, reason="math-verify is not installed"
)


def item(row):
    kind = row.get("kind") or KINDS.get(row["task"], "option")
    options = tuple(row.get("options", ()))
    return Item("1", row["task"], "", kind, row["gold"], options, "", row.get("solution", ""))


def right_by_authors(item, response):
    return find(item.task).by_authors(item, response)


def name(row):
    return f"{row['task']}-{row['response'][:30]}-{row['gold']}"


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=[needs_math] if row["task"] == "taia_math" else [], id=name(row))
        for row in ROWS
    ],
)
def test_our_verdict_is_the_right_one(row):
    assert match.is_right(item(row), row["response"]) is row["right"]


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_the_authors_verdict_is_theirs(row):
    assert right_by_authors(item(row), row["response"]) is row["authors"]


def test_the_answers_tell_the_protocols_apart_on_every_task():
    assert len(ROWS) >= 60
    assert {row["task"] for row in ROWS if row["right"] != row["authors"]} == {
        "taia_math", "taia_bbh", "taia_csqa", "taia_logiqa", "taia_logiqa_zh",
        "taia_svamp", "taia_mmedbench", "taia_mmlu",
    }  # fmt: skip


def test_mathematics_without_its_library_is_refused_not_guessed(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(InputError, match="math-verify"):
        match.equal_math("2", "2")


@needs_math
def test_what_a_model_writes_is_never_run(tmp_path):
    trap = tmp_path / "trap"
    code = f"__import__('pathlib').Path('{trap}').touch()"
    assert not match.equal_math(code, "2")
    row = {"task": "taia_math", "gold": "2"}
    assert not right_by_authors(item(row), f"\\boxed{{{code}}}")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("\\boxed{\\frac{1}{\\sqrt{2}}}", "\\frac{1}{\\sqrt{2}}"),
        ("\\boxed{1} \\boxed{}", "1"),
        ("\\boxed 7", "7"),
        ("\\boxed{unclosed", None),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("The answer is 3.14. Good.", "3.14"),
        ("The answer is: $1,234.50.", "$1,234.50"),
        ("The answer is **B**.", "B"),
        ("The answer is 1. The answer is .", "1"),
        ("The answer is 5\nand more", "5"),
        ("The answer is:\n5", "5"),
        ("答案是 3.5。好", "3.5"),
        ("The answer is 11,\\! 111.", "11,\\! 111"),
        ("One. Two.", None),
        ("", None),
        ("3.5", "3.5"),
    ],
)
def test_final_answer(response, answer):
    assert final_answer(response) == answer


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234,567.5 km", 1234567.5),
        ("-7", -7), ("−7", -7), ("−$7", -7), ("$ -7$", -7),
        ("2 1/2 hours", 2.5), ("2\\frac{1}{2}", 2.5), ("-\\frac{1}{4}", -0.25), ("\\frac12", 0.5),
        (".5", 0.5), ("50\\%", 50), ("\\text{about } 3", 3), ("1{,}000", 1000),
        ("11,\\! 111", 11111), ("1/0", None),
        ("x = 4", 4), ("3 to 5", None), ("3, 4", None), ("3-4", None), ("none", None), ("", None),
    ],
)  # fmt: skip
def test_number(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(b)", "B"), ("B) the mall", "B"), ("option C", "C"), ("选项D", "D"), ("B（乙）", "B"),
        ("A library", None), ("I think so", None), ("A, B", None), ("A and B", None),
        ("(A) or (B)", None), ("the mall (D)", "D"), ("F", None), ("U.S. law", None),
    ],
)  # fmt: skip
def test_letter(text, value):
    assert letter(text, "E") == value


def test_every_box_is_found_in_order():
    assert list(boxed("\\boxed{a} \\fbox{b{c}} \\boxed{} \\boxedness{x}")) == ["a", "b{c}", ""]


def test_boxes_that_are_never_closed_are_read_in_one_pass():
    """Each brace once: a box for each of them, read to the text's end, would take minutes."""
    assert list(boxed("\\boxed{" * 200_000 + "\\boxed{7}")) == ["7"]
    assert list(boxed(r"\boxed{a\}b} \boxed{ {c} } \fbox 5 \boxed{d")) == [r"a\}b", "{c}", "5"]
