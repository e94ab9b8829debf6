"""Which language a text is in: by its script, and for Latin letters by its commonest words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Final

#: First word of a letter's Unicode name → language; Japanese is told from Chinese by its kana.
_SCRIPTS: Final = {
    "CJK": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "CYRILLIC": "ru",
    "GREEK": "el",
    "ARABIC": "ar",
    "DEVANAGARI": "hi",
}
#: Language → words that hardly a sentence of it does without, and that few others share.
_COMMON: Final = {
    "en": "the and of to is are in that with for it this was on as by an be have they you not",
    "fr": "le la les des est et dans une que qui pour sur pas du au avec sont plus ce il elle nous",
    "de": "der die das und ist ein eine nicht mit von den auf zu sich auch es im dem wird sind",
    "es": "el los las y es un una que en por con para del se al como más su son muy lo",
    "it": "il di che è un una per con non del della sono gli le nel si più alla dei anche",
}
_WORDS: Final = {code: frozenset(words.split()) for code, words in _COMMON.items()}
#: How many of a text's words must be common ones: fewer are a list of names, or another language.
_SHARE: Final = 0.12


def language_of(text: str) -> str:
    """The language that most of a text's letters are in, as ISO 639-1's code; or nothing.

    Told apart are English, French, German, Spanish, Italian, Chinese, Japanese, Korean, Russian,
    Greek, Arabic and Hindi; other languages of these scripts are taken for one of them.
    """
    scripts = Counter(
        unicodedata.name(char, "").partition(" ")[0] for char in text if char.isalpha()
    )
    if not scripts:
        return ""
    # A kana in ten tells Japanese, which has Chinese characters, too.
    if (scripts["HIRAGANA"] + scripts["KATAKANA"]) * 10 > scripts.total():
        return "ja"
    (script, count) = scripts.most_common(1)[0]
    if count * 10 < scripts.total() * 7:
        return ""
    return _latin(text) if script == "LATIN" else _SCRIPTS.get(script, "")


def _latin(text: str) -> str:
    words = re.findall(r"[^\W\d_]+", text.casefold())
    found = {code: sum(word in common for word in words) for code, common in _WORDS.items()}
    best = max(found, key=lambda code: found[code])
    return best if found[best] >= max(1, _SHARE * len(words)) else ""
