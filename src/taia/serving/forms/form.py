"""What both forms of an answer have."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from taia.runtime.generation import Finish, Progress, Token
from taia.serving.requests import RequestBody
from taia.serving.texts import TokenTexts

#: A cancelled answer has no reader, but for one whose server stops: its length was cut.
_FINISH: Final[dict[Finish, str]] = {"stop": "stop", "length": "length", "cancelled": "length"}


@dataclass(slots=True)
class Choice:
    """One answer, as far as it is known."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish: str | None = None


class Form(ABC):
    """Turns what the engine tells into what the client reads.

    Args:
        asked: The request.
        prompts: Its prompts in tokens.
        texts: The vocabulary's tokens as text.
    """

    prefix: ClassVar[str]
    whole_name: ClassVar[str]
    piece_name: ClassVar[str]

    def __init__(
        self, asked: RequestBody, prompts: Sequence[tuple[int, ...]], texts: TokenTexts
    ) -> None:
        self.asked, self.prompts, self.texts = asked, prompts, texts
        self.choices = [Choice() for _ in range(len(prompts) * asked.n)]
        self._head = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": asked.model,
        }

    @property
    def usage(self) -> dict[str, int]:
        """Tokens read and written so far."""
        read = sum(len(prompt) for prompt in self.prompts)
        written = sum(len(choice.tokens) for choice in self.choices)
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }

    def add(self, index: int, progress: Progress) -> None:
        """Take in a step of an answer."""
        choice = self.choices[index]
        choice.text += progress.text
        choice.tokens += progress.tokens
        if progress.finish is not None:
            choice.finish = _FINISH[progress.finish]

    def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        choices = [
            {"index": index, **self._whole(index, choice), "finish_reason": choice.finish}
            for index, choice in enumerate(self.choices)
        ]
        return {**self._head, "object": self.whole_name, "choices": choices, "usage": self.usage}

    def first_pieces(self) -> Iterator[dict[str, Any]]:
        """What a stream begins with."""
        for index in range(len(self.choices)):
            if (opening := self._opening(index)) is not None:
                yield self._piece([{"index": index, **opening, "finish_reason": None}])

    def piece(self, index: int, progress: Progress) -> dict[str, Any] | None:
        """A step of an answer as a piece of a stream; ``None`` where there is nothing to say."""
        self.add(index, progress)
        finish = self.choices[index].finish
        shown = progress.tokens if self.asked.alternatives is not None else ()
        if not (progress.text or shown or finish):
            return None
        step = self._step(index, progress.text, shown)
        return self._piece([{"index": index, **step, "finish_reason": finish}])

    def last_piece(self) -> dict[str, Any]:
        """The count of tokens."""
        return {**self._piece([]), "usage": self.usage}

    def _piece(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        piece = {**self._head, "object": self.piece_name, "choices": choices}
        return {**piece, "usage": None} if self.asked.wants_usage else piece

    @abstractmethod
    def _whole(self, index: int, choice: Choice) -> dict[str, Any]:
        """An answer's text and log-probabilities."""

    @abstractmethod
    def _opening(self, index: int) -> dict[str, Any] | None:
        """What an answer in pieces begins with."""

    @abstractmethod
    def _step(self, index: int, text: str, tokens: Sequence[Token]) -> dict[str, Any]:
        """A piece of an answer's text, with the log-probabilities of its tokens."""
