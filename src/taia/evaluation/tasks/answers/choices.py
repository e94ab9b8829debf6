"""The option that a text chooses: by its letter, by its text, or by both."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

_PAIRS: Final = {
    "(": ")", "[": "]", "{": "}", "<": ">", '"': '"', "'": "'", "“": "”", "‘": "’", "（": "）",
    "【": "】", "「": "」", "《": "》", "$": "$", "`": "`",
}  # fmt: skip
_NOISE: Final = re.compile(
    r"\s*\\!\s*|\\[,;: ]|(?<=\d)\{,\}(?=\d)|\\(?:left|right|displaystyle)(?![a-z])|[`*]|\\[()\[\]]"
)
_TEXT: Final = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
# What may be missing from an option's end.
_TAIL: Final = re.compile(r"""[\s.。"”]+$""")
_NEGATES: Final = re.compile(
    r"\b(?:not|no|never|neither|nor|wrong|incorrect|false|except|least|cannot|hardly|unlikely)\b"
    r"|n['’]t\b|不|没|非|错|否|除了",
    re.IGNORECASE,
)
_HEDGES: Final = re.compile(
    r"\b(?:or|maybe|perhaps|possibly|could|might|sure|also|too)\b|或|可能|也许|也", re.IGNORECASE
)
_WORD_BEFORE: Final = (
    r"(?:(?:the\s+)?(?:correct\s+|right\s+|best\s+)?(?i:option|choice|letter|answer)|选项?"
    r"|选择|字母|答案)\s*[:：]?\s*"
)
_IT_IS: Final = re.compile(
    r"^(?:(?:(?:so|thus|therefore|hence|i\s+(?:think|believe|guess|say"
    r"|would\s+say)(?:\s+that)?|i['’]d\s+say|it\s+is|it['’]s"
    r"|it\s+(?:must|should|has\s+to)\s+be|that\s+(?:is|would\s+be|must\s+be)|that['’]s"
    r"|this\s+is|my\s+(?:choice|pick|guess)"
    r"|(?:my\s+|the\s+)?ans(?:wer)?|indeed|definitely|clearly|obviously|certainly|surely"
    r"|probably|most\s+likely|option|choice"
    r")(?:\s+is\b)?\b|所以|因此|那么|我认为|我觉得|应该|应|是|为)\s*[,，:：.-]*\s*)+",
    re.IGNORECASE,
)
_REASON: Final = (
    r"(?:\s+(?:because|since|as|for|due|is\s+(?:the\s+)?(?:correct|right|best|answer))\b"
    r"|\s*[—–-]+\s|\s*[,，;；]\s*(?![A-Z]\b)|\s*[:：.)）\]、．]\s*|\s+(?:因为|由于)|\s*[(（]"
    r"|\s*[/=]\s*(?=\w{3})|\s+it\s+is$)"
)
_PREDICATE: Final = (
    r"(?:is|are|was|were|has|have|can|lays?|makes?|will|does|would|because|since)\b|是|会|可以"
    r"|能|才|因为|由于"
)


def one_of(options: Sequence[str]) -> re.Pattern[str] | None:
    """The whole of one of the texts, up to the end of its sentence or of its line."""
    texts = [r"\s+".join(map(re.escape, _TAIL.sub("", option).split())) for option in options]
    longest_first = "|".join(sorted(filter(None, texts), key=len, reverse=True))
    if not longest_first:
        return None
    end = r"""["”’'*)]*\s*(?:[.。!！]+["”’'*]*(?=\s|$)|[。！]|(?=\n)|$)"""
    return re.compile(rf"""\s*["“‘'*(]*(?:{longest_first}){end}""", re.IGNORECASE)


def starts_line(line: str) -> str | None:
    """The letter that a line of a list of options begins with."""
    match = re.match(r"[(（]?([A-Z])[)）.:：、]\s*\S", unicodedata.normalize("NFKC", line))
    return match[1] if match else None


def choice(answer: str, options: Sequence[str] = ()) -> int | None:
    """The place of the option that an answer chooses.

    A text that is an option's is read as that option's ("O(D)" is not D), unless it is an option's
    letter and nothing else. A letter beside another option's whole text chooses neither. Without a
    letter, an option's text counts as the whole answer, or as the first or last words of a sentence
    that names no other option and denies nothing.

    Args:
        answer: An answer's text.
        options: The options' texts, in the order of their letters; if not given, letters only.

    Returns:
        Its place, from 0, or None if none is chosen, or more than one.
    """
    last = chr(ord("A") + len(options) - 1) if options else "Z"
    texts = [option_text(option) for option in options]
    said = normal(answer)
    for text in dict.fromkeys(
        (said, re.sub(r"^the ", "", said), normal(_IT_IS.sub("", answer.strip())))
    ):
        if text in texts and not re.fullmatch(f"[a-{last.lower()}]", text):
            return texts.index(text) if texts.count(text) == 1 else None
    given = letter(answer, last)
    if given is not None:
        place = ord(given) - ord("A")
        beside = re.sub(r"^\W*(?:option |choice |letter |答案|选项?)?[a-z]\W+", "", said)
        named = _begun(beside, texts) or _begun(said, texts)
        return place if not named or place in named else None
    if _NEGATES.search(answer) or not texts:
        return None
    named = _named(said, texts)
    if len(named) != 1:
        return None
    (place,) = named
    text = re.escape(texts[place])
    first = re.match(rf"(?:the |an? )?{text}\s*(?:{_PREDICATE}|[,，:(—–-])", said)
    ends = re.search(
        rf"(?:\b(?:is|are|was|be|called|the)\s+|(?:是|为|选|[:：])\s*)[\"'“‘]?{text}[\"'”’]?$", said
    )
    return place if first or ends else None


