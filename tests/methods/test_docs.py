"""docs/methods.md says of every method what its file says, and its examples run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import taia
from cli_runner import inside
from taia.methods import METHODS
from taia.methods.given import STATISTICS
from tiny_files import adapter, llama, llama_config, write

TEXT = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
ROWS = [
    [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in TEXT.splitlines()
    if line.startswith("| `")
]
FIRST = {row[0].strip("`"): row[1:] for row in ROWS if len(row) == 4}
SECOND = {row[0].strip("`"): row[1:] for row in ROWS if len(row) == 5}
EXAMPLES = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
PYTHON = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_both_tables_have_every_method_in_order() -> None:
    assert list(FIRST) == list(SECOND) == list(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_a_row_says_what_the_file_says(name: str) -> None:
    method = METHODS[name]
    values = ", ".join(f"{p.name} = {p.default:g}" for p in method.parameters)
    kind = "with `--merge`" if method.entries else "refused" if method.not_on_adapters else None
    assert FIRST[name] == [method.formula, values, kind or "stays one"]
    source, basis, which, needs = SECOND[name]
    assert (source, basis) == (method.source, method.basis)
    scopes = {"tensors": "all", "matrices": "matrices", "layers": "matrices in layers"}
    assert which.startswith(scopes[method.scope])
    assert which.endswith("; all others are the base's") is (method.elsewhere == 0)
    assert needs == (", ".join(f"`{need}`" for need in method.needs) or "–")


def test_the_statistics_are_described_as_they_are_read() -> None:
    told = {row[0].strip("`"): f"{row[1]}: {row[2]}" for row in ROWS if len(row) == 3}
    assert told.keys() == STATISTICS.keys()
    for name, text in STATISTICS.items():
        assert told[name].startswith(text), name


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page calls base, tuned, adapter, unaligned and rows."""
    for seed, name in enumerate(("base", "tuned", "unaligned")):
        write(tmp_path / name, llama(), seed, config=llama_config())
    adapter(tmp_path / "adapter")
    found = {}
    for name, (_, shape) in llama().items():
        if ".layers." in name and len(shape) == 2:
            found[f"{name}.inputs"] = np.eye(shape[1], dtype=np.float32)
            found[f"{name}.sensitivity"] = np.ones(2, np.float32)
    (tmp_path / "rows").mkdir()
    save_file(found, tmp_path / "rows" / "all.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_run(folders: Path, line: str) -> None:
    command, *words = shlex.split(line)
    assert command == "taia"
    inside(*words)
    assert (folders / words[-1] / "taia_config.json").exists()


def test_there_is_an_example_of_each() -> None:
    assert all(any(f"--method {name}" in line for line in EXAMPLES) for name in METHODS)
    assert len(PYTHON) == 1


def test_the_python_example_runs(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(PYTHON[0], {"taia": taia})
    assert capsys.readouterr().out.startswith("magnitude:keep=0.2 (")
