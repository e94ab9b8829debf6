"""Readers of the paper's tasks, each in the layout its data set is published in.

Every reader takes the task's name and a path, and gives items whose prompts are the questions
alone. It raises DataError, naming the line, for what is not a row of its data set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from taia.errors import DataError
from taia.evaluation.answers.extract import boxed
from taia.evaluation.item import Item, Kind
from taia.evaluation.questions import read_rows

_MEND: Final = "docs/tasks.md shows the layout of each task's file."
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LABEL: Final = re.compile(r"([A-D])[.．、:：?\s]\s*")


def read_math(task: str, path: Path) -> list[Item]:
    r"""MATH: ``problem``, ``solution`` with its answer in the last ``\boxed{}``, ``type``."""
    items = []
    for number, row in read_rows(path):
        where = f"{path}, line {number}"
        solution = _text(row, "solution", where)
        boxes = [box for box in boxed(solution) if box]
        if not boxes:
            raise DataError(f"{where}: the solution has no \\boxed answer.", _MEND)
        group, problem = _text(row, "type", where), _text(row, "problem", where)
        item = Item(str(number), task, problem, "math", boxes[-1], (), group, solution)
        items.append(item)
    return items


def read_bbh(task: str, folder: Path) -> list[Item]:
    """BBH: a folder of a JSON file a subtask, ``{"examples": [{"input", "target"}]}``.

    A target that is an option's letter is compared as an option, a number as a number, anything
    else as text.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise DataError(f"{folder} holds no JSON file.", _MEND)
    items = []
    for path in paths:
        for index, row in enumerate(_examples(path), 1):
            where = f"{path}, example {index}"
            question, target = _text(row, "input", where), _text(row, "target", where)
            options: tuple[str, ...] = ()
            kind: Kind = "text"
            if re.fullmatch(r"\([A-Z]\)", target):
                kind, options = "option", tuple(re.findall(r"(?m)^\([A-Z]\) (.*)$", question))
                if _LETTERS.index(target[1]) >= len(options):
                    raise DataError(f"{where}: there is no option {target}.", _MEND)
            elif re.fullmatch(r"-?\d+", target):
                kind = "number"
            name = f"{path.stem}-{index}"
            items.append(Item(name, task, question, kind, target, options, path.stem))
    return items


def read_commonsense_qa(task: str, path: Path) -> list[Item]:
    """CommonsenseQA: ``question``, ``choices`` with ``label`` and ``text``, ``answerKey``."""
    items = []
    for number, row in read_rows(path):
        where = f"{path}, line {number}"
        choices = row.get("choices") if isinstance(row, dict) else None
        if not isinstance(choices, dict):
            raise DataError(f"{where}: 'choices' is missing or is not an object.", _MEND)
        options = _options(choices.get("text"), where)
        if choices.get("label") != list(_LETTERS[: len(options)]):
            raise DataError(f"{where}: the labels are not A, B, … for each option.", _MEND)
        gold = _text(row, "answerKey", where)
        question, name = _text(row, "question", where), _text(row, "id", where)
        items.append(_choice(name, task, question, options, gold, where))
    return items


def read_logiqa(task: str, path: Path) -> list[Item]:
    """LogiQA: blocks of seven lines (letter, context, question, four options), a blank between.

    Options stand in the order of their letters, which some blocks do not list in order (A, C, B,
    D); where the four lines do not begin with four letters, they are taken as they stand.
    """
    blocks: list[tuple[int, list[str]]] = []
    after_blank = True
    for number, line in enumerate(_read(path).split("\n"), 1):
        if not line.strip():
            after_blank = True
            continue
        if after_blank:
            blocks.append((number, []))
        blocks[-1][1].append(line.strip())
        after_blank = False
    if not blocks:
        raise DataError(f"{path} holds no questions.", _MEND)
    items = []
    for index, (number, lines) in enumerate(blocks, 1):
        where = f"{path}, line {number}"
        if len(lines) != 7:
            raise DataError(f"{where}: a block of {len(lines)} lines, not 7.", _MEND)
        labels = [_LABEL.match(line) for line in lines[3:]]
        pairs = [(m[1] if m else "", line[m.end() :] if m else line)
                 for m, line in zip(labels, lines[3:], strict=True)]  # fmt: skip
        if sorted(label for label, _ in pairs) == list("ABCD"):
            pairs.sort()
        options = tuple(option for _, option in pairs)
        question = f"{lines[1]}\n{lines[2]}"
        items.append(_choice(str(index), task, question, options, lines[0].upper(), where))
    return items


