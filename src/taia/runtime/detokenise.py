"""Tokens to text, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What a decoder writes for bytes that are no character, or not yet.
_HALF: Final = "\ufffd"

#: Tokens of the prompt that the answer's first token is decoded after.
_CONTEXT: Final = 8


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
        return Detokeniser(self.decode, self.is_special, text[-_CONTEXT:])


class Detokeniser:
    """Text of an answer, never half a character.

    A token's text depends on what stands before it: the first of a text loses its space with
    SentencePiece, and a character of several bytes may be several tokens. So tokens are decoded
    behind those before them, and what these alone decode to is taken off.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        is_special: Callable[[int], bool],
        context: Sequence[int],
    ) -> None:
        self._decode = decode
        self._is_special = is_special
        self._context = list(context)
        self._new: list[int] = []
        # Half a character at the prompt's end is the answer's to complete.
        self._before = decode(self._context).rstrip(_HALF) if context else ""

    def push(self, token: int) -> str:
        """Text that a token completes, empty while it ends in half a character."""
        if self._is_special(token):
            return ""
        self._new.append(token)
        text = self._text()
        if not text or text.endswith(_HALF):
            return ""
        self._context, self._new = self._new, []
        self._before = self._decode(self._context)
        return text

    def flush(self) -> str:
        """What is left when no more tokens will come."""
        text, self._new = self._text() if self._new else "", []
        return text

    def _text(self) -> str:
        whole = self._decode(self._context + self._new)
        if whole.startswith(self._before):
            return whole[len(self._before) :]
        # Bytes that are no character spoil those before them, which are written already.
        return self._decode(self._new)
