"""The code in docs/live.md runs, from its first block to its last."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import tiny_models

TEXT = (Path(__file__).parents[1] / "docs" / "live.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_models.save_llama(tmp_path / "base")
    tiny_models.lora(tiny_models.llama()).save_pretrained(tmp_path / "adapter")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"tokenizer": tiny_models.tokenizer()}
    assert len(BLOCKS) == 6
    for block in BLOCKS:
        exec(block, names)
    assert names["answers"].shape[0] == 3
    assert "filled in another mode" in capsys.readouterr().out
