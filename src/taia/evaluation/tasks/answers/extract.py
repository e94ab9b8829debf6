"""The final answer in a response: what the model comes to, after thoughts and corrections."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from taia.evaluation.tasks.answers.choices import choice, normal, one_of, starts_line
from taia.evaluation.tasks.answers.numbers import number
from taia.evaluation.tasks.item import Kind
from taia.evaluation.tasks.spoken import spoken

_BOX: Final = re.compile(r"\\f?box(?:ed)?(?=[\s{])\s*")
_MARKS: Final = r"[*_\s]*"
_WHICH: Final = r"(?:(?:final|correct|right|best|only|true|appropriate|likely|most|suitable)\s+)"
# What announces an answer, and the answer: up to a full stop before white space or the end, so
# that "3.14" stays whole.
_END: Final = r"(?=(?:\.|(?<!\\)!)(?:[\s*\"”')]|$)|[。！]|\n|<|$)"
_ANNOUNCED: Final = re.compile(
    rf"(?:\b(?:the|my|our|your)\s+{_WHICH}*(?:answer|solution|result|letter)"
    rf"(?:\s+(?:to|for)\s[^.:\n]{{1,60}}?)?\s+(?:is|are|would be|should be|must be|has to be|will be)\b"
    rf"|\b(?:the|my|our|your)\s+{_WHICH}+(?:options?|choices?|statement|one)\s+"
    rf"(?:is|are|would be|should be|must be|has to be|will be)\b"
    rf"|\b(?:final\s+|correct\s+|right\s+|best\s+)*(?:answer|(?:correct|right|best)\s+(?:option|choice)|letter){_MARKS}[:：]"
    rf"|\bthe\s+sorted\s+(?:list|words?|order)\b[^:\n]{{0,30}}:"
    r"|\bi(?:\s+would|\s+will|'d|'ll|’d|’ll)?\s+(?:choose|pick|select|go\s+with|go\s+for)\b"
    r"|答案(?:选项?|不是[^，,。；\n]*[，,；]\s*(?:而|应|应该)?[是为])?\s*(?:应该?)?(?:[是为选]|[:：])"
    r"|(?:正确|最佳)(?:的)?(?:选项|选择)\s*(?:应该?)?(?:[是为]|[:：])|选项[为是]"
    r"|(?:方程的)?解[为是][:：]?|(?<![\w回])答[:：]|[【\[]\s*答案\s*[】\]]|####|<answer>)"
    rf"{_MARKS}[:：]?[^\S\n]*(?:\n\s*)?(?P<answer>.*?){_END}",
    re.IGNORECASE,
)
_CHOSEN: Final = re.compile(
    r"(?<!不)(?<!别)选(?:择|项)?\s*[:：]?\s*(?P<answer>[“\"（(【]?[A-ZＡ-Ｚ](?![A-Za-z不错])[”\")）】]?)(?![^，。,\n]{0,4}(?:错|不))"
    r"|(?:^|(?<=[\s,，。：:]))(?P<a>[（(]?[A-ZＡ-Ｚ][)）]?)(?:\s?选?项)?(?:是|才是|为)?(?:正确|对的|最合适)"
    r"|(?<![\w'’])(?P<b>[(\[]?[A-Z][)\]]?)\s+(?:is|would be|must be)\s+"
    r"(?:the\s+)?(?:correct|right|best|answer)(?!\s*\?)"
)
#: Before an announcement: then it announces nothing.
_NOT_MEANT: Final = re.compile(
    r"(?:\b(?:people|some|many|others|most|students?)\b[^.;\n]{0,30}\b(?:think|say|believe|claim)s?\b"
    r"|\b(?:if|whether|unless|suppose|supposing|assume|assuming|why|unsure|doubt|claims?|wrong|were)\b"
    r"|(?:\bnot|n['’]t|\bcannot)\b[^.,;\n]*\b(?:sure|certain|say|think|believe|know|mean)\b"
    r"|如果|假如|若|是否|不确定|难道|不认为|不觉得)[^.,;，。；\n]{0,30}$",
    re.IGNORECASE,
)
_NOT_CHOSEN: Final = re.compile(
    r"(?:\b(?:or|and|nor|neither|not)|[&/或和]|[不别勿][应能该会可要]*该?|排除|难道)\s*$", re.IGNORECASE
)
_HEDGES: Final = re.compile(r"\b(?:if|whether|unless|not|cannot)\b|n['’]t\b|如果|是否|不", re.IGNORECASE)
#: Between two boxes that are answers both.
_BESIDE: Final = re.compile(r"[}$\\)\s]*(?:,|、|or|and|或者?|和)[^.\n\w]{0,8}", re.IGNORECASE)
_NO_ANSWER: Final = re.compile(
    r"(?:\{?\s*(?:answer|答案)\s*\}?|(?:as follows|below|above|here|correct|right|wrong|incorrect|obvious|clear|unknown"
    r"|unclear|simple|正确|错误|如下|显然)[的]?)?[\s.:：]*",
    re.IGNORECASE,
)
_CORRECTION: Final = re.compile(
    r"(?:(?<=[.!?。！？\n;；,，])\s*|[—–]\s*)(?:oh\s+|but\s+|hmm,?\s+|um,?\s+)?(?:wait\b|no,?\s+wait\b|no\b(?=\s*[,.:;!—–-])|actually\b|sorry\b"
    r"|correction\b|scratch that\b|hold on\b|oops\b|my mistake\b|i made (?:a|an) (?:\w+ )?(?:mistake|error)\b|i was wrong\b"
    r"|on second thoughts?\b|let me correct\b|rather,|不对|等等|等一下|更正|抱歉|我错了|错了|哦不|不，)",
    re.IGNORECASE,
)
_RETRACTS: Final = re.compile(
    r"^\W*(?:(?:wait|but|sorry|actually|oh|hmm)\W+)*(?:no\b|不对|错了|我错了)(?!\s*(?:mistake|problem|need))"
    r"|\b(?:that|this|it)(?:'s| is| was)\s+(?:wrong|incorrect|not (?:right|correct|true|the answer))\b|\bi was wrong\b"
    r"|\b(?:made|make) an? (?:\w+ )?(?:mistake|error)\b",
    re.IGNORECASE,
)
_LEAD: Final = re.compile(
    r"^(?:\W*(?:wait|no|actually|sorry|correction|scratch that|hold on|oops|my mistake|oh|hmm|but|rather|so|and|then"
    r"|therefore|thus|hence|on second thoughts?|不对|等等|等一下|更正|抱歉|我错了|错了|哦不|不|所以|因此|故|应该|应)(?:\b|(?=[\W一-鿿])))+\W*",
    re.IGNORECASE,
)
_SO: Final = re.compile(r"^\W*(?:(?:so|then|therefore|thus|hence)\b|所以|因此|故|综上)[\s,，:]*", re.IGNORECASE)
_IT_IS: Final = re.compile(
    r"^(?:it\s+(?:is|should be|must be|would be|was)|it['’]s|that\s+(?:is|would be)|i\s+means?|i\s+meant"
    r"|there\s+(?:are|is)|it\s+has to be|是|为)\s*[:：]?\s*",
    re.IGNORECASE,
)
_SAYS_IT_IS: Final = re.compile(
    r"^[^=]*(?:\b(?:is|are|was|were|be|equals?|has|have|had|costs?|gets?|got|makes?|leaves?|totals?|needs?|reads?|takes?"
    r"|pays?|weighs?|travels?|goes|receives?|earns?|spent|ate|sold|bought|total of)\b"
    r"|是|为|等于|共计?|一共|总共|还剩下?|剩下?|需要?|花了?|有|走了?|读了?|分到?|得到?)"
    r"\s*(?:(?:about|only|a total of|also|now|just|exactly|equal to|left with|still)\s+)*(?=(?:\\?\$|[-−])?\s*(?:\d|\\|[-−+]))",
    re.IGNORECASE,
)
_NUMBER_FIRST: Final = re.compile(
    r"\W*(?:(?:it|there|that|this|so|about|exactly|approximately|only|in total|total|is|are|a|minus|negative|answer|usd|[a-z]\s*="
    r"|s|约|大约|一?共|总共|是|为|负|共计)\W*)*(?:\d|\\|$|[一二三四五六七八九十百千万两零半]"
    r"|(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|\w+ty|half|zero|a)\b)",
    re.IGNORECASE,
)
#: "not B but C", "B, not C", "isn't B; it's C": what is denied.
_DENIED: Final = re.compile(
    r"(?:^|(?<=[,;:—–]))\s*(?:(?:it|this|that|the answer)\s*(?:is|['’]s)?\s*)?(?:definitely\s+|certainly\s+|and\s+)*"
    r"(?:not|isn['’]t|is not|neither|never|rather than|instead of)\b.*?(?=[,;:]?\s*\b(?:but|rather|it['’]s|it is)\b|[,;]|$)"
    r"|\s+(?:rather than|instead of)\b[^,;.]*"
    r"|(?:^|(?<=[，,；;：:]))\s*(?:答案)?(?:而)?(?:并?不是|并非|不选|不应该?[是选])[^，,；;。]*?(?=[，,；;。]|$)",
    re.IGNORECASE,
)
_ONE_SENTENCE: Final = re.compile(
    r"(?:[A-Za-z]\.\s)?(?:[^.!?。！？\n]|[.](?=\S))*(?:[.!。！]+[*\"”’'`)\]}]*)?"
)
_CONCLUDES: Final = re.compile(
    r"^\W*(?:so|therefore|thus|hence|in total|in conclusion|altogether|finally|consequently|所以|因此|故|因而|综上|一共|总共|共|答)"
    r"(?:\b|(?=[\W一-鿿]))",
    re.IGNORECASE,
)
_SENTENCES: Final = re.compile(r"(?:[^.!?。！？\n]|\.(?=\w))+[.!?。！？]*")
_ENUMERATED: Final = re.compile(r"^\s*(?:\d+[.)、]|[-*•])\s+(.*)$")
_CODE: Final = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_EDGES: Final = re.compile(r"^[\s>#*_`]+|[\s*_`]+$")


def final_answer(
    response: str, options: Sequence[str] = (), kind: Kind | None = None
) -> str | None:
    r"""The answer a response comes to.

    Thoughts (``<think>``) are no part of it. It is what the last statement of an answer states: the
    last ``\boxed{…}`` that holds something, or what follows "The answer is", "Answer:", "I choose",
    答案是, 选 and their like, up to the end of its sentence. After a correction ("Wait, …", 不对)
    only what comes then counts. A question, a condition ("if the answer is B"), what is denied ("not
    B") and a placeholder (``{answer}``) state nothing.

    Without a statement, a response of a single sentence is its own answer; of a longer one, the first
    line or sentence that is nothing but an answer, else a last sentence that concludes ("So she has
    12"). An option's whole text is one answer, whatever full stops and line breaks are in it.

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
    found = sorted(_statements(text, option, options))
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
    if not found and not _BOX.search(text) and _ONE_SENTENCE.fullmatch(whole):
        if kind == "text":
            return _SO.sub("", _affirmed(whole) or whole)
        return _stated(_affirmed(whole), kind) or None
    return _bare(text, options, kind) or _conclusion(text, kind)


def boxed(text: str) -> Iterator[str]:
    r"""What each ``\boxed{…}`` or ``\fbox{…}`` of a text holds, without white space around it.

    Braces inside are counted. ``\boxed 5`` holds ``5``; a box that is never closed is none.
    """
    return (held for _, held in _boxes(text))


def _boxes(text: str) -> Iterator[tuple[int, str]]:
    for match in _BOX.finditer(text):
        start = match.end()
        if not text.startswith("{", start):
            bare = re.match(r"[^\s{}$.,]+", text[start:])
            if bare:
                yield match.start(), bare.group()
            continue
        depth = 0
        for end in range(start, len(text)):
            escaped = text[end - 1] == "\\" and text[end - 2 : end] != "\\\\"
            depth += 0 if escaped else {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                yield match.start(), text[start + 1 : end].strip()
                break


def _statements(
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
        if _BOX.search(answer):
            continue
        meant = not asked and not _NOT_MEANT.search(text[: match.start()])
        said = answer if whole else _affirmed(answer)
        yield match.start("answer"), said if meant and not _NO_ANSWER.fullmatch(said) else ""
    for match in _CHOSEN.finditer(text):
        place = match.start()
        said = match["answer"] or match["a"] or match["b"]
        beside = _NOT_CHOSEN.search(text[:place])
        yield place, "" if beside or _NOT_MEANT.search(text[:place]) else said.strip()


def _with_its_text(match: re.Match[str], options: Sequence[str]) -> str:
    """An announced answer; behind a letter that a full stop follows, the option's text, too."""
    answer = match["answer"]
    if options and re.fullmatch(r"[\s*(（]*[A-Za-z][)）*]*", answer):
        line = match.string[match.end("answer") :].partition("\n")[0]
        return answer + line if line.startswith(".") else answer
    return answer


def _corrected(text: str) -> int | None:
    """Where the last correction begins."""
    found = list(_CORRECTION.finditer(text))
    return found[-1].end() - len(found[-1].group().lstrip()) if found else None


def _affirmed(text: str) -> str:
    """A text without what it denies."""
    said = _DENIED.sub("", text)
    return re.sub(r"^[\s,;，；。.]*(?:but|rather|而是)?\s*|[\s,;，；]+$", "", said) if said != text else text


def _reading(text: str, options: Sequence[str], kind: Kind | None) -> str | None:
    """Of a correction's sentences, the last that is an answer."""
    read = None
    for sentence in _SENTENCES.findall(text):
        said = _affirmed(_LEAD.sub("", sentence).strip())
        if said and not said.endswith(("?", "？")) and _is_answer(said, options, kind):
            read = said
    return read


def _bare(text: str, options: Sequence[str], kind: Kind | None) -> str | None:
    """The one line or first sentence that is nothing but an answer."""
    lines = [_EDGES.sub("", line) for line in _CODE.sub("", text).splitlines()]
    lines = [line for line in lines if line]
    items = [match[1] for line in lines if (match := _ENUMERATED.match(line))]
    if kind == "text" and len(lines) > 1 and len(items) == len(lines):
        return " ".join(items)
    if len({mark for line in lines if (mark := starts_line(line))}) > 1:
        return None  # the options, listed
    first = next((part.strip() for part in _SENTENCES.findall(lines[0])), "") if lines else ""
    tried = [*(lines if len(lines) > 1 else []), *([] if lines and starts_line(lines[0]) else [first])]
    answers = [
        line for place, line in enumerate(tried)
        if not line.endswith(("?", "？")) and _is_bare(line, options, kind, place > 0)
    ]  # fmt: skip
    readings = {_value(line, options, kind) for line in answers}
    return answers[0] if len(readings) == 1 else None


def _conclusion(text: str, kind: Kind | None) -> str | None:
    sentences = [part.strip() for part in _SENTENCES.findall(text) if part.strip()]
    last = sentences[-1] if sentences else ""
    equation = kind == "number" and re.fullmatch(r"[^=]*=[^=]*\d[^=]*", last)
    if not kind or last.endswith(("?", "？")) or not (_CONCLUDES.match(last) or equation):
        return None
    return _stated(_affirmed(_SO.sub("", last)), kind) or None


def _stated(sentence: str, kind: Kind | None) -> str:
    """What a sentence of mathematics says that something is: "2^10 is 1024"."""
    if kind not in ("math", "number") or _HEDGES.search(sentence):
        return sentence
    said = _SAYS_IT_IS.sub("", sentence)
    return said if re.search(r"\w", said) else sentence


def _is_answer(text: str, options: Sequence[str], kind: Kind | None) -> bool:
    return _is_bare(text, options, kind) or _is_bare(_IT_IS.sub("", text), options, kind)


def _is_bare(text: str, options: Sequence[str], kind: Kind | None, strict: bool = False) -> bool:
    """Whether a text is an answer and hardly anything else."""
    if kind == "option":
        if strict and len(re.findall(r"\w+", text)) > 2 and normal(text) not in map(normal, options):
            return starts_line(text) is not None and choice(text, options) is not None
        return len(text) < 200 and choice(text, options) is not None
    if kind in ("number", "math"):
        words = re.findall(r"[\u3400-\u9fff]|[a-zA-Z]{2,}", text)
        derived = "=" in re.sub(r"^\s*\$?[a-zA-Z]\s*=", "", text) or _ENUMERATED.match(text)
        begins = _NUMBER_FIRST.match(text) is not None
        return begins and number(text) is not None and len(words) <= 4 and not derived
    return kind == "text" and re.fullmatch(r"[\"'“*(]*\w+[\"'”*).!。]*", text) is not None


def _value(text: str, options: Sequence[str], kind: Kind | None) -> object:
    if kind == "option":
        return choice(text, options)
    return number(text) if kind in ("number", "math") else normal(text)
