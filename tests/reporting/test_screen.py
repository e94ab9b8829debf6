"""One screen for all output: data is never markup, and steers no terminal."""

import ast
import io
import sys
import unicodedata
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

import taia
from taia.reporting.progress import watched
from taia.reporting.screen import Screen, Text, status

HOSTILE = [
    "\x1b[31mred",
    "\a\r\b\x9b2J",
    "\u202egnp.exe",
    "[red]x[/red]",
    "out[/x]",
    "[link=http://x]y[/link]",
    ":smile: [bold",
    "\\[x]",
]
SRC = Path(taia.__file__).parent


def table(cell: object, title: object = None, heading: object = "") -> Table:
    made = Table(title=title)
    made.add_column(heading)
    made.add_row(cell)
    return made


WAYS = {
    "a line": lambda words: words,
    "a text": lambda words: Text(words, "bold"),
    "a cell": lambda words: table(words),
    "a text in a cell": lambda words: table(Text(words)),
    "a title": lambda words: table("x", title=words),
    "a heading": lambda words: table("x", heading=words),
    "styles": lambda words: Text("a").append(words, "red").append("b", "dim"),
}


def shown(what: object, terminal: bool = False) -> str:
    out = io.StringIO()
    out.isatty = lambda: terminal  # type: ignore[method-assign]
    with mock.patch.object(sys, "stdout", out), mock.patch.dict("os.environ", COLUMNS="200"):
        Screen().print(what, soft_wrap=True)
    return out.getvalue()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("words", HOSTILE)
def test_it_is_shown_letter_by_letter(way, words):
    letters = ascii(words)[1:-1] if not words.isprintable() else words
    assert letters in shown(WAYS[way](words))


@given(st.text(st.characters()), st.sampled_from(sorted(WAYS)))
def test_nothing_steers(words, way):
    kinds = {unicodedata.category(c) for c in shown(WAYS[way](words)) if c != "\n"}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_styles_are_still_drawn():
    with mock.patch.dict("os.environ", {"TERM": "xterm", "FORCE_COLOR": "1", "NO_COLOR": ""}):
        drawn = shown(Text("a\x1b").append("b", "bold"), terminal=True)
    assert "a\\x1b\x1b[1mb" in drawn


@pytest.mark.parametrize("words", HOSTILE)
def test_progress_shows_it_too(words):
    out = io.StringIO()
    with mock.patch.object(sys, "stderr", out):
        with watched(Screen(stderr=True)) as watch:
            watch(words, 0, None)
        with status(words) as say:
            say(words)
    letters = ascii(words)[1:-1] if not words.isprintable() else words
    assert letters in out.getvalue()
    assert "\x1b[31m" not in out.getvalue()


def calls(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_no_other_console_is_made():
    for path in SRC.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        found = calls(ast.parse(source))
        assert "from rich.text import" not in source or "training" in path.parts, path
        assert "Console" not in found, path
        assert "Text.from_markup" not in found, path
        assert "typer.echo" not in found or path.name == "app.py", path


@pytest.mark.parametrize("columns", ["0", "1", "7", "39"])
def test_a_screen_of_no_width_loses_no_word(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    screen = Screen()
    with screen.capture() as shown:
        screen.print("attention and mlp")
        screen.print(table("embedding"))
    assert {"attention", "mlp", "embedding"} <= set(shown.get().replace("│", " ").split())
