"""The number that a text gives: in digits or in words, English and Chinese."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_FRACTION: Final = re.compile(
    r"(\d*)\s*\\[dt]?frac\s*(?:\{\s*([-−]?[\d.]+)\s*\}|(\d))\s*(?:\{\s*([\d.]+)\s*\}|(\d))"
)
_NUMBER: Final = re.compile(
    r"(?<![A-Za-z0-9_.])(?P<sign>[-+]\s*)?(?:(?P<whole>\d+)\s+(?=\d+/\d))?"
    r"(?P<value>(?:\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:e(?P<power>[-+]?\d{1,2})(?!\w)|\s*(?:\*|x|×|\\times)\s*10\^\{?(?P<ten>-?\d{1,2})\}?)?"
    r"(?:\s*/\s*(?P<below>\d+(?:\.\d+)?))?"
    r"(?:\s*(?P<scale>thousand|million|billion|hundred|dozen|万|千|百|亿|k(?!\w)))?",
    re.IGNORECASE,
)
_SCALES: Final = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "dozen": 12, "k": 1000,
    "百": 100, "千": 1000, "万": 10**4, "亿": 10**8,
}  # fmt: skip
#: A sum, a range, a list, a bound or a second unit: more than one number, or not one.
_GOES_ON: Final = re.compile(
    r"\s*(?:[-+*/×÷·,，、^~]|\\times|\\cdot|or\b|and\b|to\b|x\b|plus\b|minus\b|或|到|至"
    r"|和)\s*[-+$]?[\d.]*\d"
    r"|\s*[-+*/×÷^]\s*[a-z(\\]|\s*[xyzn]\b|(?:st|nd|rd|th)\b"
    r"|\s*[a-z]+\s+(?:or|and|to|plus|minus)\s+(?:\\?\$)?[-+]?\d",
    re.IGNORECASE,
)
_BOUND: Final = re.compile(
    r"\b(?:more|less|greater|fewer|smaller|higher|lower|larger) than\b|\bbetween\b|\bat"
    r" (?:least|most)\b"
    r"|\b(?:over|under|above|below|up to|not|never)\s*(?:\\?\$)?[-+]?[\d.]*\Z|[<>≤≥]|\bnot\b"
    r"|n['’]t\b|\b(?:wrong|incorrect|whether|unless)\b|^(?:first|then|next|let|suppose|if"
    r"|assume|consider|given)\b"
    r"|不是|错|首先|如果|假设|不到|不足|超过|大于|小于|之间|至少|至多|多于|少于",
    re.IGNORECASE,
)
#: What may stand between a number and a second one that tells of something else.
_ASIDE: Final = re.compile(
    r"^\W*(?:[\w°%'$.-]+,?\s+){0,3}?(?:after|because|since|from|out of|of|when|which|who|as"
    r"|for|if|in|per|at|with"
    r"|before|by|so|each|left|that|on)\b",
    re.IGNORECASE,
)

_ONES: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen"
).split()
_TENS: Final = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_WORDS: Final = {
    **{word: value for value, word in enumerate(_ONES)},
    **{word: 10 * value for value, word in enumerate(_TENS, 2)},
    "a": 1, "an": 1,
}  # fmt: skip
_PARTS: Final = {
    "half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6,
    "seventh": 7,    "eighth": 8, "ninth": 9, "tenth": 10,
}  # fmt: skip
_WORD: Final = "|".join(sorted([*_ONES, *_TENS], key=len, reverse=True))
_SPELLED: Final = re.compile(
    rf"(?<![\w-])(?P<sign>(?:minus|negative)\s+)?"
    rf"(?P<words>(?:(?:an?|{_WORD}|half)\b)(?:[\s-]+(?:and\s+)?(?:an?\s+)?(?:{_WORD}|hundred"
    rf"|thousand|million|billion"
    rf"|dozen|point|half|halves|thirds?|quarters?|fourths?|fifths?|sixths?|sevenths?|eighths?"
    rf"|ninths?|tenths?)\b)*)",
    re.IGNORECASE,
)
_HAN: Final = re.compile(
    r"(?P<sign>负"
    r"|零下)?(?P<words>[零〇一二两三四五六七八九十百千万亿]+(?:点[零〇一二三四五六七八九]+)?)"
)
_HAN_ONES: Final = {char: value for value, char in enumerate("零一二三四五六七八九")} | {
    "〇": 0,
    "两": 2,
}
_HAN_TENS: Final = {"十": 10, "百": 100, "千": 1000}
_HAN_BIG: Final = {"万": 10**4, "亿": 10**8}
_HAN_UNIT: Final = re.compile(r"(?!分之|[定样起些直般旦切])[\u3400-\u9fff]{0,3}[。，\s]*$")


def number(answer: str) -> float | None:
    r"""The number an answer gives.

    Thousands separators, currencies, units, powers of ten, fractions (``1/2``, ``2 1/2``, ``½``,
    ``\frac{1}{2}``), every kind of digit and of minus sign, and numbers in words (``five``, ``one
    hundred``, ``一万二``) are read; of an equation, its right side. A percent sign is a unit:
    ``25%`` is 25. A sum, a range, a bound or a list of numbers (``3 or 4``) is not a number, and
    neither are two units of one (``5 feet 6 inches``).

    Args:
        answer: An answer's text.

    Returns:
        The number, or None if there is none, or no single one.
    """
    text = re.split(r"[=≈]", _digits(answer))[-1]
    if _BOUND.search(text):
        return None
    found = list(_NUMBER.finditer(text))
    if not found:
        return _in_words(text)
    first = found[0]
    if _GOES_ON.match(text, first.end()):
        return None
    value = _value(first)
    others = {_value(match) for match in found[1:]} - {value}
    if value is None or (others and not _ASIDE.match(text[first.end() : found[1].start()])):
        return None
    return None if _word_beside(text, first) else value


def _digits(text: str) -> str:
    """A text with its numbers in plain digits; no LaTeX, currencies and remarks in brackets."""
    text = re.sub(r"(?<=\d)[\u00a0\u202f\u2009\u2007](?=\d{3})", "", text)
    text = re.sub(r"(?<=\d)(?=[¼½¾⅐-⅞])", " ", text)
    text = re.sub("[⁰¹²³⁴-⁹⁻]+", lambda m: "^" + unicodedata.normalize("NFKC", m[0]), text)
    text = unicodedata.normalize("NFKC", text).replace("⁄", "/")
    text = re.sub("[−–﹣‐‑‒—]", "-", text)
    text = re.sub(
        r"\s*\\!\s*|\\[,;: ]|(?<=\d)\{,\}(?=\d)|[`*_]|\\[()\[\]]|\\(?:left|right)(?![a-z])",
        lambda m: "," if m[0] == "{,}" else "*" if m[0] == "*" and _between_digits(m) else "",
        text,
    )
    text = _FRACTION.sub(
        lambda m: f"{m[1] + ' ' if m[1] else ''}{m[2] or m[3]}/{m[4] or m[5]}", text
    )
    text = re.sub(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}", r" \1", text)
    text = re.sub(
        r"(?:\bUS|\bA|\bHK)?\\?[$€£¥₹]\s*|\b(?:USD|EUR|GBP|RMB|CNY|Rs\.?|US)\s*(?=[-\d])", "", text
    )
    text = re.sub(r"(?<!\d)(\d{1,3}(?: \d{3})+)(?![\d/])", lambda m: m[1].replace(" ", ""), text)
    text = re.sub(r"\b(?:minus|negative)\s+(?=\.?\d)|[负](?=\d)", "-", text, flags=re.IGNORECASE)
    text = re.sub(
        r"\b(?:page|step|question|problem|chapter|line|figure|table|case)\s*#?\d+",
        " ",
        text,
        flags=re.IGNORECASE,
    )
    # "(18)" is a number; "18 (6 x 3)" is one with a remark. "m^2" is a unit.
    text = re.sub(r"(?<=\w)\s*\([^()]*\)", " ", text)
    text = re.sub(r"(?<=[a-z])\^\{?-?\d\}?", "", text, flags=re.IGNORECASE)
    return " ".join(text.split())


def _between_digits(match: re.Match[str]) -> bool:
    text = match.string
    before, after = text[: match.start()].rstrip()[-1:], text[match.end() :].lstrip()[:1]
    return before.isdigit() and after.isdigit()


def _value(match: re.Match[str]) -> float | None:
    below = float(match["below"] or 1)
    if below == 0:
        return None
    value = float(match["value"].replace(",", "")) * 10.0 ** int(
        match["power"] or match["ten"] or 0
    )
    value = (value / below + float(match["whole"] or 0)) * _SCALES.get(
        (match["scale"] or "").lower(), 1
    )
    return -value if (match["sign"] or "").startswith("-") else value


def _word_beside(text: str, found: re.Match[str]) -> bool:
    """Whether a number in words is one more: "18 or twenty"."""
    after = text[found.end() :]
    return (
        re.match(rf"\s*(?:\w+\s+)?(?:or|and|to)\s+(?:{_WORD})\b", after, re.IGNORECASE) is not None
    )


def _in_words(text: str) -> float | None:
    # "A library", "an hour", "the one": articles and pronouns are no numbers.
    spelled = [
        m for m in _SPELLED.finditer(text) if not re.fullmatch(r"an?", m["words"], re.IGNORECASE)
    ]
    if spelled:
        values = {_english(match["words"], bool(match["sign"])) for match in spelled}
        return values.pop() if len(values) == 1 else None
    han = list(_HAN.finditer(text))
    values = {_chinese(match["words"], bool(match["sign"])) for match in han}
    if len(values) != 1 or not (_HAN_UNIT.match(text[han[-1].end() :]) and len(han) == 1):
        return None
    return values.pop()


def _english(words: str, negative: bool) -> float | None:
    tokens = [word for word in re.split(r"[\s-]+", words.lower()) if word != "and"]
    total, current, seen = 0.0, 0.0, False
    for place, token in enumerate(tokens):
        if token == "point":
            digits = [_WORDS.get(word, 10) for word in tokens[place + 1 :]]
            if not digits or max(digits) > 9:
                return None
            current += float("0." + "".join(map(str, digits)))
            break
        single = token[:-1] if token.endswith("s") and token != "halves" else token
        if token in _WORDS:
            if seen and token not in ("a", "an") and current % 10 and _WORDS[token] < 100:
                return None  # "one two"
            current += 0 if token in ("a", "an") and seen else _WORDS[token]
            seen = True
        elif token in ("hundred", "dozen"):
            current = (current or 1) * _SCALES[token]
        elif token in _SCALES:
            total, current = total + (current or 1) * _SCALES[token], 0.0
        elif single in _PARTS:
            # "two and a half" adds, "two thirds" divides, "half" is a half.
            adds = " and " in f" {words.lower()} " and current >= 1
            current = current + 1 / _PARTS[single] if adds else (current or 1) / _PARTS[single]
    value = total + current
    return -value if negative else value


def _chinese(words: str, negative: bool) -> float:
    whole, _, decimals = words.partition("点")
    total = section = 0.0
    digit, last = 0, 1
    for char in whole:
        if char in _HAN_ONES:
            digit = 10 * digit + _HAN_ONES[char] if last == 0 else _HAN_ONES[char]
            last = 0 if char not in "零〇" or last == 0 else last
        elif char in _HAN_TENS:
            section += (digit or 1) * _HAN_TENS[char]
            digit, last = 0, _HAN_TENS[char]
        else:
            total = (total + section + digit) * _HAN_BIG[char]
            section, digit, last = 0.0, 0, _HAN_BIG[char]
    # 一万二 is 12000: a last digit counts in tenths of the unit before it.
    bare = len(whole) > 1 and whole[-1] in _HAN_ONES and whole[-2] in "百千万亿"
    unit = {**_HAN_TENS, **_HAN_BIG}[whole[-2]] // 10 if bare else 1
    value = total + section + digit * unit
    if decimals:
        value += float("0." + "".join(str(_HAN_ONES[char]) for char in decimals))
    return -value if negative else value