def letter(answer: str, last: str = "Z") -> str | None:
    """The option that an answer names by its letter.

    ``B``, ``b``, ``(B)``, ``{B}``, ``"B"``, ``B.``, ``B) the mall``, ``B because …``, ``option B``,
    ``letter B``, ``选B`` and ``B（…）`` name B; a letter that is merely a word, as in "A library",
    names nothing, and neither do two letters, or one that is denied.

    Args:
        answer: An answer's text.
        last: The last letter there is; later ones are no options.

    Returns:
        The letter, upper case, or None.
    """
    text = bare(_IT_IS.sub("", plain(answer)))
    upper, any_case = f"[A-{last}]", f"[A-{last}a-{last.lower()}]"
    opening, closing = r"[(（\[{<\"'“‘【]*\s*", r"\s*[)）\]}>\"'”’】]*"
    another = (
        rf"(?!\s*(?:[,，、/&;]|or\b|and\b|或者?|还是|和|与|及)\s*(?:or\s+|and\s+)?[(（]?{upper}"
    )
    another += r"(?![a-zA-Z'’]|\s*(?:选?项)?[是都]?[不错]|\s+is\s+(?:wrong|incorrect|not)))"
    denied = r"(?!\s*(?:选?项)?\s*(?:[是都]?[不错]|并非|is\s+(?:not|wrong|incorrect)|isn['’]t))"
    for pattern in (
        rf"{opening}({any_case}){closing}[.:。：!！]?",
        rf"[(（\[【]\s*({upper})\s*[)）\]】]{denied}{another}.*",
        rf"({upper}){denied}{another}(?:[.:：)）、．](?!\w\.)|(?=[^\x00-\x7f\u3400-\u9fff]"
        rf"|\s*[(（]|选?项|是?正确|是?对|因|才)){another}.*",
        rf"({upper}){denied}{another}{_REASON}{another}.*",
        rf"(?:{_WORD_BEFORE})+{opening}({upper}){closing}(?!\w){denied}{another}.*",
        rf"(?:{_WORD_BEFORE})+{opening}({any_case}){closing}[.:。：!！]?",
        rf"(?i:the|this|so|my)\b[^.。]*\bis:?\s+{opening}({upper}){closing}(?!\w){denied}{another}.*",
    ):
        match = re.fullmatch(pattern, text, re.DOTALL)
        if match and not _NEGATES.search(text[: match.start(1)]):
            return match[1].upper() if _only_letter(text, match, upper) else None
    bracketed = set(re.findall(rf"[(（]({upper})[)）]", text))
    return bracketed.pop() if len(bracketed) == 1 and not _NEGATES.search(text) else None


def _only_letter(text: str, match: re.Match[str], upper: str) -> bool:
    """Whether no other letter is chosen beside: "B. C. D.", "A? B?", "B, or maybe C"."""
    rest = text[match.end(1) :]
    others = re.findall(rf"(?:^|[\s(（,，;；、/])({upper})(?=[)）.,，;；:：、?]|\s*$)", rest)
    said = set(others) - {match[1].upper()}
    denied = _NEGATES.search(rest) is not None and not _HEDGES.search(rest)
    return not said or denied or bool(re.search(r"\(\w\)", rest))


def plain(text: str) -> str:
    """A text without LaTeX's spacing, its text commands, Markdown's marks and outer white space.

    Letters and brackets of full width are those of ASCII.
    """
    text = re.sub(
        "[Ａ-Ｚａ-ｚ０-９（）［］｛｝]", lambda m: unicodedata.normalize("NFKC", m[0]), text
    )
    text = re.sub(r"(?<!\w)_+(?=\S)|(?<=\S)_+(?!\w)", "", _NOISE.sub("", text))
    return " ".join(_TEXT.sub(r"\1", text).split())


def bare(text: str) -> str:
    """A text without the brackets and quotes that hold all of it, and without its full stop."""
    text = text.strip().rstrip(".。!！ ")
    while len(text) > 2 and _PAIRS.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip().rstrip(".。!！ ")
    return text


def normal(text: str) -> str:
    """A text as it is compared: case, outer marks, white space and commas do not count."""
    text = bare(re.sub(r"^[-•]\s+", "", plain(text)).casefold().strip("$"))
    return " ".join(re.sub(r"[,，;](?!\d)", " ", text).split())


def option_text(text: str) -> str:
    """An option as it is compared: some data sets leave a quote behind its end."""
    return normal(text[:-1] if text.count('"') == 1 and text.endswith('"') else text)


def _begun(text: str, options: Sequence[str]) -> set[int]:
    """Which options a text begins with: of those that do, the longest."""
    found = [
        i
        for i, option in enumerate(options)
        if not re.fullmatch(r"\w?", option, re.ASCII) and _starts(text, option)
    ]
    longest = max((len(options[i]) for i in found), default=0)
    return {i for i in found if len(options[i]) == longest}


def _starts(text: str, option: str) -> bool:
    edge = "" if re.search(r"[\u3400-\u9fff]$", option) else r"(?!\w)"
    return re.match(rf"(?:the )?{re.escape(option)}{edge}", text) is not None


def _named(text: str, options: Sequence[str]) -> set[int]:
    """Which options' texts are in a text, as whole words; a longer one hides those inside it."""
    found: set[int] = set()
    for place in sorted(range(len(options)), key=lambda i: -len(options[i])):
        option = options[place]
        if not option:
            continue
        pattern = re.escape(option)
        if not re.search(r"[\u3400-\u9fff]", option):
            pattern = rf"(?<!\w){pattern}(?!\w)"
        if re.search(pattern, text):
            found.add(place)
            text = re.sub(pattern, " ", text)
    return found
