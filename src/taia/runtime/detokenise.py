"""Tokens to text, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What a decoder writes for bytes that are no character, or not yet.
_HALF: Final = "\ufffd"

#: Tokens of the prompt that the answer's first token is decoded after.
_CONTEXT: Final = 12

#: Tokens that a character is cut into, at most: one for each byte of UTF-8.
_PARTS: Final = 4


class Vocabulary:
    """A tokenizer's decoding, with its special tokens left out."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        added: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
        marked = {index for index, token in added.items() if token.special}
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.all_special_ids) | marked

    def is_special(self, token: int) -> bool:
        """Whether a token is no text."""
        return token in self._special

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens that are not special."""
        return str(self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def after(self, prompt: Sequence[int]) -> Detokeniser:
        """What decodes an answer to a prompt."""
        text = [token for token in prompt[-4 * _CONTEXT :] if token not in self._special]
        text = text[-_CONTEXT:]
        # A character may be cut at either end; at the right it is the answer's to complete.
        for end in range(len(text), max(len(text) - _PARTS, -1), -1):
            for start in range(_PARTS):
                if start < max(end, 1) and _HALF not in self.decode(text[start:end]):
                    return Detokeniser(self, text[start:end], text[end:])
        return Detokeniser(self, [], [])


class Detokeniser:
    """Text of an answer, never half a character.

    A token's text depends on what stands before it: the first of a text loses its space with
    SentencePiece, and a character of several bytes may be several tokens. So tokens are decoded
    behind those before them, and what these alone decode to is taken off.

    Args:
        vocabulary: How tokens are decoded.
        context: What stands before, whole characters.
        begun: The first tokens of the first character.
    """

    def __init__(
        self, vocabulary: Vocabulary, context: Sequence[int], begun: Sequence[int]
    ) -> None:
        self._vocabulary = vocabulary
        self._context = list(context)
        self._before = vocabulary.decode(context) if context else ""
        self._new = list(begun)

    def push(self, token: int) -> str:
        """Text that a token completes, empty while it ends in half a character."""
        if self._vocabulary.is_special(token):
            return ""
        self._new.append(token)
        text = self._text()
        if not text or text.endswith(_HALF):
            return ""
        before = self._vocabulary.decode(self._new)
        if _HALF in before:  # it goes on with a character that began before
            self._context += self._new
            self._before += text
        else:
            self._context, self._before = self._new, before
        self._new = []
        return text

    def flush(self) -> str:
        """What is left when no more tokens will come."""
        text, self._new = self._text() if self._new else "", []
        return text

    def _text(self) -> str:
        whole = self._vocabulary.decode(self._context + self._new)
        if whole.startswith(self._before):
            return whole[len(self._before) :]
        # Bytes that are no character spoil those before them, which are written already.
        return self._vocabulary.decode(self._new)
