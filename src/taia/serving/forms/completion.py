"""The form of a completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taia.runtime.generation import Token
from taia.serving.forms.form import Choice, Form
from taia.serving.requests import CompletionAsked
from taia.serving.texts import TokenTexts


class CompletionForm(Form):
    """``text_completion``, whole or in pieces, with or without an echo of the prompt.

    Args:
        asked: The request.
        prompts: Its prompts in tokens.
        texts: The vocabulary's tokens as text.
        scored: The prompts' tokens with their log-probabilities, where the request asks for them.
    """

    prefix = "cmpl"
    whole_name = "text_completion"
    piece_name = "text_completion"

    def __init__(
        self,
        asked: CompletionAsked,
        prompts: Sequence[tuple[int, ...]],
        texts: TokenTexts,
        scored: Sequence[tuple[Token, ...]],
    ) -> None:
        super().__init__(asked, prompts, texts)
        self._scored = scored
        self._echoes = [texts.decode(prompt) for prompt in prompts] if asked.echo else []
        self._offsets = [0] * len(self.choices)
        if asked.max_new_tokens == 0:
            for choice in self.choices:
                choice.finish = "length"

    def _whole(self, index: int, choice: Choice) -> dict[str, Any]:
        opening = self._opening(index) or {"text": "", "logprobs": None}
        rest = self._step(index, choice.text, choice.tokens)
        return {
            "text": opening["text"] + rest["text"],
            "logprobs": _joined(opening["logprobs"], rest["logprobs"]),
        }

    def _opening(self, index: int) -> dict[str, Any] | None:
        if not self._echoes:
            return None
        which = index // self.asked.n
        scored = self._scored[which] if self._scored else ()
        return self._step(index, self._echoes[which], scored)

    def _step(self, index: int, text: str, tokens: Sequence[Token]) -> dict[str, Any]:
        if self.asked.alternatives is None:
            return {"text": text, "logprobs": None}
        shown = [self.texts.shown(token.id) for token in tokens]
        offsets = []
        for token in tokens:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(self.texts.text(token.id))
        return {
            "text": text,
            "logprobs": {
                "tokens": shown,
                "token_logprobs": [token.logprob for token in tokens],
                "top_logprobs": [self._top(token) for token in tokens],
                "text_offset": offsets,
            },
        }

    def _top(self, token: Token) -> dict[str, float] | None:
        """Text → log-probability of the likeliest tokens and the one that stands there."""
        if token.logprob is None:
            return None
        top: dict[str, float] = {}
        for other, logprob in (*token.alternatives, (token.id, token.logprob)):
            top.setdefault(self.texts.shown(other), logprob)
        return top


def _joined(one: dict[str, Any] | None, other: dict[str, Any] | None) -> dict[str, Any] | None:
    if one is None or other is None:
        return one or other
    return {key: one[key] + other[key] for key in one}
