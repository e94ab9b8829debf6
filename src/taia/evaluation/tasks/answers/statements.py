"""Where a response states an answer, and what it states."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

#: Opens a box, closed or not.
BOX: Final = re.compile(r"\\f?box(?:ed)?(?=[\s{])\s*")
_MARKS: Final = r"[*_\s]*"
_WHICH: Final = r"(?:(?:final|correct|right|best|only|true|appropriate|likely|most|suitable)\s+)"
# What announces an answer, and the answer: up to a full stop before white space or the end, so
# that "3.14" stays whole.
_END: Final = r"(?=(?:\.|(?<!\\)!)(?:[\s*\"”')]|$)|[。！]|\n|<|$)"
_ANNOUNCED: Final = re.compile(
    rf"(?:\b(?:the|my|our|your)\s+{_WHICH}*(?:answer|solution|result|letter)"
    rf"(?:\s+(?:to|for)\s[^.:\n]{{1,60}}?)?\s+(?:is|are|would be|should be|must be|has to be"
    rf"|will be)\b"
    rf"|\b(?:the|my|our|your)\s+{_WHICH}+(?:options?|choices?|statement|one)\s+"
    rf"(?:is|are|would be|should be|must be|has to be|will be)\b"
    rf"|\b(?:final\s+|correct\s+|right\s+|best\s+)*(?:answer|(?:correct|right"
    rf"|best)\s+(?:option|choice)|letter){_MARKS}[:：]|\bcorrect{_MARKS}[:：]"
    rf"|\bthe\s+sorted\s+(?:list|words?|order)\b[^:\n]{{0,30}}:"
    r"|\bi(?:\s+would|\s+will|'d|'ll|’d|’ll)?\s+(?:choose|pick|select|go\s+with|go\s+for)\b"
    r"|答案(?:选项?|不是[^，,。；\n]*[，,；]\s*(?:而|应|应该)?[是为])?\s*(?:应该?)?(?:[是为选]"
    r"|[:：])"
    r"|(?:正确|最佳)(?:的)?(?:选项|选择)\s*(?:应该?)?(?:[是为]|[:：])|选项[为是]"
    r"|(?:方程的)?解[为是][:：]?|(?<![\w回])答[:：]|[【\[]\s*答案\s*[】\]]|####|<answer>)"
    rf"{_MARKS}[:：]?[^\S\n]*(?:\n\s*)?(?P<answer>.*?){_END}",
    re.IGNORECASE,
)
_CHOSEN: Final = re.compile(
    r"(?<!不)(?<!别)选(?:择"
    r"|项)?\s*[:：]?\s*(?P<answer>[“\"（(【]?[A-ZＡ-Ｚ](?![A-Za-z不错])[”\")）】]?)(?![^，。,\n]{0,4}(?:错|不))"
    r"|(?:^|(?<=[\s,，。：:]))(?P<a>[（(]?[A-ZＡ-Ｚ][)）]?)(?:\s?选?项)?(?:是|才是|为)?(?:正确"
    r"|对的|最合适)"
    r"|(?<![\w'’])(?P<b>[(\[]?[A-Z][)\]]?)\s+(?:is|would be|must be)\s+"
    r"(?:the\s+)?(?:correct|right|best|answer)(?!\s*\?)"
)
#: Before an announcement: then it announces nothing.
_NOT_MEANT: Final = re.compile(
    r"(?:\b(?:people|some|many|others|most|students?)\b[^.;\n]{0,30}\b(?:think|say|believe"
    r"|claim)s?\b"
    r"|\b(?:if|whether|unless|suppose|supposing|assume|assuming|why|unsure|doubt|claims?|wrong"
    r"|were)\b"
    r"|(?:\bnot|n['’]t|\bcannot)\b[^.,;\n]*\b(?:sure|certain|say|think|believe|know|mean)\b"
    r"|如果|假如|若|是否|不确定|难道|不认为|不觉得)[^.,;，。；\n]{0,30}$",
    re.IGNORECASE,
)
_BARE: Final = re.compile(r"[^\s{}$.,]+")
_BRACE: Final = re.compile(r"[{}]")
_NOT_CHOSEN: Final = re.compile(
    r"(?:\b(?:or|and|nor|neither|not)|[&/或和]|[不别勿][应能该会可要]*该?|排除|难道)\s*$",
    re.IGNORECASE,
)
#: Between two boxes that are answers both.
_BESIDE: Final = re.compile(r"[}$\\)\s]*(?:,|、|or|and|或者?|和)[^.\n\w]{0,8}", re.IGNORECASE)
_NO_ANSWER: Final = re.compile(
    r"(?:\{?\s*(?:answer|答案)\s*\}?|(?:as follows|below|above|here|correct|right|wrong"
    r"|incorrect|obvious|clear|unknown"
    r"|unclear|simple|正确|错误|如下|显然)[的]?)?[\s.:：]*",
    re.IGNORECASE,
)
#: "not B but C", "B, not C", "isn't B; it's C": what is denied.
_DENIED: Final = re.compile(
    r"(?:^|(?<=[,;:—–]))\s*(?:(?:it|this|that|the answer)\s*(?:is|['’]s)?\s*)?(?:definitely\s+"
    r"|certainly\s+|and\s+)*"
    r"(?:not|isn['’]t|is not|neither|never|rather than|instead of)\b.*?(?=[,;:]?\s*\b(?:but"
    r"|rather|it['’]s|it is)\b|[,;]|$)"
    r"|\s+(?:rather than|instead of)\b[^,;.]*"
    r"|(?:^|(?<=[，,；;：:]))\s*(?:答案)?(?:而)?(?:并?不是|并非|不选"
    r"|不应该?[是选])[^，,；;。]*?(?=[，,；;。]|$)",
    re.IGNORECASE,
)


def boxed(text: str) -> Iterator[str]:
    r"""What each ``\boxed{…}`` or ``\fbox{…}`` of a text holds, without white space around it.

    Braces inside are counted. ``\boxed 5`` holds ``5``; a box that is never closed is none.
    """
    return (held for _, held in _boxes(text))


def _boxes(text: str) -> Iterator[tuple[int, str]]:
    closed = _closed(text)
    for match in BOX.finditer(text):
        start = match.end()
        if start in closed:
            yield match.start(), text[start + 1 : closed[start]].strip()
        elif bare := _BARE.match(text, start):
            yield match.start(), bare.group()


def _closed(text: str) -> dict[int, int]:
    """Where each brace that is opened is closed, found in one pass; escaped ones are none."""
    found, opened = {}, []
    for brace in _BRACE.finditer(text):
        at = brace.start()
        if text[at - 1 : at] == "\\" and text[at - 2 : at] != "\\\\":
            continue
        if brace.group() == "{":
            opened.append(at)
        elif opened:
            found[opened.pop()] = at
    return found


def statements(
    text: str, option: re.Pattern[str] | None, options: Sequence[str]
) -> Iterator[tuple[int, str]]:
    """Where each answer is stated, and what it is; nothing, where it is denied or none."""
    boxes = [(start, held) for start, held in _boxes(text) if held]
    for place, (start, held) in enumerate(boxes):
        before = boxes[place - 1] if place else None
        if before and _BESIDE.fullmatch(text[before[0] : start].partition(before[1])[2]):
            held = f"{before[1]} or {held}"
        yield start, held
    for match in _ANNOUNCED.finditer(text):
        whole = option.match(text, match.start("answer")) if option else None
        end = whole.end() if whole else match.end("answer")
        asked = text[end : end + 1] in "?？" and end < len(text)
        answer = whole.group() if whole else _with_its_text(match, options)
        answer = answer.strip().strip("*").strip()
        asked = asked or answer.endswith(("?", "？", "吗"))
        if BOX.search(answer):
            continue
        meant = not asked and not _NOT_MEANT.search(_before(text, match.start()))
        said = answer if whole else affirmed(answer)
        yield match.start("answer"), said if meant and not _NO_ANSWER.fullmatch(said) else ""
    for match in _CHOSEN.finditer(text):
        place = match.start()
        said = match["answer"] or match["a"] or match["b"]
        beside = _NOT_CHOSEN.search(_before(text, place))
        yield place, "" if beside or _NOT_MEANT.search(_before(text, place)) else said.strip()


def _before(text: str, place: int) -> str:
    """The end of a sentence is near enough: all that is before would make long responses slow."""
    return text[max(0, place - 200) : place]


def _with_its_text(match: re.Match[str], options: Sequence[str]) -> str:
    """An announced answer; behind a letter that a full stop follows, the option's text, too."""
    answer = match["answer"]
    if options and re.fullmatch(r"[\s*(（]*[A-Za-z][)）*]*", answer):
        line = match.string[match.end("answer") :].partition("\n")[0]
        return answer + line if line.startswith(".") else answer
    return answer


def affirmed(text: str) -> str:
    """A text without what it denies."""
    said = _DENIED.sub("", text)
    return (
        re.sub(r"^[\s,;，；。.]*(?:but|rather|而是)?\s*|[\s,;，；]+$", "", said)
        if said != text
        else text
    )
