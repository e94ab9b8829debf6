"""For Ollama: a whole model as GGUF, or an adapter for its base, and a Modelfile.

Ollama renders chats with Go's text/template, the tokenizer's template is Jinja, and nothing
translates one into the other. So a family is known by what it writes around each message; it is the
tokenizer's if both render the same conversations to the same text.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from taia.errors import CheckpointError, InputError
from taia.export import to_gguf
from taia.export.job import Check, Written
from taia.loading.models import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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


# --- the chat template --------------------------------------------------------------------------

TemplateMessage: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Family:
    """How a family of models lays out a conversation.

    Attributes:
        name: What people call it.
        turns: Role → what stands before and after its message.
        opening: What stands before the answer.
        stops: What ends it.
        joined: Whether a system message takes the place of what stands before the user's.
    """

    name: str
    turns: Mapping[str, tuple[str, str]]
    opening: str
    stops: tuple[str, ...]
    joined: bool = False

    def render(self, messages: Sequence[TemplateMessage]) -> str:
        """A conversation, up to where the answer begins."""
        text, previous = "", ""
        for message in messages:
            role = message["role"]
            before, after = self.turns[role]
            if self.joined and role == "user" and previous == "system":
                before = ""
            text += before + message["content"] + after
            previous = role
        return text + self.opening

    def template(self) -> str:
        """The same in Go's template language, as Ollama fills it in."""
        text, keyword = "", "if"
        for role, (before, after) in self.turns.items():
            if self.joined and role == "user":
                before = f"{{{{ if not $system }}}}{before}{{{{ end }}}}{{{{ $system = false }}}}"
            if self.joined and role == "system":
                after += "{{ $system = true }}"
            text += f'{{{{ {keyword} eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}'
            keyword = "else if"
        start = "{{ $system := false }}" if self.joined else ""
        return f"{start}{{{{ range .Messages }}}}{text}{{{{ end }}}}{{{{ end }}}}{self.opening}"


def _alike(before: str, after: str, *, system: bool = True) -> dict[str, tuple[str, str]]:
    """Turns that name their role."""
    roles = ("system", "user", "assistant") if system else ("user", "assistant")
    return {role: (before.format(role=role), after) for role in roles}


FAMILIES: Final = (
    Family(
        "chatml",
        _alike("<|im_start|>{role}\n", "<|im_end|>\n"),
        "<|im_start|>assistant\n",
        ("<|im_end|>", "<|im_start|>"),
    ),
    Family(
        "llama3",
        _alike("<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>"),
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ("<|eot_id|>", "<|start_header_id|>"),
    ),
    Family(
        "llama2",
        {
            "system": ("[INST] <<SYS>>\n", "\n<</SYS>>\n\n"),
            "user": ("[INST] ", " [/INST]"),
            "assistant": (" ", " </s><s>"),
        },
        "",
        ("[INST]", "</s>"),
        joined=True,
    ),
    Family(
        "phi3",
        _alike("<|{role}|>\n", "<|end|>\n"),
        "<|assistant|>\n",
        ("<|end|>", "<|user|>"),
    ),
    Family(
        "zephyr",
        _alike("<|{role}|>\n", "</s>\n"),
        "<|assistant|>\n",
        ("</s>", "<|user|>"),
    ),
    Family(
        "gemma",
        {
            "user": ("<start_of_turn>user\n", "<end_of_turn>\n"),
            "assistant": ("<start_of_turn>model\n", "<end_of_turn>\n"),
        },
        "<start_of_turn>model\n",
        ("<end_of_turn>", "<start_of_turn>"),
    ),
)


@dataclass(frozen=True, slots=True)
class Chat:
    """A tokenizer's chat template, recognised.

    Attributes:
        family: Whose layout it has.
        system: The system message it begins with when none is given.
    """

    family: Family
    system: str | None = None


_TALK: Final = (
    {"role": "user", "content": "How far is it?"},
    {"role": "assistant", "content": "Two miles."},
    {"role": "user", "content": "On foot?"},
)
_MARK: Final = "Answer as a guide would."
_SYSTEM: Final = {"role": "system", "content": _MARK}


def recognised(tokenizer: PreTrainedTokenizerBase) -> Chat | None:
    """The family whose rendering is the tokenizer's, ``None`` if it is no known one's."""
    for family in FAMILIES:
        found = _of_family(tokenizer, family)
        if found is not None:
            return found
    return None


def _of_family(tokenizer: PreTrainedTokenizerBase, family: Family) -> Chat | None:
    known = "system" in family.turns
    if known and family.render((_SYSTEM, *_TALK)) not in _rendered(tokenizer, (_SYSTEM, *_TALK)):
        return None
    plain = _rendered(tokenizer, _TALK)
    if family.render(_TALK) in plain:
        return Chat(family)
    if not known:
        return None
    head, tail = family.render((_SYSTEM, *_TALK)).split(_MARK)
    for text in plain:
        if text.startswith(head) and text.endswith(tail):
            system = text[len(head) : len(text) - len(tail)]
            first = ({"role": "system", "content": system}, _TALK[0])
            if family.render(first) in _rendered(tokenizer, _TALK[:1]):
                return Chat(family, system)
    return None


def _rendered(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[TemplateMessage]
) -> tuple[str, ...]:
    """A conversation as the tokenizer has it, with and without a first token that Ollama adds."""
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=True
        )
    except (TemplateError, ValueError, TypeError):
        return ()
    text = str(text)
    return (text, text.removeprefix(tokenizer.bos_token or ""))
