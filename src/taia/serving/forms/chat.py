"""The form of a chat's answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taia.runtime.generation import Token
from taia.serving.forms.form import Choice, Form


class ChatForm(Form):
    """``chat.completion`` and its chunks."""

    prefix = "chatcmpl"
    whole_name = "chat.completion"
    piece_name = "chat.completion.chunk"

    def _whole(self, index: int, choice: Choice) -> dict[str, Any]:
        message = {"role": "assistant", "content": choice.text, "refusal": None}
        return {"message": message, "logprobs": self._logprobs(choice.tokens)}

    def _opening(self, index: int) -> dict[str, Any]:
        return {"delta": {"role": "assistant", "content": ""}, "logprobs": None}

    def _step(self, index: int, text: str, tokens: Sequence[Token]) -> dict[str, Any]:
        delta = {"content": text} if text else {}
        return {"delta": delta, "logprobs": self._logprobs(tokens) if tokens else None}

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if self.asked.alternatives is None:
            return None
        content = [
            {
                **self._entry(token.id, token.logprob),
                "top_logprobs": [self._entry(*pair) for pair in token.alternatives],
            }
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def _entry(self, token: int, logprob: float | None) -> dict[str, Any]:
        raw = self.texts.raw(token)
        return {
            "token": self.texts.text(token),
            "logprob": logprob,
            "bytes": None if raw is None else list(raw),
        }
