"""What is given after --learn and --keep: rows, prompts, tasks, and what is none of them."""

import json

import pytest

from taia.errors import DataError, InputError
from taia.mending.sources import Prompt, read_given, said_key
from taia.training.data import Row

ROW = {"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}]}


def write(tmp_path, rows, name="mine.jsonl"):
    path = tmp_path / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def read(given, prompts=True):
    return read_given("--keep" if prompts else "--learn", [given], prompts=prompts)


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        {"prompt": "Hi?", "completion": "Yes."},
        {"instruction": "Hi?", "output": "Yes."},
        {"question": "Hi?", "answer": "Yes."},
        {"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes."}]},
        {"text": "A whole text."},
    ],
)
@pytest.mark.parametrize("prompts", [True, False])
def test_rows_with_answers_are_rows_on_both_sides(tmp_path, row, prompts):
    (file,) = read(write(tmp_path, [row, row]), prompts).files
    assert len(file.said) == 2
    assert all(isinstance(one, Row) for one in file.said)


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"prompt": "Hi?"}, ["Hi?"]),
        ("Hi?", ["Hi?"]),
        ({"question": "Hi?", "id": 3}, ["Hi?"]),
        ({"instruction": "Say", "input": "hi"}, ["Say\nhi"]),
        ({"prompt": [{"role": "user", "content": "Hi?"}]}, ["Hi?"]),
        ({"messages": ROW["messages"][:1]}, ["Hi?"]),
        ([{"role": "user", "content": "Hi?"}], ["Hi?"]),
        ({"prompt": "Hi?", "completion": None}, ["Hi?"]),
        ({"system": "Be kind.", "question": "Hi?"}, ["Be kind.", "Hi?"]),
        ([*ROW["messages"], {"role": "user", "content": "So?"}], ["Hi?", "Yes.", "So?"]),
        ({"conversations": [{"from": "human", "value": "Hi?"}]}, ["Hi?"]),
    ],
)  # fmt: skip
def test_prompts_without_answers(tmp_path, row, asked):
    (file,) = read(write(tmp_path, [row])).files
    (prompt,) = file.said
    assert isinstance(prompt, Prompt)
    assert [turn.content for turn in prompt.turns] == asked
    assert prompt.turns[-1].role == "user"


def test_what_is_learnt_needs_answers(tmp_path):
    with pytest.raises(DataError):
        read(write(tmp_path, [{"prompt": "Hi?"}]), prompts=False)
    with pytest.raises(DataError):
        read(write(tmp_path, [{"messages": ROW["messages"][:1]}]), prompts=False)


def test_a_text_file_has_a_prompt_a_line(tmp_path):
    path = tmp_path / "asked.txt"
    path.write_bytes("\ufeffOne?\n\n  Two?  \r\nDrei – ß?\n".encode())
    (file,) = read(str(path)).files
    assert [one.turns[0].content for one in file.said] == ["One?", "Two?", "Drei – ß?"]


@pytest.mark.parametrize(
    ("content", "told"), [(b"\n \n", "no prompt"), (b"caf\xe9\n", "cannot be read")]
)
def test_a_text_file_that_is_none(tmp_path, content, told):
    path = tmp_path / "asked.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=told):
        read(str(path))


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        ([{"prompt": "Hi?"}, {"prompt": ""}], "line 2"),
        ([{"prompt": "Hi?"}, {"prompt": 3}, {"prompt": "x"}], "line 2"),
        ([{"prompt": "Hi?"}, {"other": "Hi?"}], "line 2"),
        ([{"prompt": "Hi?"}, 7], "line 2"),
        ([{"messages": []}, {"prompt": "Hi?"}], "line 1"),
        ([{"prompt": "Hi?", "completion": "Yes."}, {"prompt": "No answer?"}], "line 2"),
        ([{"messages": [{"role": "system", "content": "Be kind."}]}], "line 1"),
    ],
)
def test_bad_lines_are_named(tmp_path, rows, place):
    with pytest.raises(DataError, match=place):
        read(write(tmp_path, rows))


@pytest.mark.parametrize(
    "given", ["nothing_like_a_task", "no/such.jsonl", "absent.txt", "", " ", "questoins"]
)
@pytest.mark.parametrize("prompts", [True, False])
def test_what_is_nothing_is_refused_by_name(given, prompts):
    with pytest.raises(InputError):
        read(given, prompts)


@pytest.mark.parametrize("given", ["questions", "mend", "quick", "arc_easy"])
def test_tasks_are_tasks(given):
    found = read_given("--keep", [given, given], prompts=True)
    assert (found.tasks, found.files) == ((given,), ())


def test_a_file_goes_before_a_task_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, [ROW], "questions")
    with pytest.raises(DataError):  # it has no suffix that tells what it is
        read("questions", prompts=False)


def test_several_files_stay_apart(tmp_path):
    one, two = write(tmp_path, [ROW], "a.jsonl"), write(tmp_path, [ROW] * 2, "b.jsonl")
    found = read_given("--learn", [one, two, "questions"], prompts=False)
    assert [(file.name, len(file.said)) for file in found.files] == [(one, 1), (two, 2)]
    assert found.tasks == ("questions",)
    assert found.files[0].sha256 != found.files[1].sha256


def test_two_answers_to_one_question_have_one_key(tmp_path):
    rows = [{"question": "Hi?", "answer": answer} for answer in ("Yes.", "No.")]
    (file,) = read(write(tmp_path, rows), prompts=False).files
    (asked,) = read(write(tmp_path, [{"prompt": "hi"}], "p.jsonl")).files
    assert len({said_key(one) for one in (*file.said, *asked.said)}) == 1
    (texts,) = read(write(tmp_path, [{"text": "One."}, {"text": "Two."}], "t.jsonl")).files
    assert len({said_key(one) for one in texts.said}) == 2
