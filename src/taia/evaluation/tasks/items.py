"""What a row of each data set asks, and what the right answer is.

Every function takes the task's name and a row, and gives an item whose prompt is the question
alone. It raises DataError, naming the row's place, for what is not a row of its data set.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from taia.errors import DataError
from taia.evaluation.tasks.answers.statements import boxed
from taia.evaluation.tasks.files import MEND, Row
from taia.evaluation.tasks.item import Item, Kind

_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def math(task: str, row: Row) -> Item:
    r"""MATH: ``problem``, ``solution`` with its answer in the last ``\boxed{}``, ``type``."""
    solution = _text(row, "solution")
    boxes = [box for box in boxed(solution) if box]
    if not boxes:
        raise DataError(f"{row.where}: the solution has no \\boxed answer.", MEND)
    problem, group = _text(row, "problem"), _text(row, "type")
    return Item(row.id, task, problem, "math", boxes[-1], (), group, solution)


def bbh(task: str, row: Row) -> Item:
    """BBH: ``input``, ``target``; the row's group is the subtask.

    A target that is an option's letter is compared as an option, a number as a number, anything
    else as text.
    """
    question, target = _text(row, "input"), _text(row, "target")
    options: tuple[str, ...] = ()
    kind: Kind = "text"
    if re.fullmatch(r"\([A-Z]\)", target):
        kind, options = "option", tuple(re.findall(r"(?m)^\([A-Z]\) (.*)$", question))
        if _LETTERS.index(target[1]) >= len(options):
            raise DataError(f"{row.where}: there is no option {target}.", MEND)
    elif re.fullmatch(r"-?\d+", target):
        kind = "number"
    return Item(row.id, task, question, kind, target, options, row.group)


def commonsense_qa(task: str, row: Row) -> Item:
    """CommonsenseQA: ``id``, ``question``, ``choices`` (``label``, ``text``), ``answerKey``."""
    choices = _field(row, "choices")
    if not isinstance(choices, dict):
        raise DataError(f"{row.where}: 'choices' is missing or is not an object.", MEND)
    options = _options(choices.get("text"), row)
    if choices.get("label") != list(_LETTERS[: len(options)]):
        raise DataError(f"{row.where}: the labels are not A, B, … for each option.", MEND)
    return _choice(task, row, options, _text(row, "answerKey"), _text(row, "question"),
                   name=_text(row, "id"))  # fmt: skip


def logiqa(task: str, row: Row) -> Item:
    """LogiQA: ``context``, ``query``, ``options``, ``answer`` (a letter)."""
    question = f"{_text(row, 'context')}\n{_text(row, 'query')}"
    options = _options(_field(row, "options"), row)
    return _choice(task, row, options, _text(row, "answer"), question)


def svamp(task: str, row: Row) -> Item:
    """SVAMP: ``Body``, ``Question``, ``Answer`` (a number), ``Type``."""
    answer = _field(row, "Answer")
    if type(answer) not in (int, float):
        raise DataError(f"{row.where}: 'Answer' is missing or is not a number.", MEND)
    body, question = _text(row, "Body").strip(), _text(row, "Question").strip()
    full = f"{body}{'' if body[-1] in '.?!,' else '.'} {question}"
    return Item(row.id, task, full, "number", str(answer), (), _text(row, "Type"))


def medqa(task: str, row: Row) -> Item:
    """MedQA: ``question``, ``options`` by letter, ``answer_idx`` (a letter)."""
    given = _field(row, "options")
    if not isinstance(given, dict) or sorted(given) != list(_LETTERS[: len(given)]):
        raise DataError(f"{row.where}: 'options' is missing or its keys are not A, B, …", MEND)
    options = _options([given[key] for key in sorted(given)], row)
    return _choice(task, row, options, _text(row, "answer_idx"), _text(row, "question"))


def mmlu(task: str, row: Row) -> Item:
    """MMLU: ``question``, ``choices``, ``answer`` (an index from 0), ``type`` (the subject)."""
    options = _options(_field(row, "choices"), row)
    answer = _field(row, "answer")
    if type(answer) is not int or not 0 <= answer < len(options):
        raise DataError(f"{row.where}: 'answer' is not the index of an option.", MEND)
    question, group = _text(row, "question"), _text(row, "type")
    return _choice(task, row, options, _LETTERS[answer], question, group)


def harmful(task: str, row: Row) -> Item:
    """AdvBench: ``prompt``; no answer is right."""
    return Item(row.id, task, _text(row, "prompt"), "text", "")


def _choice(
    task: str, row: Row, options: tuple[str, ...], gold: str, question: str, group: str = "",
    name: str = "",
) -> Item:  # fmt: skip
    if gold not in list(_LETTERS[: len(options)]):
        raise DataError(f"{row.where}: the answer {gold!r} is not an option's letter.", MEND)
    listed = [f"{key}. {text}" for key, text in zip(_LETTERS, options, strict=False)]
    asked = "\n".join([question, *listed])
    return Item(name or row.id, task, asked, "option", gold, options, group)


def _field(row: Row, key: str) -> object:
    if not isinstance(row.value, dict):
        raise DataError(f"{row.where} is not a JSON object.", MEND)
    return row.value.get(key)


def _text(row: Row, key: str) -> str:
    value = _field(row, key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{row.where}: {key!r} is missing or is not text.", MEND)
    return value


def _options(given: object, row: Row) -> tuple[str, ...]:
    texts: Sequence[object] = given if isinstance(given, list) else ()
    if len(texts) < 2 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(f"{row.where}: the options are not a list of at least two texts.", MEND)
    return tuple(str(text) for text in texts)
