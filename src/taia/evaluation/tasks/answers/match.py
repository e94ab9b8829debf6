"""Whether an answer equals the right one, as what it is: mathematics, number, option or text."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any, Final

from taia.errors import InputError
from taia.evaluation.tasks.answers.extract import final_answer, letter, number, plain
from taia.evaluation.tasks.item import Item

_PAIRS: Final = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "“": "”", "‘": "’", "（": "）"}
_BRACKETS: Final = re.compile(r"[\s()\[\]{}<>]+")
_SECONDS: Final = 5


def is_right(item: Item, response: str) -> bool:
    """Whether a response answers an item rightly.

    Args:
        item: What was asked.
        response: All that the model wrote; of a two-stage answer, both stages joined.

    Raises:
        InputError: If the item is mathematics and math-verify is not installed.
    """
    answer = final_answer(response, item.options) or ""
    if item.kind == "math":
        return equal_math(answer, item.gold)
    if item.kind == "number":
        return equal_number(answer, item.gold)
    if item.kind == "option":
        return equal_option(answer, item.gold, item.options)
    return equal_text(answer, item.gold)


def equal_math(answer: str, gold: str) -> bool:
    r"""Symbolic equality, by the library math-verify: ``0.5``, ``1/2`` and ``\frac12`` are equal.

    Each comparison may take 5 seconds, and is unequal after that; outside of a program's main
    thread, where the library cannot keep time, there is no limit.

    Raises:
        InputError: If math-verify is not installed.
    """
    try:
        from math_verify import LatexExtractionConfig, parse, verify
    except ImportError as error:
        raise InputError(
            "Answers to mathematics are compared by the library math-verify, which is missing.",
            'Install it: pip install "taia[eval]".',
        ) from error
    if not answer.strip():
        return False
    if _bare(answer) == _bare(gold):
        return True
    in_main = threading.current_thread() is threading.main_thread()
    seconds = _SECONDS if in_main else None

    def read(text: str) -> list[Any]:
        inner = text.strip().removeprefix("$").removesuffix(".").removesuffix("$")
        # LaTeX only: the library's other reader hands text to sympy's, which runs it as code.
        found: list[Any] = parse(
            f"${inner}$",
            extraction_config=[LatexExtractionConfig()],
            fallback_mode="no_fallback",
            parsing_timeout=seconds,
        )
        return found

    return bool(verify(read(gold), read(answer), timeout_seconds=seconds))


def equal_number(answer: str, gold: str) -> bool:
    """Equality to within a thousandth, as the paper counts SVAMP: |Δ| < 10⁻³."""
    given, right = number(answer), number(gold)
    return given is not None and right is not None and abs(given - right) < 1e-3


def equal_option(answer: str, gold: str, options: Sequence[str] = ()) -> bool:
    """Equality of the letters, or of the whole text of the right option.

    A text that is an option's is read as that option's ("O(D)" is not D), unless it is an option's
    letter and nothing else.

    Args:
        answer: An answer's text.
        gold: The right letter, with or without brackets.
        options: The options' texts, in the order of their letters; if not given, letters only.
    """
    right = gold.strip("()").upper()
    index = ord(right) - ord("A")
    last = chr(ord("A") + len(options) - 1) if options else "Z"
    text = _normal(answer)
    same = [number for number, option in enumerate(options) if _option(option) == text]
    if same and not re.fullmatch(f"[a-{last.lower()}]", text):
        return index in same
    given = letter(answer, last)
    if given is not None:
        return given == right
    return 0 <= index < len(options) and text == f"{right.casefold()} {_option(options[index])}"


def equal_text(answer: str, gold: str) -> bool:
    """Equality without regard to case, white space, commas, a full stop, quotes and brackets.

    A right answer of one word may be followed by a reason, after a comma or "because". A part of
    an answer never counts as the answer.
    """
    if _BRACKETS.fullmatch(gold):
        return re.sub(r"\s", "", plain(answer)).rstrip(".") == re.sub(r"\s", "", gold)
    given, right = _normal(answer), _normal(gold)
    if given == right:
        return True
    first = re.match(r"(\w+)(?:[;:]|,(?! \w+(?:,|$))|\s+(?:because|since|as)\b)", plain(answer))
    return first is not None and first[1].casefold() == right


def _normal(text: str) -> str:
    text = re.sub(r"^[-•]\s+", "", plain(text)).casefold().strip("$").rstrip(".。 ")
    while len(text) > 2 and _PAIRS.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip().rstrip(".。 ")
    return " ".join(re.sub(r"[,，;](?!\d)", " ", text).split())


def _option(text: str) -> str:
    """An option as it is compared: some data sets leave a quote behind its end."""
    return _normal(text[:-1] if text.count('"') == 1 and text.endswith('"') else text)


def _bare(latex: str) -> str:
    """LaTeX as it is compared before its meaning is."""
    return re.sub(r"[\s$]", "", plain(latex)).rstrip(".").replace("dfrac", "frac")
