"""Questions as a model is asked them."""

import pytest

import tiny_models
from taia.errors import DataError
from taia.evaluation.likelihood import encode, score_options
from taia.evaluation.tasks.questions import Question
from taia.runtime.likelihood import likelihoods

QUESTION = Question("q", "k", "What is it?", ("a cat", "dog"), 0)


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
