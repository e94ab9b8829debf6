"""For Ollama: a whole model as GGUF, or an adapter for its base, and a Modelfile."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taia.errors import CheckpointError, InputError
from taia.export import to_gguf
from taia.export.chat import Chat, recognised
from taia.export.result import Check, Written
from taia.loading.models import load_tokenizer

if TYPE_CHECKING:
    from taia.export.job import Job

#: The file in the output, beside the GGUF file.
FILE: Final = "Modelfile"
_QUOTES: Final = '"""'


def write(job: Job, folder: Path) -> Written:
    """Writes a GGUF file and ``Modelfile``.

    Raises:
        InputError: If llama.cpp, which Ollama runs, cannot carry something, or the base's path
            fits in no Modelfile.
    """
    done = to_gguf.write(job, folder)
    chat = _chat(job)
    notes = [*done.notes, _told(chat)]
    if job.whole:
        lines = [f"FROM ./{to_gguf.MODEL}"]
    else:
        base = str(job.base_gguf or job.source.base.path.resolve())
        if "\n" in base or "\r" in base:
            raise InputError(f"{base!r} cannot stand in a Modelfile.", "Move the base model.")
        lines = [f"FROM {base}", f"ADAPTER ./{to_gguf.ADAPTER}"]
        if job.base_gguf is None:
            notes.append(
                "FROM is the base's folder, which Ollama converts itself where it knows the "
                "architecture; with --base-gguf it is that file."
            )
    text = "\n".join([*lines, *_conversation(chat)])
    (folder / FILE).write_text(text + "\n", encoding="utf-8")
    name = shlex.quote(job.output.name.lower())
    return Written(tuple(notes), f"ollama create {name} -f {{output}}/{FILE}")


def verify(job: Job, folder: Path) -> tuple[Check, ...]:
    """Checks the GGUF file in llama.cpp, which is what Ollama runs."""
    *first, last = to_gguf.verify(job, folder)
    return (*first, replace(last, said=f"{last.said} Ollama itself was not run."))


def _chat(job: Job) -> Chat | None:
    for place in job.source.speakers:
        try:
            tokenizer = load_tokenizer(place)
        except CheckpointError:
            continue
        return recognised(tokenizer)
    return None


def _conversation(chat: Chat | None) -> list[str]:
    if chat is None:
        return []
    lines = [f"TEMPLATE {_QUOTES}{chat.family.template()}{_QUOTES}"]
    if chat.system is not None and _QUOTES not in chat.system:
        lines.append(f"SYSTEM {_QUOTES}{chat.system}{_QUOTES}")
    return [*lines, *(f'PARAMETER stop "{stop}"' for stop in chat.family.stops)]


def _told(chat: Chat | None) -> str:
    if chat is None:
        return (
            "TEMPLATE is left out: the tokenizer's chat template is of no family that taia knows. "
            "Ollama takes what the base's GGUF says, or none; check it before use."
        )
    return f"TEMPLATE is {chat.family.name}: it renders conversations as the tokenizer does."
