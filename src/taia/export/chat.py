"""A tokenizer's chat template as Ollama's, for the families whose layout is known.

Ollama renders chats with Go's text/template, the tokenizer's template is Jinja, and nothing
translates one into the other. So a family is known by what it writes around each message; it is the
tokenizer's if both render the same conversations to the same text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message: TypeAlias = Mapping[str, str]


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

    def render(self, messages: Sequence[Message]) -> str:
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
    system: str | None = field(default=None)


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


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> tuple[str, ...]:
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
