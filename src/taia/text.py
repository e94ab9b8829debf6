"""Words and numbers as others can bear them: a terminal, Markdown, people, whoever misspelt one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import SequenceMatcher, get_close_matches
from typing import Any, Final

#: Characters that steer a terminal or hide: controls, formats such as U+202E, lone surrogates,
#: separators of lines. Line breaks and tabs are the writer's own business.
_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_MARKED_UP: Final = re.compile(r"([\\`*_\[\]|<>&~$])")
_CUT: Final = " … "


def printable(words: str) -> str:
    r"""Words of any origin for a terminal: what would steer it is shown as ``\x1b``, ``\u202e``."""
    if words.isascii() and words.isprintable():
        return words
    return "".join(map(_shown, words))


def _shown(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _STEERING:
        return character
    return ascii(character)[1:-1]


def one_line(words: str) -> str:
    """Words as a single line for a terminal: line breaks and tabs are shown escaped as well."""
    return printable(words).replace("\n", r"\n").replace("\t", r"\t")


def markdown(words: str) -> str:
    """Words as Markdown, and the HTML it becomes, shows them: on one line, with no meaning left."""
    return _MARKED_UP.sub(r"\\\1", printable(" ".join(words.split())))


def shortened(words: str, most: int) -> str:
    """Words of at most so many characters: what is left out is taken from the middle."""
    if len(words) <= most:
        return words
    begin = (most - len(_CUT)) * 2 // 3
    return words[:begin] + _CUT + words[len(words) - (most - len(_CUT) - begin) :]


def around(words: str, at: int, most: int) -> tuple[str, int]:
    """Words cut to about so many characters around one of them.

    Returns:
        The words, and where the character is in them.
    """
    begin = max(0, min(at - most // 2, len(words) - most))
    end = begin + most
    before, after = "… " if begin else "", " …" if end < len(words) else ""
    return f"{before}{words[begin:end]}{after}", at - begin + len(before)


#: pydantic's kinds of errors → what would have been right, with the bound under its own name.
_WANTED: Final = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "a whole number"),
    "int_parsing_size": "a number of fewer digits",
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    "finite_number": "a finite number",
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    "string_type": "words",
    "list_type": "a list",
    "dict_type": "a table of keys and values",
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}


def wanted(error: Mapping[str, Any]) -> str:
    """What a value must be, to be said after its name; from one of pydantic's ``errors()``."""
    if (form := _WANTED.get(error["type"])) is not None:
        return f"it must be {form.format_map(error.get('ctx', {}))}"
    told: str = error["msg"].removeprefix("Value error, ")
    return told[:1].lower() + told[1:]


def closest(word: str, known: Iterable[str], first: Collection[str] = ()) -> str | None:
    """What somebody probably meant: case-blind, and a beginning counts as much as a slip.

    Args:
        word: What was written.
        known: What there is.
        first: What is likelier meant than the rest, such as modes among components.

    Returns:
        The likeliest, if any is likely. It may be ``word`` itself.
    """
    typed = word.casefold()
    groups = [{name.casefold(): name for name in names} for names in (first, known)]
    for names in groups:
        if typed in names:
            return names[typed]
    for names in groups:
        for name in names:
            if len(typed) > 1 and name.startswith(typed):
                return names[name]
    # A slip: the most alike; the first group's where another is no more alike.
    slips = [(near[0], names) for names in groups if (near := get_close_matches(typed, names, 1))]
    alike = [SequenceMatcher(None, typed, name).ratio() for name, _ in slips]
    if not slips:
        return None
    name, names = slips[alike.index(max(alike))]
    return names[name]


# --- large numbers ------------------------------------------------------------------------------


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def counted(number: int, what: str) -> str:
    """``1 task``, ``2 tasks``, ``2,100 tasks``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def in_millions(count: int) -> str:
    """A count of parameters: ``"135 M"``, ``"7.24 B"``."""
    return _scaled(count, 1000, ("", " K", " M", " B", " T"))


def in_bytes(count: int) -> str:
    """A size: ``"269 MB"``, ``"14.5 GB"`` (powers of a thousand)."""
    return _scaled(count, 1000, (" B", " kB", " MB", " GB", " TB"))


def in_time(seconds: float) -> str:
    """A duration: ``"40 s"``, ``"12 min"``, ``"3.5 h"``, ``"2.1 days"``."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            count = seconds / size
            return f"{count:.{0 if count >= 9.95 else 1}f} {unit}".replace(".0 ", " ")
    return f"{seconds:.0f} s"


def _scaled(count: int, step: int, units: tuple[str, ...]) -> str:
    value, last = float(count), units[-1]
    for unit in units:
        rounded = float(f"{value:.3g}")
        if rounded < step or unit is last:
            return f"{rounded:g}{unit}" if rounded < step else f"{value:.0f}{unit}"
        value /= step
    raise AssertionError(units)
