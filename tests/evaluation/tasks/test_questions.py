import json

import pytest

from taia.errors import DataError
from taia.evaluation.tasks.questions import Question, read_questions

GOOD = {"id": "a", "kind": "k", "question": "What?", "options": ["x", "y"], "answer": 1}


def write(path, *rows):
    path.write_text("\n".join(json.dumps(row) if isinstance(row, dict) else row for row in rows))
    return path


def test_reads_in_order_and_skips_empty_lines(tmp_path):
    path = write(tmp_path / "q.jsonl", GOOD, "", {**GOOD, "id": "b", "question": "a\u2028b"})
    assert read_questions(path) == [
        Question("a", "k", "What?", ("x", "y"), 1),
        Question("b", "k", "a\u2028b", ("x", "y"), 1),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        "not json",
        "[]",
        {**GOOD, "id": ""},
        {**GOOD, "question": 3},
        {**GOOD, "options": "xy"},
        {**GOOD, "options": ["x"]},
        {**GOOD, "options": ["x", "x"]},
        {**GOOD, "options": ["x", ""]},
        {**GOOD, "answer": 2},
        {**GOOD, "answer": -1},
        {**GOOD, "answer": True},
        {**GOOD, "answer": "x"},
        {key: value for key, value in GOOD.items() if key != "kind"},
        {**GOOD},  # the id again
    ],
)
def test_a_bad_line_is_named(tmp_path, bad):
    path = write(tmp_path / "q.jsonl", GOOD, bad)
    with pytest.raises(DataError, match=r"q\.jsonl, line 2"):
        read_questions(path)


def test_empty_missing_and_binary_files(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    for name in ("empty.jsonl", "binary.jsonl", "none.jsonl"):
        with pytest.raises(DataError, match=name):
            read_questions(tmp_path / name)
