"""The formats of a row, as a table: which keys tell it, and what its turns are.

A format is recognised by its keys alone, over the first rows of a source. Two that match, or none,
are an error that names what was found: nothing is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from taia.errors import DataError
from taia.training.data.row import Row, RowTurn

#: Rows whose keys are looked at.
LOOKED_AT: Final = 100

#: What data sets call the roles, and what they are here.
ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
}

Fields: TypeAlias = Mapping[str, Any]


class UnusableError(Exception):
    """A row that is not of its format; says why."""


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        name: What it is called.
        keys: The keys that tell it.
        turns: From a row's fields to the row; raises :class:`UnusableError`.
    """

    name: str
    keys: tuple[str, ...]
    turns: Callable[[Fields], Row]


def _alpaca(fields: Fields) -> Row:
    turns = _system(fields)
    for number, pair in enumerate(fields.get("history") or (), 1):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise UnusableError(f"entry {number} of 'history' is not a question and an answer")
        turns += [
            RowTurn("user", _text(pair[0], f"the question of entry {number} of 'history'")),
            RowTurn(
                "assistant", _text(pair[1], f"the answer of entry {number} of 'history'"), True
            ),
        ]
    asked = [_text(fields[key], f"{key!r}") for key in ("instruction", "input") if fields.get(key)]
    if not asked:
        raise UnusableError("'instruction' is missing or empty")
    turns += [
        RowTurn("user", "\n".join(asked)),
        RowTurn("assistant", _field(fields, "output"), True),
    ]
    return Row(tuple(turns))


def _sharegpt(fields: Fields) -> Row:
    return _conversation([*_system(fields), *_messages(fields, "conversations", learnt=True)])


def _openai(fields: Fields) -> Row:
    return _conversation([*_system(fields), *_messages(fields, "messages", learnt=True)])


def _prompt_completion(fields: Fields) -> Row:
    if isinstance(fields.get("prompt"), str) and isinstance(fields.get("completion"), str):
        prompt, completion = (_field(fields, key) for key in ("prompt", "completion"))
        return Row((RowTurn("text", prompt), RowTurn("text", completion, True)), chat=False)
    prompts = _messages(fields, "prompt", learnt=False)
    return _conversation(prompts + _messages(fields, "completion", learnt=True))


def _question_answer(fields: Fields) -> Row:
    # Asked for by name, it makes turns of TRL's keys, too.
    question, answer = ("question", "answer") if "question" in fields else ("prompt", "completion")
    asked = RowTurn("user", _field(fields, question))
    return Row((*_system(fields), asked, RowTurn("assistant", _field(fields, answer), True)))


def _plain(fields: Fields) -> Row:
    return Row((RowTurn("text", _field(fields, "text"), True),), chat=False)


#: Every format there is.
FORMATS: Final = (
    Format("alpaca", ("instruction", "output"), _alpaca),
    Format("sharegpt", ("conversations",), _sharegpt),
    Format("messages", ("messages",), _openai),
    Format("prompt-completion", ("prompt", "completion"), _prompt_completion),
    Format("question-answer", ("question", "answer"), _question_answer),
    Format("text", ("text",), _plain),
)


def find_format(values: Sequence[object], name: str, forced: str | None = None) -> Format:
    """Tell the format of a source's rows.

    Args:
        values: Its rows, as read.
        name: What the source is called, for errors.
        forced: The format's name, if it is known.

    Raises:
        DataError: If the keys of the first rows are those of no format or of several, or the name
            is not a format's.
    """
    if forced is not None:
        for known in FORMATS:
            if known.name == forced:
                return known
        raise DataError(
            f"{forced!r} is not a format.", f"Formats: {', '.join(f.name for f in FORMATS)}."
        )
    keys: dict[str, None] = {}
    for value in values[:LOOKED_AT]:
        fields = as_fields(value)
        if fields is not None:
            keys.update((str(key), None) for key, held in fields.items() if held is not None)
    found = [known for known in FORMATS if all(key in keys for key in known.keys)]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(list(keys)[:12]) + (", …" if len(keys) > 12 else "")
    if found:
        names = [known.name for known in found]
        raise DataError(
            f"{name}: the rows could be {' or '.join(names)}. Their keys: {shown}.",
            f"Say which: {' or '.join(f'--format {each}' for each in names)}.",
        )
    known_formats = "; ".join(f"{f.name} ({', '.join(f.keys)})" for f in FORMATS)
    raise DataError(
        f"{name}: the rows are in no known format. Their keys: {shown or 'none'}.",
        f"Rename the keys. Formats: {known_formats}.",
    )


def as_fields(value: object) -> Fields | None:
    """A row's fields; a bare list of messages is one whose only field they are."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        return {"messages": value}
    return None


def to_row(value: object, form: Format) -> Row:
    """Convert one row.

    Raises:
        UnusableError: If it is not of the format.
    """
    fields = as_fields(value)
    if fields is None:
        raise UnusableError("not an object with keys")
    return form.turns(fields)


def _system(fields: Fields) -> list[RowTurn]:
    system = fields.get("system")
    return [RowTurn("system", _text(system, "'system'"))] if system else []


def _messages(fields: Fields, key: str, learnt: bool) -> list[RowTurn]:
    messages = fields.get(key)
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise UnusableError(f"{key!r} is not a list of messages")
    turns = []
    for number, message in enumerate(messages, 1):
        where = f"message {number} of {key!r}"
        if not isinstance(message, Mapping):
            raise UnusableError(f"{where} is not an object")
        said = message.get("role", message.get("from"))
        role = ROLES.get(said) if isinstance(said, str) else None
        if role is None:
            raise UnusableError(f"{where} has the role {_short(said)}, which is not known")
        if message.get("tool_calls"):
            raise UnusableError(f"{where} calls tools; write the call into its content, as text")
        content = message.get("content", message.get("value"))
        if isinstance(content, list) and content:
            content = _joined(content, where)
        if role == "system" and content == "":
            continue
        counts = message.get("weight", 1) not in (0, False)
        turns.append(
            RowTurn(role, _text(content, where), learnt and counts and role == "assistant")
        )
    return turns


def _joined(parts: list[object], where: str) -> str:
    texts = [
        part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
        for part in parts
    ]
    if not all(isinstance(text, str) for text in texts):
        raise UnusableError(f"{where} holds something other than text")
    return "".join(text for text in texts if isinstance(text, str))


def _conversation(turns: list[RowTurn]) -> Row:
    if not any(turn.learnt for turn in turns):
        raise UnusableError("no answer to learn: no message is the assistant's")
    return Row(tuple(turns))


def _field(fields: Fields, key: str) -> str:
    if fields.get(key) is None:
        raise UnusableError(f"{key!r} is missing")
    return _text(fields[key], f"{key!r}")


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise UnusableError(f"{what} is not text but {_short(value)}")
    if not value.strip():
        raise UnusableError(f"{what} is empty")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise UnusableError(f"{what} holds half of a surrogate pair") from None
    return value


def _short(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 40 else text[:39] + "…"
