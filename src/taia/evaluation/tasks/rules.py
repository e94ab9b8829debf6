"""Rules that an answer keeps or breaks, told by its text alone.

The kinds are those of IFEval (Zhou et al. 2023, "Instruction-following evaluation for large
language models", arXiv 2311.07911); the definitions here are our own. A rule is a function of an
answer and the rule's arguments, which a data file gives by name. No empty answer keeps a rule.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from taia.evaluation.tasks.languages import language_of

#: A rule's name under ``rule``, and its arguments.
Instruction: TypeAlias = Mapping[str, Any]

_CHINESE: Final = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_WORD: Final = re.compile(r"\w+(?:[-'’]\w+)*")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])[\"'”’)\]*]*\s+|(?<=[。！？])[”’」）]*|\n+")
_ABBREVIATION: Final = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|vs|e\.g|i\.e|[A-Z])|^\W*\d+)\.$")
_BULLET: Final = re.compile(r"(?m)^[ \t]*[*•-][ \t]+\S")
_NUMBERED: Final = re.compile(r"(?m)^[ \t]*(\d+)[.)][ \t]+\S")
_HIGHLIGHT: Final = re.compile(r"\*\*[^*\s](?:[^*\n]*[^*\s])?\*\*|\*[^*\s](?:[^*\n]*[^*\s])?\*")
_PLACEHOLDER: Final = re.compile(r"\[[^\[\]\n]*\w[^\[\]\n]*\]")
_TITLE: Final = re.compile(r"<<[^<>\n]*\w[^<>\n]*>>")
_FENCE: Final = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL | re.IGNORECASE)
_QUOTES: Final = (('"', '"'), ("“", "”"), ("「", "」"))

RULES: Final[dict[str, Callable[..., bool]]] = {}


def keeps(answer: str, instruction: Instruction) -> bool:
    """Whether an answer keeps a rule.

    Args:
        answer: What the model wrote.
        instruction: The rule, of :data:`RULES`, with its arguments.
    """
    arguments = {name: value for name, value in instruction.items() if name != "rule"}
    return bool(answer.strip()) and RULES[instruction["rule"]](answer.strip(), **arguments)


def keeps_loosely(answer: str, instruction: Instruction) -> bool:
    """Whether an answer keeps a rule, or would without its first or last line, or its asterisks.

    So that "Sure, here it is:" in front, or bold print, breaks nothing, as in IFEval.
    """
    return any(keeps(one, instruction) for one in _variants(answer))


def is_rule(instruction: object) -> bool:
    """Whether it names a rule and gives it what it takes."""
    if not isinstance(instruction, Mapping) or str(instruction.get("rule")) not in RULES:
        return False
    arguments = {name: value for name, value in instruction.items() if name != "rule"}
    try:
        inspect.signature(RULES[instruction["rule"]]).bind("", **arguments)
    except TypeError:
        return False
    return True


def _variants(answer: str) -> Iterator[str]:
    lines = answer.strip().split("\n")
    for text in (lines, lines[1:], lines[:-1], lines[1:-1]):
        joined = "\n".join(text).strip()
        yield from (joined, joined.replace("*", ""))


def _rule(function: Callable[..., bool]) -> Callable[..., bool]:
    RULES[function.__name__] = function
    return function


def _within(
    count: int, at_least: int | None, at_most: int | None, exactly: int | None = None
) -> bool:
    return (
        (at_least is None or count >= at_least)
        and (at_most is None or count <= at_most)
        and (exactly is None or count == exactly)
    )


def _paragraphs(answer: str) -> list[str]:
    return [one for one in re.split(r"\n[ \t]*\n", answer) if one.strip()]


def _sentences(answer: str) -> int:
    pieces = [piece for piece in _SENTENCE_END.split(answer) if re.search(r"\w", piece)]
    return sum(not _ABBREVIATION.search(piece) for piece in pieces[:-1]) + bool(pieces)


def _occurrences(answer: str, phrase: str) -> int:
    """How often a phrase stands there as whole words, whatever its case."""
    left, right = (r"(?<!\w)", r"(?!\w)") if not _CHINESE.search(phrase) else ("", "")
    return len(re.findall(f"{left}{re.escape(phrase)}{right}", answer, re.IGNORECASE))


@_rule
def words(answer: str, at_least: int | None = None, at_most: int | None = None) -> bool:
    """So many words; "well-known" and "don't" are one each, and so is a Chinese character."""
    count = len(_WORD.findall(_CHINESE.sub(" 字 ", answer)))
    return _within(count, at_least, at_most)


@_rule
def characters(answer: str, at_least: int | None = None, at_most: int | None = None) -> bool:
    """So many Chinese characters, marks not counted."""
    return _within(len(_CHINESE.findall(answer)), at_least, at_most)


@_rule
def sentences(
    answer: str, at_least: int | None = None, at_most: int | None = None, exactly: int | None = None
) -> bool:
    """So many sentences; a line's end ends one, an abbreviation's full stop does not."""
    return _within(_sentences(answer), at_least, at_most, exactly)


@_rule
def paragraphs(answer: str, exactly: int) -> bool:
    """So many paragraphs, with blank lines between."""
    return len(_paragraphs(answer)) == exactly


@_rule
def lines(answer: str, exactly: int) -> bool:
    """So many lines that are not blank."""
    return sum(bool(line.strip()) for line in answer.split("\n")) == exactly


@_rule
def paragraph_starts(answer: str, paragraph: int, word: str) -> bool:
    """The paragraph of that number, from 1, starts with a word."""
    found = _paragraphs(answer)
    first = _WORD.search(found[paragraph - 1]) if len(found) >= paragraph else None
    return first is not None and first[0].casefold() == word.casefold()


@_rule
def includes(answer: str, phrases: Sequence[str]) -> bool:
    """Each of the phrases is there."""
    return all(_occurrences(answer, phrase) for phrase in phrases)


@_rule
def excludes(answer: str, phrases: Sequence[str]) -> bool:
    """None of the phrases is there."""
    return not any(_occurrences(answer, phrase) for phrase in phrases)


@_rule
def mentions(
    answer: str, phrase: str, at_least: int | None = None, at_most: int | None = None,
    exactly: int | None = None,
) -> bool:  # fmt: skip
    """A phrase is there so often."""
    return _within(_occurrences(answer, phrase), at_least, at_most, exactly)


@_rule
def letter(
    answer: str, letter: str, at_least: int | None = None, at_most: int | None = None
) -> bool:
    """A letter is there so often, small or capital."""
    return _within(answer.casefold().count(letter.casefold()), at_least, at_most)


@_rule
def bullets(answer: str, exactly: int) -> bool:
    """So many lines begin with a bullet: ``*``, ``-`` or ``•`` and a blank."""
    return len(_BULLET.findall(answer)) == exactly


@_rule
def numbered(answer: str, exactly: int) -> bool:
    """So many lines are numbered, from 1 on: ``1.`` or ``1)``."""
    return _NUMBERED.findall(answer) == [str(number) for number in range(1, exactly + 1)]


@_rule
def highlights(answer: str, at_least: int) -> bool:
    """So many parts are highlighted: ``*so*`` or ``**so**``."""
    return len(_HIGHLIGHT.findall(answer)) >= at_least


@_rule
def sections(answer: str, word: str, exactly: int) -> bool:
    """So many lines begin with a word and a number, from 1 on: ``Part 1``."""
    found = re.findall(rf"(?mi)^[#*\s]*{re.escape(word)}[ \t]+(\d+)\b", answer)
    return found == [str(number) for number in range(1, exactly + 1)]


@_rule
def placeholders(answer: str, at_least: int) -> bool:
    """So many places to fill in, in square brackets: ``[address]``."""
    return len(_PLACEHOLDER.findall(answer)) >= at_least


@_rule
def postscript(answer: str, marker: str) -> bool:
    """The last paragraph or line begins with a marker, such as ``P.S.``, and goes on."""
    return bool(re.search(rf"(?:^|\n)[ \t]*{re.escape(marker)}[^\n]*\w[^\n]*$", answer))


@_rule
def title(answer: str) -> bool:
    """A title is there, in double angular brackets: ``<<so>>``."""
    return bool(_TITLE.search(answer))


@_rule
def json_object(answer: str, keys: Sequence[str]) -> bool:
    """The whole answer, or what its one code fence holds, is a JSON object with just these keys."""
    fenced = _FENCE.fullmatch(answer)
    try:
        value = json.loads(fenced[1] if fenced else answer)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and sorted(value) == sorted(keys)


@_rule
def one_of(answer: str, options: Sequence[str]) -> bool:
    """The whole answer is one of some texts."""
    return answer in options


@_rule
def two_answers(answer: str, mark: str) -> bool:
    """Two different texts with a mark between."""
    parts = [part.strip() for part in answer.split(mark)]
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


@_rule
def repeats(answer: str, text: str) -> bool:
    """A text is said over first, and something follows."""
    said, wanted = " ".join(answer.split()), " ".join(text.split())
    return said.startswith(wanted) and len(said) > len(wanted)


@_rule
def starts(answer: str, phrase: str) -> bool:
    """The answer starts with a phrase, whatever its case."""
    return answer.casefold().startswith(phrase.casefold())


@_rule
def ends(answer: str, phrase: str) -> bool:
    """The answer ends with a phrase, whatever its case."""
    return answer.casefold().endswith(phrase.casefold())


@_rule
def quoted(answer: str) -> bool:
    """The whole answer stands in double quotation marks."""
    return len(answer) > 2 and (answer[0], answer[-1]) in _QUOTES


@_rule
def capitals(answer: str) -> bool:
    """No small letter, and at least one capital."""
    return answer.isupper()


@_rule
def lowercase(answer: str) -> bool:
    """No capital letter, and at least one small one."""
    return answer.islower()


@_rule
def capital_words(answer: str, at_least: int | None = None, at_most: int | None = None) -> bool:
    """So many words of two letters or more in capitals."""
    found = [word for word in _WORD.findall(answer) if word.isupper() and len(word) > 1]
    return _within(len(found), at_least, at_most)


@_rule
def no_commas(answer: str) -> bool:
    """No comma, not a Chinese one either."""
    return not set(answer) & set(",，、")


@_rule
def language(answer: str, code: str) -> bool:
    """The answer is in a language, by :func:`taia.evaluation.tasks.languages.language_of`."""
    return language_of(answer) == code
