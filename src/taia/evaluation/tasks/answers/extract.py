"""The final answer in a response: what the model comes to, after thoughts and corrections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from taia.evaluation.tasks.answers.choices import choice, normal, one_of, starts_line
from taia.evaluation.tasks.answers.numbers import number
from taia.evaluation.tasks.answers.statements import BOX, affirmed, statements
from taia.evaluation.tasks.spoken import spoken
from taia.evaluation.tasks.task import AnswerKind

_HEDGES: Final = re.compile(
    r"\b(?:if|whether|unless|not|cannot)\b|n['’]t\b|如果|是否|不", re.IGNORECASE
)
_CORRECTION: Final = re.compile(
    r"(?:(?<=[.!?。！？\n;；,，])\s*|[—–]\s*)(?:oh\s+|but\s+|hmm,?\s+|um,?\s+)?(?:wait\b"
    r"|no,?\s+wait\b|no\b(?=\s*[,.:;!—–-])|actually\b|sorry\b"
    r"|correction\b|scratch that\b|hold on\b|oops\b|my mistake\b|i made (?:a|an) (?:\w+"
    r" )?(?:mistake|error)\b|i was wrong\b"
    r"|on second thoughts?\b|let me correct\b|rather,|不对|等等|等一下|更正|抱歉|我错了|错了"
    r"|哦不|不，)",
    re.IGNORECASE,
)
_RETRACTS: Final = re.compile(
    r"^\W*(?:(?:wait|but|sorry|actually|oh|hmm)\W+)*(?:no\b|不对|错了|我错了)(?!\s*(?:mistake"
    r"|problem|need))"
    r"|\b(?:that|this|it)(?:'s| is| was)\s+(?:wrong|incorrect|not (?:right|correct|true|the"
    r" answer))\b|\bi was wrong\b"
    r"|\b(?:made|make) an? (?:\w+ )?(?:mistake|error)\b",
    re.IGNORECASE,
)
_LEAD: Final = re.compile(
    r"^(?:\W*(?:wait|no|actually|sorry|correction|scratch that|hold on|oops|my mistake|oh|hmm"
    r"|but|rather|so|and|then"
    r"|therefore|thus|hence|on second thoughts?|不对|等等|等一下|更正|抱歉|我错了|错了|哦不|不"
    r"|所以|因此|故|应该|应)(?:\b|(?=[\W一-鿿])))+\W*",
    re.IGNORECASE,
)
_SO: Final = re.compile(
    r"^\W*(?:(?:so|then|therefore|thus|hence)\b|所以|因此|故|综上)[\s,，:]*", re.IGNORECASE
)
_IT_IS: Final = re.compile(
    r"^(?:it\s+(?:is|should be|must be|would be|was)|it['’]s|that\s+(?:is|would be)|i\s+means?"
    r"|i\s+meant"
    r"|there\s+(?:are|is)|it\s+has to be|是|为)\s*[:：]?\s*",
    re.IGNORECASE,
)
_SAYS_IT_IS: Final = re.compile(
    r"^[^=]*(?:\b(?:is|are|was|were|be|equals?|has|have|had|costs?|gets?|got|makes?|leaves?"
    r"|totals?|needs?|reads?|takes?"
    r"|pays?|weighs?|travels?|goes|receives?|earns?|spent|ate|sold|bought|total of)\b"
    r"|是|为|等于|共计?|一共|总共|还剩下?|剩下?|需要?|花了?|有|走了?|读了?|分到?|得到?)"
    r"\s*(?:(?:about|only|a total of|also|now|just|exactly|equal to|left with"
    r"|still)\s+)*(?=(?:\\?\$|[-−])?\s*(?:\d|\\|[-−+]))",
    re.IGNORECASE,
)
_NUMBER_FIRST: Final = re.compile(
    r"\W*(?:(?:it|there|that|this|so|about|exactly|approximately|only|in total|total|is|are|a"
    r"|minus|negative|answer|usd|[a-z]\s*="
    r"|s|约|大约|一?共|总共|是|为|负|共计)\W*)*(?:\d|\\|$|[一二三四五六七八九十百千万两零半]"
    r"|(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|\w+ty|half"
    r"|zero|a)\b)",
    re.IGNORECASE,
)
_ONE_SENTENCE: Final = re.compile(
    r"(?:[A-Za-z]\.\s)?(?:[^.!?。！？\n]|[.](?=\S))*(?:[.!。！]+[*\"”’'`)\]}]*)?"
)
_CONCLUDES: Final = re.compile(
    r"^\W*(?:so|therefore|thus|hence|in total|in conclusion|altogether|finally|consequently"
    r"|所以|因此|故|因而|综上|一共|总共|共|答)"
    r"(?:\b|(?=[\W一-鿿]))",
    re.IGNORECASE,
)
_SENTENCES: Final = re.compile(r"(?:[^.!?。！？\n]|\.(?=\w))+[.!?。！？]*")
_ENUMERATED: Final = re.compile(r"^\s*(?:\d+[.)、]|[-*•])\s+(.*)$")
_CODE: Final = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_EDGES: Final = re.compile(r"^[\s>#*_`]+|[\s*_`]+$")


def final_answer(
    response: str, options: Sequence[str] = (), kind: AnswerKind | None = None
) -> str | None:
    r"""The answer a response comes to.

    Thoughts (``<think>``) are no part of it. It is what the last statement of an answer states: the
    last ``\boxed{…}`` that holds something, or what follows "The answer is", "Answer:", "I choose",
    答案是, 选 and their like, up to the end of its sentence. After a correction ("Wait, …", 不对)
    only what comes then counts. A question, a condition ("if the answer is B"), what is denied
    ("not B") and a placeholder (``{answer}``) state nothing.

    Without a statement, a response of a single sentence is its own answer; of a longer one, the
    first line or sentence that is nothing but an answer, else a last sentence that concludes ("So
    she has 12"). An option's whole text is one answer, whatever full stops and line breaks it has.

    Args:
        response: What the model wrote.
        options: The options' texts, if there are any.
        kind: What an answer is; if not given, any text is one.

    Returns:
        The answer's text, or None if the response comes to none.
    """
    text = spoken(response)
    option = one_of(options)
    whole = _EDGES.sub("", text)
    if option and option.fullmatch(whole):
        return whole
    found = sorted(statements(text, option, options))
    tail = _corrected(text)
    if tail is not None:
        later = [answer for start, answer in found if start >= tail and answer]
        if later:
            return later[-1]
        again = _reading(text[tail:], options, kind)
        if again is not None:
            return again
        if _RETRACTS.search(text[tail:].strip()):
            return None
    answers = [answer for _, answer in found if answer]
    if answers:
        return answers[-1]
    if not found and not BOX.search(text) and _ONE_SENTENCE.fullmatch(whole):
        if kind == "text":
            return _SO.sub("", affirmed(whole) or whole)
        return _stated(affirmed(whole), kind) or None
    return _bare(text, options, kind) or _conclusion(text, kind)


def _corrected(text: str) -> int | None:
    """Where the last correction begins."""
    found = list(_CORRECTION.finditer(text))
    return found[-1].end() - len(found[-1].group().lstrip()) if found else None


def _reading(text: str, options: Sequence[str], kind: AnswerKind | None) -> str | None:
    """Of a correction's sentences, the last that is an answer."""
    read = None
    for sentence in _SENTENCES.findall(text):
        said = affirmed(_LEAD.sub("", sentence).strip())
        if said and not said.endswith(("?", "？")) and _is_answer(said, options, kind):
            read = said
    return read


def _bare(text: str, options: Sequence[str], kind: AnswerKind | None) -> str | None:
    """The one line or first sentence that is nothing but an answer."""
    lines = [_EDGES.sub("", line) for line in _CODE.sub("", text).splitlines()]
    lines = [line for line in lines if line]
    items = [match[1] for line in lines if (match := _ENUMERATED.match(line))]
    if kind == "text" and len(lines) > 1 and len(items) == len(lines):
        return " ".join(items)
    if len({mark for line in lines if (mark := starts_line(line))}) > 1:
        return None  # the options, listed
    first = next((part.strip() for part in _SENTENCES.findall(lines[0])), "") if lines else ""
    tried = [
        *(lines if len(lines) > 1 else []),
        *([] if lines and starts_line(lines[0]) else [first]),
    ]
    answers = [
        line for place, line in enumerate(tried)
        if not line.endswith(("?", "？")) and _is_bare(line, options, kind, place > 0)
    ]  # fmt: skip
    readings = {_value(line, options, kind) for line in answers}
    return answers[0] if len(readings) == 1 else None


def _conclusion(text: str, kind: AnswerKind | None) -> str | None:
    sentences = [part.strip() for part in _SENTENCES.findall(text) if part.strip()]
    last = sentences[-1] if sentences else ""
    equation = kind == "number" and re.fullmatch(r"[^=]*=[^=]*\d[^=]*", last)
    if not kind or last.endswith(("?", "？")) or not (_CONCLUDES.match(last) or equation):
        return None
    return _stated(affirmed(_SO.sub("", last)), kind) or None


def _stated(sentence: str, kind: AnswerKind | None) -> str:
    """What a sentence of mathematics says that something is: "2^10 is 1024"."""
    if kind not in ("math", "number") or _HEDGES.search(sentence):
        return sentence
    said = _SAYS_IT_IS.sub("", sentence)
    return said if re.search(r"\w", said) else sentence


def _is_answer(text: str, options: Sequence[str], kind: AnswerKind | None) -> bool:
    return _is_bare(text, options, kind) or _is_bare(_IT_IS.sub("", text), options, kind)


def _is_bare(
    text: str, options: Sequence[str], kind: AnswerKind | None, strict: bool = False
) -> bool:
    """Whether a text is an answer and hardly anything else."""
    if kind == "option":
        if (
            strict
            and len(re.findall(r"\w+", text)) > 2
            and normal(text) not in map(normal, options)
        ):
            return starts_line(text) is not None and choice(text, options) is not None
        return len(text) < 200 and choice(text, options) is not None
    if kind in ("number", "math"):
        words = re.findall(r"[\u3400-\u9fff]|[a-zA-Z]{2,}", text)
        derived = "=" in re.sub(r"^\s*\$?[a-zA-Z]\s*=", "", text) or _ENUMERATED.match(text)
        begins = _NUMBER_FIRST.match(text) is not None
        return begins and number(text) is not None and len(words) <= 4 and not derived
    return kind == "text" and re.fullmatch(r"[\"'“*(]*\w+[\"'”*).!。]*", text) is not None


def _value(text: str, options: Sequence[str], kind: AnswerKind | None) -> object:
    if kind == "option":
        return choice(text, options)
    return number(text) if kind in ("number", "math") else normal(text)
