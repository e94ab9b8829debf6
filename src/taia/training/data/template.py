"""Where the answers are in what a chat template renders.

The contents of a conversation are replaced by unique words, and the template renders those: what
stands between the words is the conversation's *frame*. It depends on the roles alone (and on where
contents hold ``<think>`` tags), so it is found once for all conversations of one shape. The real
rendering must then be the frame with the real contents in it, character by character, but for
white space that the template trims and reasoning that it drops. If it is not, the row is refused:
a mask is verified or there is none.

An answer counts from where the generation prompt ends to the end of the token that ends the turn:
exactly what the model must write by itself. Where the template marks its answers with
``{% generation %}``, nothing outside the marks counts either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from taia.errors import first_line
from taia.training.data.row import Row, RowTurn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Characters ``[start, end)`` of a text that the loss counts.
Span: TypeAlias = tuple[int, int]
#: Per turn its role, whether it is learnt, and its contents with ``None`` where text may be.
TurnShape: TypeAlias = tuple[tuple[str, bool, tuple[str | None, ...]], ...]

_WORD: Final = re.compile(r"Zq(\d{5})qZ")
_THINK: Final = re.compile(r"(</?think(?:ing)?>)")
_MARKED: Final = re.compile(r"\{%-?\s*generation\s*-?%\}")


class UnrenderedError(Exception):
    """A conversation that the template does not render, or whose answers are not found in it."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A row as text.

    Attributes:
        text: All of it.
        spans: What of it the loss counts; not empty, in order.
    """

    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class _Answer:
    """From ``skip`` characters into literal ``first`` to ``take`` characters into ``last``."""

    first: int
    skip: int
    last: int
    take: int


@dataclass(frozen=True, slots=True)
class _Frame:
    """Literals, and between each two of them a slot, by its number in the conversation."""

    literals: tuple[str, ...]
    slots: tuple[int, ...]
    answers: tuple[_Answer, ...]
    suffix: str


class ChatTemplate:
    """A tokenizer's chat template, and the frames found so far."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._frames: dict[TurnShape, _Frame | UnrenderedError] = {}
        self._marked = bool(_MARKED.search(tokenizer.get_chat_template()))
        added = {token.content for token in tokenizer.added_tokens_decoder.values()}
        self._added = sorted((t for t in added if t.strip()), key=len, reverse=True)

    def render(self, row: Row) -> Rendered:
        """Render a conversation and find its answers.

        Raises:
            RefusedError: If the template refuses it, leaves a message out, or the answers are not
                where they must be.
        """
        parts = [_parts(turn) for turn in row.turns]
        shape = tuple(
            (turn.role, turn.learnt, tuple(None if slot else text for slot, text in pieces))
            for turn, pieces in zip(row.turns, parts, strict=True)
        )
        if shape not in self._frames:
            try:
                self._frames[shape] = self._frame(shape)
            except UnrenderedError as error:
                self._frames[shape] = error
        frame = self._frames[shape]
        if isinstance(frame, UnrenderedError):
            # A frame's refusal may be about the words put in: the template's own comes first.
            self._text([(turn.role, turn.content) for turn in row.turns])
            raise UnrenderedError(*frame.args)
        text = self._text([(turn.role, turn.content) for turn in row.turns]) + frame.suffix
        slots = [piece for pieces in parts for slot, piece in pieces if slot]
        return Rendered(text, _fit(frame, text, slots))

    def _text(self, messages: list[tuple[str, str]], prompt: bool = False) -> str:
        return self._call(messages, prompt, marks=False)[0]

    def _call(
        self, messages: list[tuple[str, str]], prompt: bool, marks: bool
    ) -> tuple[str, list[Span]]:
        from jinja2.exceptions import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        chat: Any = [{"role": role, "content": content} for role, content in messages]
        try:
            if not marks:
                return str(
                    self._tokenizer.apply_chat_template(
                        chat, tokenize=False, add_generation_prompt=prompt
                    )
                ), []
            options: Any = self._tokenizer.special_tokens_map
            rendered: Any = render_jinja_template(
                [chat],
                chat_template=self._tokenizer.get_chat_template(),
                return_assistant_tokens_mask=True,
                **options,
            )
            (text,), (marked,) = rendered
        except (TemplateError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise UnrenderedError(f"the chat template refuses it: {first_line(error)}") from error
        return text, marked

    def _frame(self, shape: TurnShape) -> _Frame:
        messages, owners = _worded(shape)
        text, marks = self._call(messages, False, self._marked)
        found = [(match.start(), match.end(), int(match[1])) for match in _WORD.finditer(text)]
        slots = [slot for *_, slot in found]
        edges = [0, *(edge for start, end, _ in found for edge in (start, end)), len(text)]
        starts = edges[::2]
        literals = [text[a:b] for a, b in zip(starts, edges[1::2], strict=True)]
        suffix = ""
        answers = []
        for turn, (role, learnt, _) in enumerate(shape):
            own = [slot for slot, owner in enumerate(owners) if owner == turn]
            if role == "assistant" and not learnt:
                continue
            if not own or slots.count(own[-1]) != 1:
                how = "repeats" if own and own[-1] in slots else "leaves out"
                raise UnrenderedError(f"the chat template {how} message {turn + 1} ({role})")
            if not learnt:
                continue
            if turn == len(shape) - 1 and not set(own) <= set(slots):
                raise UnrenderedError(
                    f"the chat template leaves out the reasoning of message {turn + 1}, the last"
                )
            places = sorted(slots.index(slot) for slot in own if slot in slots)
            begin, last = 0, places[-1] + 1
            if self._marked:
                begin = _mark_around(marks, found[places[-1]][:2], turn)
                places = [place for place in places if found[place][0] >= begin]
            first = places[0]
            if places != list(range(first, last)):
                raise UnrenderedError(f"the chat template tears message {turn + 1} apart")
            skip = max(self._prompt(messages[:turn], literals[first]), begin - starts[first])
            if last == len(slots):
                suffix = self._suffix(messages, literals[-1])
                literals[-1] += suffix
            take = self._end(messages[: turn + 1], literals[last])
            answers.append(_Answer(first, skip, last, take))
        return _Frame(tuple(literals), tuple(slots), tuple(answers), suffix)

    def _prompt(self, before: list[tuple[str, str]], literal: str) -> int:
        """How much of the literal before an answer is the generation prompt."""
        try:
            prompt = self._text(before, prompt=True) if before else literal
        except UnrenderedError:
            return len(literal)
        words = list(_WORD.finditer(prompt))
        prompt = prompt[words[-1].end() :] if words else prompt
        if literal.startswith(prompt):
            return len(prompt)
        # They part somewhere, as where the prompt opens a thought that the answer does not have:
        # after the last token they share, and after the rest of the prompt if it comes later.
        ours, theirs = (
            self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            for text in (literal, prompt)
        )
        shared = 0
        for own, other, (_, end) in zip(
            ours["input_ids"], theirs["input_ids"], ours["offset_mapping"], strict=False
        ):
            if own != other:
                break
            shared = end
        for rest in (prompt[shared:], prompt[shared:].strip()):
            if rest.strip() and rest in literal[shared:]:
                return literal.index(rest, shared) + len(rest)
        return shared

    def _suffix(self, messages: list[tuple[str, str]], tail: str) -> str:
        """What ends the last answer, where the template leaves that to the next message."""
        if tail.strip():
            return ""
        try:
            longer = self._text([*messages, ("user", _word(len(messages) * 99))])
        except UnrenderedError:
            return ""
        between = longer[list(_WORD.finditer(longer))[-2].end() :]
        if not between.startswith(tail):
            return ""
        after = between[len(tail) :]
        lead = after[: len(after) - len(after.lstrip())]
        return next((lead + token for token in self._added if after.lstrip().startswith(token)), "")

    def _end(self, upto: list[tuple[str, str]], literal: str) -> int:
        """How much of the literal after an answer ends the turn."""
        rest = literal.lstrip()
        for token in self._added:
            if rest.startswith(token):
                return len(literal) - len(rest) + len(token)
        # Text that is no token of its own: what follows the answer when nothing else does.
        tail = _WORD.split(self._text(upto))[-1].rstrip()
        if not tail or not literal.startswith(tail):
            raise UnrenderedError(
                "the chat template ends an answer with nothing that the model could learn to "
                "stop with"
            )
        return len(tail)


def _parts(turn: RowTurn) -> list[tuple[bool, str]]:
    """A turn's content in pieces; true for those that a word stands for in the frame."""
    if turn.role != "assistant" or not _THINK.search(turn.content):
        return [(True, turn.content)]
    pieces = [piece for piece in _THINK.split(turn.content) if piece]
    return [(bool(piece.strip()) and not _THINK.fullmatch(piece), piece) for piece in pieces]


def _word(number: int) -> str:
    return f"Zq{number:05d}qZ"


def _worded(shape: TurnShape) -> tuple[list[tuple[str, str]], list[int]]:
    """The messages with words for contents, and per word the message it is in."""
    messages = []
    owners: list[int] = []
    for turn, (role, _, pieces) in enumerate(shape):
        content = ""
        for piece in pieces:
            content += _word(len(owners)) if piece is None else piece
            owners += [turn] if piece is None else []
        messages.append((role, content))
    return messages, owners


def _mark_around(marks: list[Span], word: Span, turn: int) -> int:
    """Where the template's mark around a word begins."""
    for start, end in marks:
        if start <= word[0] and word[1] <= end:
            return start
    raise UnrenderedError(f"the chat template's generation marks leave out message {turn + 1}")


def _fit(frame: _Frame, text: str, contents: list[str]) -> tuple[Span, ...]:
    """Put the contents into the frame and compare with the text; return the answers in it."""
    starts = []
    place = 0
    for number, literal in enumerate(frame.literals):
        if not text.startswith(literal, place):
            raise _misfit(place)
        starts.append(place)
        place += len(literal)
        if number < len(frame.slots):
            following = frame.literals[number + 1]
            for form in _forms(contents[frame.slots[number]]):
                if text.startswith(form + following, place):
                    place += len(form)
                    break
            else:
                raise _misfit(place)
    if place != len(text):
        raise _misfit(place)
    return tuple(
        (starts[answer.first] + answer.skip, starts[answer.last] + answer.take)
        for answer in frame.answers
    )


def _forms(content: str) -> tuple[str, ...]:
    """A content as it is, and as templates trim it."""
    if content == content.strip():
        return (content,)
    return (
        content,
        content.strip(),
        content.strip("\n"),
        content.lstrip(),
        content.rstrip(),
        content.lstrip("\n"),
        content.rstrip("\n"),
    )


def _misfit(place: int) -> UnrenderedError:
    return UnrenderedError(
        f"the chat template changes the messages (character {place + 1} of what it renders), so "
        "the answers in it cannot be told for certain"
    )
