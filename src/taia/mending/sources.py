"""What is given after ``--learn`` and ``--keep``: rows, prompts without answers, or tasks.

Nothing heavy is loaded: what is wrong with a file is told before a model is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from taia.errors import DataError, InputError
from taia.evaluation.harness.known import check_tasks
from taia.evaluation.tasks.registry import known_names
from taia.mending.split import key_of
from taia.training.data import BadRow, Row, RowTurn, Source, read_source
from taia.training.data.containers import SUFFIXES, RawRows, digest, read_path
from taia.training.data.formats import FORMATS, UnusableError, as_fields, to_row
from taia.training.data.reading import refusal
from taia.training.data.source import HubName

#: Keys that hold an answer where a row has one.
_ANSWERS: Final = ("completion", "output", "answer", "text")
#: What stands in for the answer that a prompt has none of, while its other fields are read.
_NONE: Final = "-"
_FORMATS: Final = {form.name: form for form in FORMATS}


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked, without an answer.

    Attributes:
        turns: The conversation up to where the assistant speaks.
    """

    turns: tuple[RowTurn, ...]


#: One thing that is said: a row with its answer, or a prompt without.
Said: TypeAlias = Row | Prompt


@dataclass(frozen=True)
class File:
    """A file, a folder or a data set on the hub.

    Attributes:
        name: As it was given.
        said: Its rows or prompts, in order.
        sha256: Of what was read.
    """

    name: str
    said: tuple[Said, ...]
    sha256: str


@dataclass(frozen=True)
class GivenData:
    """All that was given after a flag.

    Attributes:
        files: Files, in order.
        tasks: Names of tasks.
    """

    files: tuple[File, ...]
    tasks: tuple[str, ...]


def read_given(
    flag: str, given: Sequence[str], *, prompts: bool, folders: Sequence[Path] = ()
) -> GivenData:
    """Read what was given after a flag.

    What exists is a file; else the name of a task; else a data set on the hub.

    Args:
        flag: The flag, for errors.
        given: What was typed, each time.
        prompts: Whether prompts without answers will do.
        folders: With task files of the user's.

    Raises:
        InputError: If one is neither file, task nor data set.
        DataError: If a file cannot be read, or holds what cannot be used; with its line.
        DownloadError: If a data set cannot be fetched.
    """
    files, tasks = [], []
    for text in given:
        if not text.strip():
            raise InputError(f"{flag} is empty.", "Give a file of rows, or the name of a task.")
        path = Path(text).expanduser()
        if not path.exists() and path.suffix.lower() in (*SUFFIXES, ".txt"):
            raise DataError(f"{flag} {text!r} does not exist.", "Check the path.")
        if path.exists():
            files.append(_prompts_or_rows(text, path) if prompts else _rows(text))
        elif _is_task(text, folders):
            tasks.append(text)
        elif "/" in text and HubName.parse(text) is not None:
            files.append(_rows(text))
        else:
            raise InputError(
                f"{flag} {text!r} is neither a file nor a task.",
                "Give a file of rows, or a task of `taia eval`; docs/mend.md has both.",
            )
    return GivenData(tuple(files), tuple(dict.fromkeys(tasks)))


def said_key(said: Said) -> str:
    """The hash of what a row or prompt asks; of a text that asks nothing, of all of it.

    Two answers to one question are then in one part.
    """
    asked = [turn for turn in said.turns if turn.role in ("user", "text") and not turn.learnt]
    return key_of("\n".join(turn.content for turn in asked or said.turns))


def _is_task(name: str, folders: Sequence[Path]) -> bool:
    if name in known_names():
        return True
    try:
        check_tasks([name], folders)
    except InputError:
        return False
    return True


def _rows(text: str) -> File:
    rows = read_source(Source(text))
    return File(text, tuple(rows.rows), rows.sha256)


def _prompts_or_rows(text: str, path: Path) -> File:
    """A file's rows if any of it has an answer, else its prompts."""
    if path.suffix.lower() == ".txt":
        return _lines(text, path)
    parts = read_path(path)
    values = [value for part in parts for _, value in part.values]
    if not values or any(map(_has_answer, values)):
        return _rows(text)
    said, bad = [], []
    for part in parts:
        found, wrong = _prompts(part)
        said += found
        bad += wrong
    if bad:
        raise refusal(text, bad, len(bad) + len(said))
    return File(text, tuple(said), digest(parts))


def _lines(text: str, path: Path) -> File:
    """Each line of a text file as a prompt; empty ones are none."""
    import hashlib

    try:
        raw = path.read_bytes()
        lines = raw.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{text} cannot be read: {reason}.", "Give UTF-8, a prompt a line."
        ) from error
    said = tuple(Prompt((RowTurn("user", line.strip()),)) for line in lines if line.strip())
    if not said:
        raise DataError(f"{text} holds no prompt.", "Write one a line.")
    return File(text, said, hashlib.sha256(raw).hexdigest())


def _has_answer(value: object) -> bool:
    fields = as_fields(value)
    if fields is None:
        return False
    if any(fields.get(key) for key in _ANSWERS):
        return True
    talks = (fields.get(key) for key in ("messages", "conversations"))
    return any(isinstance(talk, list) and _ends_in_answer(talk) for talk in talks)


def _ends_in_answer(talk: Sequence[Any]) -> bool:
    last = talk[-1] if talk else None
    role = last.get("role", last.get("from")) if isinstance(last, Mapping) else None
    return role in ("assistant", "gpt", "model", "chatgpt")


def _prompts(part: RawRows) -> tuple[list[Prompt], list[BadRow]]:
    lead = f"{part.name}, {part.unit}" if part.name else part.unit
    said = []
    bad = [BadRow(number, why, f"{lead} {number}") for number, why in part.bad]
    for number, value in part.values:
        try:
            said.append(_prompt(value))
        except UnusableError as error:
            bad.append(BadRow(number, str(error), f"{lead} {number}"))
    return said, bad


def _prompt(value: object) -> Prompt:
    """A prompt, read as a row is, with something in its answer's place that is taken away again.

    Raises:
        UnusableError: If it is none.
    """
    if isinstance(value, str):
        value = {"prompt": value}
    fields = as_fields(value)
    if fields is None:
        raise UnusableError("not an object with keys")
    name, whole = _completed(dict(fields))
    turns = to_row(whole, _FORMATS[name]).turns[:-1]
    if not turns or turns[-1].role not in ("user", "tool"):
        raise UnusableError("the last message is not the user's")
    return Prompt(turns)


def _completed(fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    answer = {"role": "assistant", "content": _NONE}
    for key, name in (("messages", "messages"), ("conversations", "sharegpt")):
        if isinstance(fields.get(key), list):
            return name, {**fields, key: [*fields[key], answer]}
    if isinstance(fields.get("prompt"), list):
        return "prompt-completion", {"prompt": fields["prompt"], "completion": [answer]}
    if fields.get("instruction") is not None:
        return "alpaca", {**fields, "output": _NONE}
    asked = next((key for key in ("prompt", "question") if key in fields), None)
    if asked is None:
        raise UnusableError("it has no 'prompt', 'question', 'instruction' or 'messages'")
    system = {"system": fields["system"]} if fields.get("system") else {}
    return "question-answer", {**system, "question": fields[asked], "answer": _NONE}
