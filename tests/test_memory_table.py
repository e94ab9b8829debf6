"""The tables of docs/distributed.md are what the estimate says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoConfig

import make_memory_table as script
from taia.training.forecast.shape import shape_of

ROOT = Path(__file__).parents[1]


def test_the_tables_are_current():
    program = [sys.executable, ROOT / "scripts" / "make_memory_table.py", "--check"]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_changed_number_is_noticed(tmp_path, monkeypatch):
    changed = tmp_path / "distributed.md"
    changed.write_text(re.sub(r"\| 124\.0 \|", "| 123.0 |", script.PAGE.read_text()))
    monkeypatch.setattr(script, "PAGE", changed)
    monkeypatch.setattr(sys, "argv", ["make_memory_table.py", "--check"])
    assert script.main() == 1
    monkeypatch.setattr(sys, "argv", ["make_memory_table.py"])
    assert script.main() == 0
    monkeypatch.undo()
    assert changed.read_text() == script.PAGE.read_text()


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("SmolLM2-135M", 0.1345),
        ("Qwen1.5-1.8B", 1.8),
        ("LLaMA2-7B", 6.738),
        ("LLaMA3-8B", 8.030),
        ("Qwen1.5-14B", 14.2),
        ("Qwen1.5-32B", 32.5),
        ("LLaMA3-70B", 70.55),
    ],
)
def test_models_have_the_parameters_their_cards_say(name, billions):
    found = sum(script.MODELS[name].parameters().values()) / 1e9
    assert found == pytest.approx(billions, rel=0.03)


def test_the_sizes_of_llama_are_those_transformers_begins_with():
    assert shape_of(AutoConfig.for_model("llama")) == script.MODELS["LLaMA2-7B"]
