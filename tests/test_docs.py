"""What docs/selection.md shows is what happens; docs/method.md calls modes by their names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anatomies import gpt2, kept, llama, moe
from taia.errors import SelectionError
from taia.selection import MODES, Selection
from taia.selection import parser as language

DOCS = Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "selection.md").read_text()
MODELS = {"": llama(32), "gpt2": gpt2(), "moe": moe()}
_BLOCK = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MODE_ROW = re.compile(r"^\| `([\w-]+)` \| `([^`]+)` \|", re.MULTILINE)
BLOCKS = _BLOCK.findall(TEXT)

EXAMPLES = [
    (model, *(part.strip() for part in line.partition("  #")[::2]))
    for kind, model, body in BLOCKS
    if kind == "selection"
    for line in body.splitlines()
]
ERRORS = [body.split("\n---\n") for kind, _, body in BLOCKS if kind == "selection-error"]


@pytest.mark.parametrize(("model", "selection", "comment"), EXAMPLES, ids=lambda v: v or "llama")
def test_examples_keep_what_they_say(model: str, selection: str, comment: str) -> None:
    anatomy = MODELS[model]
    count = re.match(r"(\d+) of (\d+) tensors\b", comment)
    assert count is not None, f"say how many tensors it keeps: {comment!r}"
    assert (len(kept(selection, anatomy)), len(anatomy)) == (int(count[1]), int(count[2]))
    assert Selection.parse(str(Selection.parse(selection))) == Selection.parse(selection)


@pytest.mark.parametrize(("selection", "message"), ERRORS)
def test_errors_read_as_shown(selection: str, message: str) -> None:
    with pytest.raises(SelectionError) as caught:
        Selection.parse(selection).alphas(MODELS[""])
    assert str(caught.value) == message.rstrip("\n")


def test_there_is_something_to_test() -> None:
    assert len(EXAMPLES) > 40
    assert len(ERRORS) == 3


def test_every_mode_is_in_the_table() -> None:
    assert dict(_MODE_ROW.findall(TEXT)) == dict(MODES)


def test_the_grammar_shown_is_the_parsers() -> None:
    shown = next(body for kind, _, body in BLOCKS if kind == "text" and body.startswith("sum "))
    documented = (language.__doc__ or "").partition("::\n\n")[2]
    assert [line.strip() for line in documented.strip().splitlines()] == shown.splitlines()


def test_the_method_names_modes_as_they_are() -> None:
    named = dict(_MODE_ROW.findall((DOCS / "method.md").read_text()))
    assert named == {mode: MODES[mode] for mode in ("taia", "taia-qkvo", "taia-strict")}
