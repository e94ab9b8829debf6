"""Multiple-choice questions: read from a JSONL file, and put to a model.

An option's score is how likely the model finds it as the assistant's answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from taia.errors import DataError
from taia.evaluation.tasks.rows import read_rows

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from taia.runtime.likelihood import RatingProgress
    from taia.runtime.rating import Request

#: Divide an option's score by nothing, or by its number of characters.
Normalise: TypeAlias = Literal["none", "characters"]


@dataclass(frozen=True, slots=True)
class Question:
    """A question with one right option.

    Attributes:
        id: Unique within its file.
        kind: The group it is reported under.
        text: What is asked.
        options: The possible answers, at least two.
        answer: Index of the right one.
    """

    id: str
    kind: str
    text: str
    options: tuple[str, ...]
    answer: int


def read_questions(path: Path) -> list[Question]:
    """Read questions from a JSONL file.

    Each line is ``{"id", "kind", "question", "options": [...], "answer": index}``.

    Args:
        path: The file.

    Returns:
        The questions, in the file's order.

    Raises:
        DataError: If the file cannot be read, holds no question, or a line is not one. The message
            names the line.
    """
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, row in read_rows(path):
        question = _question(row, f"{path}, line {number}")
        if question.id in seen:
            raise DataError(
                f"{path}, line {number}: the id {question.id!r} is line {seen[question.id]}'s.",
                "Give every question its own id.",
            )
        seen[question.id] = number
        questions.append(question)
    return questions


def score_options(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    *,
    normalise: Normalise = "none",
    batch_tokens: int | None = None,
    progress: RatingProgress | None = None,
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
    from taia.runtime.likelihood import likelihoods

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
    from taia.runtime.rating import Request

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


def _question(row: object, where: str) -> Question:
    mend = 'Write {"id", "kind", "question", "options": [at least two], "answer": index}.'
    if not isinstance(row, dict):
        raise DataError(f"{where} is not a JSON object.", mend)
    for key in ("id", "kind", "question"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise DataError(f"{where}: {key!r} is missing or is not text.", mend)
    options, answer = row.get("options"), row.get("answer")
    if not isinstance(options, list) or not all(isinstance(o, str) and o for o in options):
        raise DataError(f"{where}: 'options' is missing or is not a list of texts.", mend)
    if len(options) < 2 or len(set(options)) != len(options):
        raise DataError(f"{where}: 'options' needs at least two, all different.", mend)
    if type(answer) is not int or not 0 <= answer < len(options):
        raise DataError(f"{where}: 'answer' is not the index of an option.", mend)
    return Question(row["id"], row["kind"], row["question"], tuple(options), answer)
