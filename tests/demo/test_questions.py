"""Questions as they are read, and as a model is asked them."""

import json

import pytest

import tiny_models
from taia.demo.questions import Question, encode, read_questions, score_options
from taia.errors import DataError
from taia.runtime.likelihood import likelihoods

GOOD = {"id": "a", "kind": "k", "question": "What?", "options": ["x", "y"], "answer": 1}
QUESTION = Question("q", "k", "What is it?", ("a cat", "dog"), 0)


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


def test_questions_are_asked_in_the_chat_format():
    tokenizer = tiny_models.tokenizer()
    request = encode(tokenizer, QUESTION)
    text = "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(request.prompt) == text
    assert [tokenizer.decode(option) for option in request.options] == ["a cat", "dog"]


def test_without_a_chat_template_it_is_question_and_answer():
    tokenizer = tiny_models.tokenizer(chat=False)
    request = encode(tokenizer, QUESTION)
    assert tokenizer.decode(request.prompt) == "Question: What is it?\nAnswer:"
    assert [tokenizer.decode(option) for option in request.options] == [" a cat", " dog"]


def test_normalising_divides_by_characters():
    model, tokenizer = tiny_models.llama(), tiny_models.tokenizer()
    plain = score_options(model, tokenizer, [QUESTION])
    (found,) = likelihoods(model, [encode(tokenizer, QUESTION)])
    assert plain == [[option.logprob for option in found]]
    per_character = score_options(model, tokenizer, [QUESTION], normalise="characters")
    assert per_character == [[plain[0][0] / 5, plain[0][1] / 3]]


def test_option_without_tokens_is_an_error():
    tokenizer = tiny_models.tokenizer()
    empty = Question("q7", "k", "What?", ("", "b"), 0)
    with pytest.raises(DataError, match="q7"):
        encode(tokenizer, empty)
