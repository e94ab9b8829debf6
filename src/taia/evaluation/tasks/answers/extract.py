"""The final answer in a response: the text of it, and the letter or the number in that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

_BOX: Final = re.compile(r"\\f?box(?:ed)?(?=[\s{])\s*")
# What announces an answer, and the answer: up to a full stop before white space or the end, so
# that "3.14" stays whole.
_ANNOUNCED: Final = re.compile(
    r"(?:\bthe\s+(?:final |correct |right |best )?answer\s+is\b[*\s]*[:：]?"
    r"|\banswer\**\s*[:：]|答案\s*(?:应?[是为]|[:：])\s*[:：]?)"
    r"[^\S\n]*\n?(?P<answer>.*?)(?=(?:\.|(?<!\\)!)(?:[\s*]|$)|[。！]|\n|$)",
    re.IGNORECASE,
)
_CHOSEN: Final = re.compile(r"选(?:择|项)?\s*[:：]?\s*(?P<answer>[（(]?[A-Z](?![A-Za-z])[)）]?)")
_ONE_SENTENCE: Final = re.compile(r"(?:[A-Za-z]\.\s)?(?:[^.!?。！？\n]|[.](?=\S))*[.!。！]?")

# What may be missing from an option's end.
_TAIL: Final = re.compile(r"""[\s.。"”]+$""")

_NOISE: Final = re.compile(
    r"\s*\\!\s*|\\[,;: ]|(?<=\d)\{,\}(?=\d)|\\(?:left|right|displaystyle)(?![a-z])|[`*]|\\[()\[\]]"
)
_TEXT: Final = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_FRACTION: Final = re.compile(
    r"(\d*)\s*\\[dt]?frac\s*(?:\{\s*([-−]?[\d.]+)\s*\}|(\d))\s*(?:\{\s*([\d.]+)\s*\}|(\d))"
)
_NUMBER: Final = re.compile(
    r"(?P<sign>[-−–]\s*)?(?:(?P<whole>\d+)\s+(?=\d+/\d))?"
    r"(?P<value>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:\s*/\s*(?P<below>\d+(?:\.\d+)?))?"
)
_GOES_ON: Final = re.compile(
    r"\s*(?:[-+*/×÷·−–,^]|\\times|\\cdot|or\b|and\b|to\b)\s*[-−]?[\d.]*\d", re.IGNORECASE
)


def final_answer(response: str, options: Sequence[str] = ()) -> str | None:
    r"""The answer a response comes to.

    It is the last ``\boxed{…}`` that holds something; without one, what follows the last "The
    answer is", "Answer:", 答案是, 答案： or 选, up to the end of its sentence; without that, a
    response of a single sentence is its own answer. A placeholder (``{answer}``) is none. An
    option's whole text is one answer, whatever full stops and line breaks are in it.

    Args:
        response: What the model wrote.
        options: The options' texts, if there are any.

    Returns:
        The answer's text, or None if the response comes to none.
    """
    boxes = [box for box in boxed(response) if box]
    if boxes:
        return boxes[-1]
    option = _any_of(options)
    whole = response.strip()
    if option and option.fullmatch(whole):
        return whole
    found = sorted(
        (match.start(), _announced(match, option))
        for pattern in (_ANNOUNCED, _CHOSEN)
        for match in pattern.finditer(response)
    )
    answers = [text for _, text in found if text and text != "{answer}"]
    if answers:
        return answers[-1]
    speaks = whole and not found and not _BOX.search(whole)
    return whole if speaks and _ONE_SENTENCE.fullmatch(whole) else None


def _any_of(options: Sequence[str]) -> re.Pattern[str] | None:
    """The whole of one of the texts, up to the end of its sentence or of its line."""
    texts = [r"\s+".join(map(re.escape, _TAIL.sub("", option).split())) for option in options]
    longest_first = "|".join(sorted(filter(None, texts), key=len, reverse=True))
    if not longest_first:
        return None
    end = r"""["”’'*)]*\s*(?:[.。!！]+["”’'*]*(?=\s|$)|[。！]|(?=\n)|$)"""
    return re.compile(rf"""\s*["“‘'*(]*(?:{longest_first}){end}""", re.IGNORECASE)


