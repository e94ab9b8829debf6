"""What docs/data.md shows is what happens."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import chat_templates as ct
import tiny_models
from taia.errors import DataError
from taia.training.data import Source, prepare, preview, read_source
from taia.training.data.containers import SUFFIXES
from taia.training.data.formats import FORMATS
from taia.training.data.mixing import MIXINGS

TEXT = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
_EXAMPLE = re.compile(
    r"^```json (\S+)\n(.*?)\n```\n```text rendered\n(.*?)\n```$", re.MULTILINE | re.DOTALL
)
EXAMPLES = _EXAMPLE.findall(TEXT)


def shown(kind: str) -> str:
    return re.findall(rf"^```text {kind}\n(.*?)\n```$", TEXT, re.MULTILINE | re.DOTALL)[0]


@pytest.mark.parametrize(("name", "row", "rendered"), EXAMPLES)
def test_examples_are_of_their_format_and_render_as_shown(tmp_path, name, row, rendered):
    path = tmp_path / "row.json"
    path.write_text(json.dumps([json.loads(row)]))
    tokenizer = ct.chatting(tiny_models.CHAT, "<|im_end|>")
    ready = prepare([Source(str(path))], tokenizer)
    assert ready.facts.sources[0].format == name
    assert preview(ready, tokenizer, marks=True).plain.rstrip("\n") == rendered


def test_every_format_mixing_and_container_is_shown():
    assert {name for name, *_ in EXAMPLES} == {form.name for form in FORMATS}
    for form in FORMATS:
        keys = re.escape(f"**{form.name}**: ") + ".*".join(rf"\*\*`{key}`\*\*" for key in form.keys)
        assert re.search(keys, TEXT), form.name
    table = re.findall(r"^\| `([\w-]+)` \|", TEXT.partition("| mixing |")[2], re.MULTILINE)
    assert tuple(table) == MIXINGS
    assert all(f"`a{suffix}`" in TEXT for suffix in SUFFIXES)


def test_without_a_template_it_is_as_shown(tmp_path):
    path = tmp_path / "row.json"
    path.write_text(json.dumps([{"question": "Capital of Peru?", "answer": "Lima"}]))
    tokenizer = tiny_models.tokenizer(chat=False)
    ready = prepare([Source(str(path))], tokenizer)
    assert preview(ready, tokenizer, marks=True).plain == shown("plain")


def test_the_error_is_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": "a"}, {"instruction": "a", "output": "b"}, {"output": "b"}]
    Path("rows.json").write_text(json.dumps(rows))
    with pytest.raises(DataError) as caught:
        read_source(Source("rows.json"))
    assert str(caught.value) == shown("error")
