"""Whatever a tokenizer's files hold: a tokenizer, or two lines that name the folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny_models
from taia.checkpoint.locate import locate
from taia.errors import CheckpointError
from taia.loading.tokenizers import load_tokenizer

DAMAGES: dict[str, tuple[str, Callable[[str], str]]] = {
    "no object": ("tokenizer_config.json", lambda _: "[]"),
    "a class that is a list": ("tokenizer_config.json", lambda _: '{"tokenizer_class": ["a"]}'),
    "ids beyond 32 bits": ("tokenizer.json", lambda s: s.replace('"id": 256', '"id": 5000000000')),
    "merges of no tokens": (
        "tokenizer.json",
        lambda s: s.replace('"merges": []', '"merges": [["x", "y"]]'),
    ),
    "no JSON": ("tokenizer.json", lambda _: "\x00"),
    "deep JSON": ("tokenizer.json", lambda _: "[" * 100_000),
    "no model": ("tokenizer.json", lambda s: json.dumps({**json.loads(s), "model": 3})),
    "specials that are a list": ("special_tokens_map.json", lambda _: "[1]"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_llama(tmp_path_factory.mktemp("tokenizers") / "whole")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_tokenizer_is_bad_input(whole, tmp_path, damage):
    folder = tmp_path / "damaged"
    shutil.copytree(whole, folder)
    name, change = DAMAGES[damage]
    file = folder / name
    before = file.read_text() if file.exists() else ""
    file.write_text(change(before))
    assert file.read_text() != before
    with pytest.raises(CheckpointError, match=r"The tokenizer of .*damaged cannot be read"):
        load_tokenizer(locate(folder))


def test_the_control_loads(whole):
    assert load_tokenizer(locate(whole))("hello").input_ids