def _announced(match: re.Match[str], option: re.Pattern[str] | None) -> str:
    whole = option.match(match.string, match.start("answer")) if option else None
    return (whole.group() if whole else match["answer"]).strip().strip("*").strip()


def boxed(text: str) -> Iterator[str]:
    r"""What each ``\boxed{…}`` or ``\fbox{…}`` of a text holds, without white space around it.

    Braces inside are counted. ``\boxed 5`` holds ``5``; a box that is never closed is none.
    """
    for match in _BOX.finditer(text):
        start = match.end()
        if not text.startswith("{", start):
            bare = re.match(r"[^\s{}$.,]+", text[start:])
            if bare:
                yield bare.group()
            continue
        depth = 0
        for end in range(start, len(text)):
            escaped = text[end - 1] == "\\" and text[end - 2 : end] != "\\\\"
            depth += 0 if escaped else {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                yield text[start + 1 : end].strip()
                break


def letter(answer: str, last: str = "Z") -> str | None:
    """The option that an answer names by its letter.

    ``B``, ``b``, ``(B)``, ``B.``, ``B) the mall``, ``option B``, ``选B`` and ``B（…）`` name B; a
    letter that is merely a word, as in "A library", names nothing, and neither do two letters.

    Args:
        answer: An answer's text.
        last: The last letter there is; later ones are no options.

    Returns:
        The letter, upper case, or None.
    """
    text = plain(answer)
    upper, any_case = f"[A-{last}]", f"[A-{last}a-{last.lower()}]"
    another = rf"(?!\s*(?:[,，、/&]|or\b|and\b|或|和)\s*[(（]?{upper}(?![a-z]))"
    for pattern in (
        rf"[(（\[]?\s*({any_case})\s*[)）\]]?[.:。：]?",
        rf"[(（\[]\s*({upper})\s*[)）\]]{another}.*",
        rf"({upper})(?:[.:：)）、．](?!\w\.)|(?=[^\x00-\x7f]|\s*[(（])){another}.*",
        rf"(?:the\s+)?(?i:option|choice|选项?|选择)\s*[:：]?\s*[(（]?({upper})[)）]?(?!\w){another}.*",
    ):
        match = re.fullmatch(pattern, text, re.DOTALL)
        if match:
            return match[1].upper()
    bracketed = set(re.findall(rf"[(（]({upper})[)）]", text))
    return bracketed.pop() if len(bracketed) == 1 else None


def number(answer: str) -> float | None:
    r"""The number an answer gives.

    Thousands separators, currencies, units, fractions (``1/2``, ``2 1/2``, ``\frac{1}{2}``) and
    every kind of minus sign are read; of an equation, its right side. A percent sign is a unit:
    ``25%`` is 25. A sum, a range or a list of numbers (``3 or 4``) is not a number.

    Args:
        answer: An answer's text.

    Returns:
        The number, or None if there is none, or no single one.
    """
    text = _FRACTION.sub(
        lambda m: f"{m[1] + ' ' if m[1] else ''}{m[2] or m[3]}/{m[4] or m[5]}", answer
    )
    text = re.split(r"[=≈]", re.sub(r"\\?[$€£¥￥]\s*", "", plain(text)))[-1]
    match = _NUMBER.search(text)
    if match is None or _GOES_ON.match(text, match.end()):
        return None
    below = float(match["below"] or 1)
    if below == 0:
        return None
    value = float(match["value"].replace(",", "")) / below + float(match["whole"] or 0)
    # "area-5" and "3-4" have no sign; the latter was no number above.
    is_negative = match["sign"] and not text[: match.start()][-1:].isalnum()
    return -value if is_negative else value


def plain(text: str) -> str:
    """A text without LaTeX's spacing, its text commands, Markdown's marks and outer white space."""
    return " ".join(_TEXT.sub(r"\1", _NOISE.sub("", text)).split())
