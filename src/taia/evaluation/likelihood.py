"""Multiple-choice questions put to a model: how likely it finds each option."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from taia.errors import DataError
from taia.evaluation.tasks.questions import Normalise, Question
from taia.runtime.likelihood import Progress, likelihoods
from taia.runtime.rating import Request

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def score_options(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    *,
    normalise: Normalise = "none",
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> list[list[float]]:
    """Score each option of each question as the assistant's answer.

    Args:
        model: A causal language model, with or without a PEFT adapter; in whatever mode it is.
        tokenizer: Its tokenizer. Without a chat template, *Question: … Answer:* is used.
        questions: What to ask.
        normalise: Whether a score is divided by its option's number of characters.
        batch_tokens: How many tokens run together; by default what suits the device.
        progress: Told how many questions were just scored.

    Returns:
        Per question, per option, its log-probability in nats, normalised as asked.

    Raises:
        DataError: If an option has no tokens.
    """
    requests = [encode(tokenizer, question) for question in questions]
    found = likelihoods(model, requests, batch_tokens=batch_tokens, progress=progress)
    scores = [[option.logprob for option in row] for row in found]
    if normalise == "none":
        return scores
    return [
        [score / len(option) for score, option in zip(row, question.options, strict=True)]
        for row, question in zip(scores, questions, strict=True)
    ]


def encode(tokenizer: PreTrainedTokenizerBase, question: Question) -> Request:
    """Turn a question into tokens, in the model's chat format where it has one.

    Raises:
        DataError: If an option has no tokens.
    """
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": question.text}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        prompt, lead, special = str(text), "", False
    else:
        prompt, lead, special = f"Question: {question.text}\nAnswer:", " ", True
    options = tuple(
        tuple(tokenizer(lead + option, add_special_tokens=False).input_ids)
        for option in question.options
    )
    if not all(options):
        raise DataError(
            f"Question {question.id!r}: an option has no tokens in this model's vocabulary.",
            "Reword the option or use another model.",
        )
    return Request(tuple(tokenizer(prompt, add_special_tokens=special).input_ids), options)
