"""LogiQA (Liu et al. 2020, arXiv 2007.08124), in English and in Chinese."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from taia.errors import DataError
from taia.evaluation.tasks.answers import authors
from taia.evaluation.tasks.rows import CONVERTED, MEND, DataRow, HubData, read_text
from taia.evaluation.tasks.task import LETTER, LETTER_ZH, Item, Task, choice, field, options, text

_LABEL: Final = re.compile(r"([A-D])[.．、。:：?\s]\s*")


def read(path: Path) -> list[DataRow]:
    """Blocks of seven lines (letter, context, question, four options), a blank between.

    Options stand in the order of their letters, which some blocks do not list in order (A, C, B,
    D); where the four lines do not begin with four letters, they are taken as they stand.

    Returns:
        Rows of ``context``, ``query``, ``options`` and ``answer``, a letter.

    Raises:
        DataError: If the file cannot be read, holds no block, or one is not of seven lines.
    """
    blocks: list[tuple[int, list[str]]] = []
    after_blank = True
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            after_blank = True
            continue
        if after_blank:
            blocks.append((number, []))
        blocks[-1][1].append(line.strip())
        after_blank = False
    if not blocks:
        raise DataError(f"{path} holds no questions.", MEND)
    rows = []
    for index, (number, lines) in enumerate(blocks, 1):
        where = f"{path}, line {number}"
        if len(lines) != 7:
            raise DataError(f"{where}: a block of {len(lines)} lines, not 7.", MEND)
        letter, context, query, *listed = lines
        value = {"context": context, "query": query, "options": _in_order(listed),
                 "answer": letter.upper()}  # fmt: skip
        rows.append(DataRow(str(index), value, where))
    return rows


def item(task: str, row: DataRow) -> Item:
    """``context``, ``query``, ``options``, ``answer`` (a letter)."""
    question = f"{text(row, 'context')}\n{text(row, 'query')}"
    return choice(task, row, options(field(row, "options"), row), text(row, "answer"), question)


def _in_order(listed: list[str]) -> list[str]:
    labels = [_LABEL.match(line) for line in listed]
    pairs = [
        (match[1], line[match.end() :]) if match else ("", line)
        for match, line in zip(labels, listed, strict=True)
    ]
    if sorted(label for label, _ in pairs) == list("ABCD"):
        pairs.sort()
    return [option for _, option in pairs]


def _as_file(row: Mapping[str, Any]) -> dict[str, Any]:
    index = str(row.get("correct_option"))
    texts = {key: str(row.get(key) or "").strip() for key in ("context", "query")}
    listed = [str(option).strip() for option in row.get("options") or ()]
    answer = "ABCD"[int(index)] if index in list("0123") else ""
    return {**texts, "options": listed, "answer": answer}


def _data(name: str) -> HubData:
    return HubData(name, revision=CONVERTED, as_file=_as_file)


TASKS: Final = (
    Task(
        "taia_logiqa",
        "logiqa_en_test.txt",
        read,
        item,
        LETTER,
        _data("lucasmccabe/logiqa"),
        by_authors=authors.announced_letter,
    ),
    Task(
        "taia_logiqa_zh",
        "logiqa_zh_test.txt",
        read,
        item,
        LETTER_ZH,
        _data("jiacheng-ye/logiqa-zh"),
        by_authors=authors.chinese_letter,
    ),
)
