"""A single token as text and as bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BROKEN: Final = "\ufffd"


class TokenTexts:
    """The tokens of a vocabulary, as log-probabilities show them.

    Args:
        tokenizer: Whose tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, tuple[str, bytes | None]] = {}

    def text(self, token: int) -> str:
        """Its text within an answer, leading space included; U+FFFD for parts of characters."""
        return self._look_up(token)[0]

    def raw(self, token: int) -> bytes | None:
        """Its bytes in UTF-8, ``None`` where they cannot be told."""
        return self._look_up(token)[1]

    def shown(self, token: int) -> str:
        r"""Its text, or ``bytes:\xe2\x82`` for parts of characters, as OpenAI writes them."""
        text, raw = self._look_up(token)
        if _BROKEN not in text or raw is None:
            return text
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    def decode(self, tokens: tuple[int, ...]) -> str:
        """The text of several tokens."""
        return str(self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))

    def _look_up(self, token: int) -> tuple[str, bytes | None]:
        if token not in self._known:
            # The first token of a text may lose its leading space, so look at it as a second one.
            text = self.decode((token, token))[len(self.decode((token,))) :]
            self._known[token] = (text, self._bytes(token, text))
        return self._known[token]

    def _bytes(self, token: int, text: str) -> bytes | None:
        if _BROKEN not in text:
            return text.encode()
        name = str(self._tokenizer.convert_ids_to_tokens(token))
        if single := _BYTE.fullmatch(name):
            return bytes([int(single[1], 16)])
        if all(character in _BYTE_OF for character in name):
            return bytes(_BYTE_OF[character] for character in name)
        return None


def _byte_level() -> dict[str, int]:
    """The character that byte-level vocabularies write for each byte, GPT-2's, inverted."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTE_OF: Final = _byte_level()
