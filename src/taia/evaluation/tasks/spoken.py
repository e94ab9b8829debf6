"""What a response says to the user: without thoughts and marks; and whether it says anything.

An answer says nothing where it is empty, noise, or the same over and over.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Final

_TAGS: Final = r"think|thinking|thought|thoughts|reasoning|reflection|scratchpad"
_THOUGHTS: Final = re.compile(rf"<({_TAGS})>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
#: Some templates open the thoughts in the prompt: the response then only closes them.
_CLOSED: Final = re.compile(rf"\A.*</(?:{_TAGS})>", re.DOTALL | re.IGNORECASE)
_MARKS: Final = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?(?:s|unk|pad|bos|eos)>|\[/?INST\]")

#: Nats a token. In the labelled set people's and models' answers stay below 7.2, however short;
#: words drawn at random begin at 7.8, and most are above 10.
LOSS: Final = 8.0

_CODE: Final = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
_HAN: Final = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_UNIT: Final = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+")
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")

#: Of one to three letters or so, the words that no sentence of a language is long without.
_LITTLE: Final = frozenset(
    "the a an to of and in is it that this for with on as are be by or you your i can at from"
    " not if"
    " have has was were will my we he she they his her their but do so"
    " der die das und ist ein eine zu den mit nicht von es ich sie auf"
    " le la les de des du et un une est que pour dans pas je vous en il"
    " el los las y es un una que por con no se su al lo del"
    " di che per non con il o da um uma os as ao na no em para com".split()
)  # fmt: skip

#: Stand together in a Japanese or a Korean text.
_EASTERN: Final = frozenset(
    {"HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "HALFWIDTH", "FULLWIDTH"}
)

_FEW: Final = 12  # n-grams: below, a text is too short for its repetitions to say much
_DISTINCT: Final = 0.45
_COMPRESSED: Final = 3.5
_OVERHEAD: Final = 8  # bytes: zlib's header, block and checksum


def spoken(response: str) -> str:
    """A response without its ``<think>`` blocks and special tokens, outer white space stripped.

    Thoughts that never end leave nothing: the model was cut off before it spoke.
    """
    text = _CLOSED.sub("", _THOUGHTS.sub(" ", response))
    return _MARKS.sub(" ", text).strip()


def is_gibberish(answer: str, loss: float | None = None) -> bool:
    """Whether an answer says nothing that could be a refusal or an answer.

    By rules: no letter and no digit, or a single Latin letter; two different characters at most
    in a text of eight or more; the same few words over and over (distinct 3-grams below 0.45 of
    all, or a text that zlib makes 3.5 times shorter); no words (broken characters, keys struck at
    random, unrelated words and pieces of words). Code is not looked into for words.

    Args:
        answer: What the model said, thoughts and special tokens removed.
        loss: The base model's own mean loss on the answer, given the prompt, in nats a token, where
            it is at hand: above :data:`LOSS` the answer is gibberish.
    """
    text = answer.strip()
    solid = [char for char in text if unicodedata.category(char)[0] in "LN"]
    if not solid or (len(solid) == 1 and solid[0].isascii() and solid[0].isalpha()):
        return True
    if loss is not None and loss > LOSS:
        return True
    if text.count("\ufffd") > len(text) / 10:
        return True
    return _loops(text, solid) or _is_noise(_CODE.sub(" ", text))


def _loops(text: str, solid: Sequence[str]) -> bool:
    letters = [char for char in solid if char.isalpha()]
    if len(letters) >= 8 and len(set(letters)) <= 2:
        return True
    units = [unit.casefold() for unit in _UNIT.findall(text)]
    if len(solid) >= 8 and len(set(units)) <= 2 and len(units) >= 8:
        return True
    grams = [tuple(units[i : i + 3]) for i in range(len(units) - 2)]
    if len(grams) >= _FEW and len(set(grams)) < _DISTINCT * len(grams):
        return True
    raw = text.encode()
    return len(text) >= 30 and len(raw) > _COMPRESSED * (len(zlib.compress(raw, 9)) - _OVERHEAD)


def _is_noise(text: str) -> bool:
    words = _WORD.findall(text)
    latin = [word for word in words if word.isascii()]
    if len(latin) >= 4 and len(latin) >= len(words) / 2:
        unsayable = sum(_unsayable(word) for word in latin)
        if unsayable > 0.4 * len(latin):
            return True
    letters = Counter(_script(char) for char in text if char.isalpha())
    if len(letters) >= 4 and max(letters.values()) < 0.9 * letters.total():
        return True
    if len(words) < 12:
        return False
    little = sum(word.casefold() in _LITTLE for word in latin) / max(1, len(latin))
    odd = sum(_is_odd(word) for word in words) / len(words)
    pointed = len(re.findall(r"[.,;:!?\n]", text)) / len(words)
    return len(latin) >= 12 and little < 0.12 and (odd > 0.08 or (little < 0.06 and pointed < 0.05))


def _unsayable(word: str) -> bool:
    """No vowel, or five consonants in a row; a short one may be an abbreviation."""
    word = word.casefold()
    return len(word) >= 4 and re.search(r"[bcdfghjklmnpqrstvwxz]{4}|^[^aeiouy]+$", word) is not None


def _is_odd(word: str) -> bool:
    """A piece stuck to another: a capital inside."""
    inside = re.search(r"[a-z][A-Z]|[A-Z]{2}[a-z]{2}", word) is not None
    return inside or (word.isascii() and len(word) > 17)


def _script(char: str) -> str:
    name = unicodedata.name(char, "?").split(" ")[0].split("-")[0]
    return "CJK" if name in _EASTERN else name
