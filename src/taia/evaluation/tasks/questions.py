"""Multiple-choice questions: the value, and how it is read from a JSONL file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from taia.errors import DataError

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


def read_rows(path: Path) -> list[tuple[int, Any]]:
    """Read a JSONL file, skipping empty lines.

    Args:
        path: The file.

    Returns:
        Each line's number, from 1, with its value; at least one.

    Raises:
        DataError: If the file cannot be read, holds nothing, or a line is not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}.", "Give a JSONL file.") from error
    rows = []
    # Not splitlines(): JSON allows U+2028 and its kin inside strings.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append((number, json.loads(line)))
        except ValueError as error:
            raise DataError(
                f"{path}, line {number} is not JSON: {error}.", "Write one JSON object a line."
            ) from error
    if not rows:
        raise DataError(f"{path} holds no rows.", "Give a JSONL file with one JSON object a line.")
    return rows


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
