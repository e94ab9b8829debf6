"""Training rows: prompt and completion, read from a JSONL file."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from taia.errors import DataError
from taia.evaluation.questions import read_rows

#: ``[{"role": "user", "content": "…"}, …]``
Messages: TypeAlias = list[dict[str, str]]


def read_pairs(path: Path) -> list[dict[str, Messages]]:
    """Read training rows, ``{"prompt": [messages], "completion": [messages]}`` a line.

    Args:
        path: A JSONL file.

    Returns:
        The rows, in the file's order; at least one.

    Raises:
        DataError: If the file cannot be read, holds nothing, or a line is not such a row. The
            message names the line.
    """
    pairs = []
    for number, row in read_rows(path):
        for key in ("prompt", "completion"):
            if not (isinstance(row, dict) and _is_chat(row.get(key))):
                raise DataError(
                    f"{path}, line {number}: {key!r} is missing or is not a list of messages.",
                    'Write {"prompt": [{"role": "user", "content": "…"}], "completion": [{"role": '
                    '"assistant", "content": "…"}]}.',
                )
        pairs.append({"prompt": row["prompt"], "completion": row["completion"]})
    return pairs


def _is_chat(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(
            isinstance(message, dict)
            and set(message) == {"role", "content"}
            and all(isinstance(text, str) and text for text in message.values())
            for message in value
        )
    )
