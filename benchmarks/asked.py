"""What benchmarks of evaluation ask: tasks made on the spot, and their items."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from taia.demo.setting import questions

#: An item of a task: its question, and its options with the index of the right one.
Row: TypeAlias = dict[str, Any]

#: Options' texts are rated; options' letters, after a question that lists them; answers generated.
KINDS: Final = ("texts", "letters", "answers")

_TASK: Final = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {test}, dev: {dev}}}}}
test_split: test
fewshot_split: dev
fewshot_config: {{sampler: first_n}}
num_fewshot: {shots}
doc_to_text: "{{{{question}}}}"
"""
_RATED: Final = """output_type: multiple_choice
doc_to_choice: options
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
_ANSWERED: Final = """output_type: generate_until
doc_to_target: "{{{{options[answer]}}}}"
generation_kwargs: {{until: [], max_gen_toks: {longest}}}
metric_list: [{{metric: exact_match}}]
"""


def write_task(
    folder: Path, kind: str, file: Path | None, limit: int, shots: int, longest: int
) -> None:
    """Write a task file, named as its kind, and its data.

    Args:
        folder: Where to.
        kind: One of ``KINDS``.
        file: Items of MMLU or of SVAMP, in JSON lines; None for the demonstration's questions.
        limit: So many items; of the demonstration's, of each kind of question.
        shots: Examples before each question, which are no items.
        longest: Tokens of an answer.

    Raises:
        SystemExit: If there are too few.
    """
    rows = _read(file) if file else _own(limit, shots)
    rows = [_with_letters(row) for row in rows] if kind == "letters" else rows
    items = len(rows) - shots if file is None else limit
    if len(rows) < items + shots:
        raise SystemExit(f"{file} has {len(rows)} items, and not {items + shots}.")
    data = {"test": rows[:items], "dev": rows[items : items + shots] or rows[:1]}
    files = {part: folder / f"{kind}-{part}.json" for part in data}
    for part, some in data.items():
        files[part].write_text("\n".join(map(json.dumps, some)), encoding="utf-8")
    how = _ANSWERED.format(longest=longest) if kind == "answers" else _RATED
    task = _TASK.format(name=kind, shots=shots, **files)
    (folder / f"{kind}.yaml").write_text(task + how, encoding="utf-8")


def _own(limit: int, shots: int) -> list[Row]:
    """The demonstration's questions, some of each kind, and others as examples at the end."""
    some = questions(limit)
    more = [one for one in questions() if one not in some][:shots]
    return [
        {"question": q.text, "options": list(q.options), "answer": q.answer, "id": q.id}
        for q in [*some, *more]
    ]


def _read(file: Path) -> list[Row]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [_of_file(json.loads(line), number) for number, line in enumerate(lines) if line]


def _of_file(read: Row, number: int) -> Row:
    if "choices" in read:
        asked, options, answer = read["question"], read["choices"], read["answer"]
    else:
        asked = f"{read['Body']}. {read['Question']}"
        options, answer = [f"{read['Answer']:g}"], 0
    return {"question": asked, "options": options, "answer": answer, "id": str(number)}


def with_letters(question: str, options: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """A question that lists its options, and their letters."""
    letters = tuple(chr(ord("A") + number) for number in range(len(options)))
    listed = [f"{one}. {text}" for one, text in zip(letters, options, strict=True)]
    return "\n".join([question, *listed]), letters


def _with_letters(row: Row) -> Row:
    """The options in the question, and their letters in their place."""
    question, letters = with_letters(row["question"], row["options"])
    return {**row, "question": question, "options": [*letters]}