def read_svamp(task: str, path: Path) -> list[Item]:
    """SVAMP: ``Body``, ``Question``, ``Answer`` (a number), ``Type``."""
    items = []
    for number, row in read_rows(path):
        where = f"{path}, line {number}"
        answer = row.get("Answer") if isinstance(row, dict) else None
        if type(answer) not in (int, float):
            raise DataError(f"{where}: 'Answer' is missing or is not a number.", _MEND)
        body, question = _text(row, "Body", where).strip(), _text(row, "Question", where).strip()
        full = f"{body}{'' if body[-1] in '.?!,' else '.'} {question}"
        group = _text(row, "Type", where)
        items.append(Item(str(number), task, full, "number", str(answer), (), group))
    return items


def read_medqa(task: str, path: Path) -> list[Item]:
    """MedQA: ``question``, ``options`` by letter, ``answer_idx`` (a letter)."""
    items = []
    for number, row in read_rows(path):
        where = f"{path}, line {number}"
        given = row.get("options") if isinstance(row, dict) else None
        if not isinstance(given, dict) or sorted(given) != list(_LETTERS[: len(given)]):
            raise DataError(f"{where}: 'options' is missing or its keys are not A, B, …", _MEND)
        options = _options([given[key] for key in sorted(given)], where)
        gold, question = _text(row, "answer_idx", where), _text(row, "question", where)
        items.append(_choice(str(number), task, question, options, gold, where))
    return items


def read_mmlu(task: str, path: Path) -> list[Item]:
    """MMLU: ``question``, ``choices``, ``answer`` (an index from 0), ``type`` (the subject)."""
    items = []
    for number, row in read_rows(path):
        where = f"{path}, line {number}"
        options = _options(row.get("choices") if isinstance(row, dict) else None, where)
        answer = row.get("answer")
        if type(answer) is not int or not 0 <= answer < len(options):
            raise DataError(f"{where}: 'answer' is not the index of an option.", _MEND)
        question, group = _text(row, "question", where), _text(row, "type", where)
        gold = _LETTERS[answer]
        items.append(_choice(str(number), task, question, options, gold, where, group))
    return items


def _choice(
    name: str, task: str, question: str, options: tuple[str, ...], gold: str, where: str,
    group: str = "",
) -> Item:  # fmt: skip
    if gold not in list(_LETTERS[: len(options)]):
        raise DataError(f"{where}: the answer {gold!r} is not an option's letter.", _MEND)
    listed = [f"{key}. {text}" for key, text in zip(_LETTERS, options, strict=False)]
    prompt = "\n".join([question, *listed])
    return Item(name, task, prompt, "option", gold, options, group)


def _text(row: object, key: str, where: str) -> str:
    if not isinstance(row, dict):
        raise DataError(f"{where} is not a JSON object.", _MEND)
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {key!r} is missing or is not text.", _MEND)
    return value


def _options(given: object, where: str) -> tuple[str, ...]:
    texts: Sequence[object] = given if isinstance(given, list) else ()
    if len(texts) < 2 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(f"{where}: the options are not a list of at least two texts.", _MEND)
    return tuple(str(text) for text in texts)


def _examples(path: Path) -> list[Any]:
    try:
        content = json.loads(_read(path))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}.", _MEND) from error
    examples = content.get("examples") if isinstance(content, dict) else None
    if not isinstance(examples, list) or not examples:
        raise DataError(f"{path} has no list of 'examples'.", _MEND)
    return examples


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}.", _MEND) from error
