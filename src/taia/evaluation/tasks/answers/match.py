"""Whether an answer equals the right one, as what it is: mathematics, number, option or text."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any, Final

from taia.errors import InputError
from taia.evaluation.tasks.answers.choices import bare, choice, normal, plain
from taia.evaluation.tasks.answers.extract import final_answer
from taia.evaluation.tasks.answers.numbers import number
from taia.evaluation.tasks.task import Item

_BRACKETS: Final = re.compile(r"[\s()\[\]{}<>]+")
#: "The argument is valid": of a sentence that denies nothing, what it says.
_SAYS: Final = re.compile(
    r"(?:so |thus |therefore )?(?:the|this) (?!.*(?:\b(?:not|no|never|or|and|if)\b"
    r"|n['’]t)).*\b(?:(?:is|are) (\w+)|(?:is|are): ?(.+))"
)
_SECONDS: Final = 5
#: Chinese says yes and no in several words.
_MEANS: Final = {"是": "yes", "是的": "yes", "对": "yes", "否": "no", "不是": "no", "不": "no"}
_AMOUNT: Final = re.compile(
    r"\\?[$€£¥]?\s*[-−–]?\s*\\?[$€£¥]?[\d.,]*\d\s*(?:\\?%|°"
    r"|(?:[^\W\d_]{2,}\.?(?:\s+[^\W\d_]{2,}){0,2}|元|个)?)"
    r"|[-−–]?\s*\\[dt]?frac\s*(?:\{\s*\d+\s*\}|\d)\s*(?:\{\s*\d+\s*\}|\d)|[-−–]?\d+\s*/\s*\d+"
    r"|(?:(?:minus|negative)\s+)?[a-z]{3,}(?:[\s-][a-z]+){0,5}"
    r"|[一二三四五六七八九十百千万两零]+\w?",
    re.IGNORECASE,
)


def is_right(item: Item, response: str) -> bool:
    """Whether a response answers an item rightly.

    Args:
        item: What was asked.
        response: All that the model wrote; of a two-stage answer, both stages joined.

    Raises:
        InputError: If the item is mathematics and math-verify is not installed.
    """
    answer = final_answer(response, item.options, item.kind) or ""
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
    amount = _amount(gold)
    if amount is not None and _amount(answer) is not None:
        return _amount(answer) == amount
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

    :func:`taia.evaluation.tasks.answers.choices.choice` says which option is chosen.

    Args:
        answer: An answer's text.
        gold: The right letter, with or without brackets.
        options: The options' texts, in the order of their letters; if not given, letters only.
    """
    return choice(answer, options) == ord(gold.strip("()").upper()) - ord("A")


def equal_text(answer: str, gold: str) -> bool:
    """Equality without regard to case, white space, commas, a full stop, quotes and brackets.

    A right answer of one word may be followed by a reason, after a comma or "because". A part of
    an answer never counts as the answer.
    """
    if _BRACKETS.fullmatch(gold):
        return re.sub(r"\s", "", plain(answer)).rstrip(".") == re.sub(r"\s", "", gold)
    right = normal(gold)
    given = normal(answer)
    if given == right or _same_word(given, right):
        return True
    first = re.match(
        r"(\w+)(?:[;:，。；]|,(?! \w+(?:,|$))|\s+(?:because|since|as)\b|\s*[—–]|\s+-\s|\.\s)",
        bare(plain(answer)),
    )
    if first is not None:
        return _same_word(first[1].casefold(), right)
    says = _SAYS.fullmatch(given)
    return says is not None and right in says.groups()


def _same_word(given: str, right: str) -> bool:
    return given == right or _MEANS.get(given, given) == _MEANS.get(right, right) != right


def _amount(text: str) -> float | None:
    """A number with at most its name before and its unit behind: ``x = 4``, ``18.90 dollars``."""
    text = bare(plain(text).strip("$"))
    text = re.sub(r"^(?:it is|it's|[a-zA-Z]\s*=|解[为是]|是)\s*[a-zA-Z]?\s*=?\s*", "", text)
    return number(text) if _AMOUNT.fullmatch(text) else None


def _bare(latex: str) -> str:
    """LaTeX as it is compared before its meaning is."""
    return re.sub(r"[\s$]", "", plain(latex)).rstrip(".").replace("dfrac", "frac")
