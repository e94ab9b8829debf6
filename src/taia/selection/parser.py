"""From text to a selection's tree, by recursive descent.

::

    sum     = term { ("+" | "-") term }
    term    = number "*" term | part [ "*" number ]
    part    = atom { "[" range [ "," range ] "]" }
    atom    = name [ "." name ] | pattern | "(" sum ")"
    pattern = "re:" ( '"' regex '"' | "'" regex "'" | regex )
    range   = integer | [ integer ] ":" [ integer ] [ ":" [ integer ] ]
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple, NoReturn

from taia.errors import SelectionError
from taia.selection.modes import MODES
from taia.selection.tree import Name, Node, Pattern, Range, Scaled, Sliced, Sum, Term, height

_HYPHENATED = "|".join(re.escape(m) for m in sorted(MODES, key=len, reverse=True) if "-" in m)
_TOKEN = re.compile(
    rf"""\s*(?:
      (?P<pattern>re:(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"']+|))
    | (?P<name>(?:{_HYPHENATED})(?!\w)|[^\W\d]\w*)
    | (?P<number>(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<mark>[-+*()\[\]:,.])
    )""",
    re.VERBOSE | re.DOTALL,
)
_AMBIGUOUS = re.compile(r"[-+*()\[\],]")  # regular expressions and selections both use these
_ESCAPED_OR_QUOTE = re.compile(r'(\\.)|"', re.DOTALL)
_QUOTE = """put it in quotes: 're:"down_proj.*weight"' finds it anywhere in a tensor's name"""
_EXAMPLE = 'write it like "attention + 0.5*mlp", "all - mlp[20:]" or a mode: ' + ", ".join(MODES)

_DEEPEST = 50  # far below Python's own limit, wherever the caller stands
_MOST_DIGITS = 9
_TOO_DEEP = f"more than {_DEEPEST} brackets, factors or slices one inside the other"


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse(text: str) -> Node:
    """Reads a selection.

    Raises:
        SelectionError: If it cannot be read; the message points at the character.
    """
    return _Parser(text).parse()


def fail(text: str, at: int, problem: str, mend: str = _EXAMPLE) -> NoReturn:
    """Raises an error that points at a character of a selection."""
    line = "".join(c if c.isprintable() else " " for c in text)  # one column for each character
    raise SelectionError(f"selection, character {at + 1}: {problem}\n  {line}\n  {' ' * at}^", mend)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._read()
        self.next = 0
        self.depth = 0

    def _read(self) -> list[_Token]:
        tokens, at = [], 0
        end = len(self.text.rstrip())
        while at < end:
            match = _TOKEN.match(self.text, at)
            if match is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                if self.text[at] in "\"'":
                    fail(self.text, at, "a quote that does not close, or follows no 're:'", _QUOTE)
                fail(self.text, at, f"{self.text[at]!r} has no meaning here")
            kind = str(match.lastgroup)
            tokens.append(_Token(kind, match.group().strip(), match.end() - len(match[kind])))
            at = match.end()
        tokens.append(_Token("end", "the end", end))
        return tokens

    def parse(self) -> Node:
        if len(self.tokens) == 1:
            fail(self.text, 0, "the selection is empty")
        node = self._sum()
        if self._now.kind != "end":
            self._unexpected("'+', '-' or the end")
        if height(node) > _DEEPEST:
            fail(self.text, 0, _TOO_DEEP)
        return node

    @property
    def _now(self) -> _Token:
        return self.tokens[self.next]

    def _take(self, *marks: str) -> _Token | None:
        token = self._now
        if token.kind == "mark" and token.text in marks:
            self.next += 1
            return token
        return None

    def _unexpected(self, wanted: str) -> NoReturn:
        token = self._now
        found = token.text if token.kind == "end" else repr(token.text)
        fail(self.text, token.at, f"expected {wanted}, found {found}")

    def _sum(self) -> Node:
        first = self._term()
        rest: list[Term] = []
        while mark := self._take("+", "-"):
            rest.append(Term("+" if mark.text == "+" else "-", self._term()))
        if isinstance(first, Sum):
            return Sum(first.first, (*first.rest, *rest))
        return Sum(first, tuple(rest)) if rest else first

    def _term(self) -> Node:
        self.depth += 1
        if self.depth > _DEEPEST + 1:
            fail(self.text, self._now.at, _TOO_DEEP)
        node = self._scaled()
        self.depth -= 1
        return node

    def _scaled(self) -> Node:
        if self._now.kind == "number":
            factor = self._number()
            if not self._take("*"):
                self._unexpected("'*' after a number")
            return Scaled(factor, self._term())
        node = self._part()
        if self._take("*"):
            if self._now.kind != "number":
                self._unexpected("a number after '*'")
            node = Scaled(self._number(), node)
        return node

    def _number(self) -> float:
        token = self._now
        self.next += 1
        value = float(token.text)
        if not math.isfinite(value):
            fail(self.text, token.at, f"{token.text} is too large a number")
        return value

    def _part(self) -> Node:
        node = self._atom()
        while mark := self._take("["):
            layers, heads = self._range(), None
            if self._take(","):
                heads = self._range()
            if not self._take("]"):
                self._unexpected("']'")
            node = Sliced(node, layers, heads, at=mark.at)
        return node

    def _atom(self) -> Node:
        token = self._now
        if self._take("("):
            node = self._sum()
            if not self._take(")"):
                self._unexpected("')'")
            return node
        if token.kind == "pattern":
            self.next += 1
            return self._pattern(token)
        if token.kind != "name":
            self._unexpected("a component, a projection or a mode")
        self.next += 1
        if not self._take("."):
            return Name(token.text, at=token.at)
        inner = self._now
        if inner.kind != "name":
            self._unexpected("a projection after '.'")
        self.next += 1
        return Name(inner.text, within=token.text, at=token.at)

    def _pattern(self, token: _Token) -> Pattern:
        body = token.text[len("re:") :]
        if not body:
            fail(self.text, token.at, "no regular expression after 're:'", _QUOTE)
        quoted = body[0] in "\"'"
        if not quoted and (mark := _AMBIGUOUS.search(body)):
            at = token.at + len("re:") + mark.start()
            fail(self.text, at, f"{mark[0]!r} in a regular expression without quotes", _QUOTE)
        regex = body[1:-1] if quoted else body
        regex = _ESCAPED_OR_QUOTE.sub(
            lambda m: m[1] or r"\"", regex
        )  # so that it prints as it reads
        try:
            re.compile(regex)
        except (re.error, OverflowError, RecursionError) as error:
            fail(self.text, token.at, f"not a regular expression: {error}", _QUOTE)
        return Pattern(regex, at=token.at)

    def _range(self) -> Range:
        at = self._now.at
        start = self._integer()
        if not self._take(":"):
            if start is None:
                self._unexpected("a layer or a range such as 0:16")
            return Range(start, single=True)
        stop = self._integer()
        step = self._integer() if self._take(":") else None
        if step == 0:
            fail(self.text, at, "a range cannot go in steps of 0")
        return Range(start, stop, step)

    def _integer(self) -> int | None:
        sign = -1 if self._take("-") else 1
        token = self._now
        if token.kind != "number":
            if sign < 0:
                self._unexpected("a whole number after '-'")
            return None
        if not token.text.isdigit():
            self._unexpected("a whole number")
        if len(token.text) > _MOST_DIGITS:
            fail(self.text, token.at, "too large a number")
        self.next += 1
        return sign * int(token.text)
