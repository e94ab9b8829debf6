"""Cards: what is published names models, tells nobody's folders, and means what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taia.checkpoint.compose import compose
from tiny_files import adapter, llama, llama_config, write

NAMES = ["a `b` c", "*a* [b](c)", "<img src=x>", "a\nb", "```\n# x", "~x_y_z", "a|b"]


def made(folder: Path, kind: str) -> str:
    """The card of an output in a folder whose name, and its inputs' names, are given."""
    base = write(folder / "base", llama(), config=llama_config())
    tuned = folder / "tuned"
    if kind == "checkpoint":
        write(tuned, llama(), 1, config=llama_config())
        (tuned / "tokenizer.json").write_text("{}")
    else:
        adapter(tuned)
        config = json.loads((tuned / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = str(folder / "another")
        (tuned / "adapter_config.json").write_text(json.dumps(config))
        (tuned / "README.md").write_text(f"---\ndatasets:\n- {folder}/rows.jsonl\n---\n")
    compose(base, tuned, folder / "out", "taia", merge=kind == "merge")
    return (folder / "out" / "README.md").read_text()


@pytest.mark.parametrize("kind", ["checkpoint", "adapter", "merge"])
def test_no_folder_of_the_machine_is_told(tmp_path: Path, kind: str) -> None:
    card = made(tmp_path, kind)
    assert str(tmp_path) not in card
    assert tmp_path.name not in card
    assert "taia compose base tuned --keep taia" in card
    if kind == "adapter":
        assert 'base_model: "another"' in card
        assert "- rows.jsonl" in card


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["checkpoint", "adapter"])
def test_a_name_means_nothing_in_a_card(tmp_path: Path, kind: str, name: str) -> None:
    base = write(tmp_path / name / "base", llama(), config=llama_config())
    tuned = tmp_path / name / f"of {name}"
    if kind == "checkpoint":
        write(tuned, llama(), 1, config=llama_config())
    else:
        adapter(tuned)
    out = tmp_path / name / name
    compose(base, tuned, out, "taia")
    lines = (out / "README.md").read_text().split("\n")
    assert sum(line.startswith("# ") for line in lines) == 1
    assert sum(line.startswith("---") for line in lines) == 2
    prose = [line for line in lines if line and not line.startswith(("taia compose", "model = "))]
    assert not any(mark in line for line in prose for mark in ("<img", "[b](c)", " *a* ", "`b`"))


def test_a_selection_with_marks_is_code(tmp_path: Path) -> None:
    base = write(tmp_path / "base", llama(), config=llama_config())
    tuned = write(tmp_path / "tuned", llama(), 1, config=llama_config())
    compose(base, tuned, tmp_path / "out", "attention + re:'mlp|`x`|``'")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "``` attention + " in card
    assert "\n````sh" not in card
