"""Python's users without an extra get the two lines that the command line prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tiny_files

#: Runs a call without some packages, or with ones that are installed and cannot be imported.
CALLER = """
import json, sys, traceback
name, how, call, folder = sys.argv[1:]
class Finder:
    def find_spec(self, module, path, target=None):
        if module.partition(".")[0] != name:
            return None
        if how == "missing":
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        raise ImportError(f"cannot import name 'Moved' from {module!r}", name=module)
sys.meta_path.insert(0, Finder())
from pathlib import Path
import taia
at = Path(folder)
base, tuned, adapter, out = (at / x for x in ("base", "tuned", "adapter", "out"))
try:
    exec(call)
except taia.TaiaError as error:
    told = [type(error).__name__, error.problem, error.mend, error.exit_code]
except BaseException as error:
    told = [type(error).__name__, str(error), traceback.format_exc(), None]
else:
    told = ["done", "", "", 0]
print(json.dumps(told))
"""

CALLS = {
    "live adapter": "taia.SwitchableModel.load(base, adapter)",
    "live checkpoint": "taia.SwitchableModel.load(base, tuned)",
    "wrap": "taia.SwitchableModel.wrap(None)",
    "evaluate": "taia.evaluate(base, tuned, tasks=['lookalikes'], output=out)",
    "export": "from taia.export.run import export; export(adapter, 'vllm', out, base=str(base))",
}

CASES = [
    ("live adapter", "torch", "torch"),
    ("live adapter", "transformers", "torch"),
    ("live adapter", "peft", "export"),
    ("live checkpoint", "transformers", "torch"),
    ("wrap", "torch", "torch"),
    ("evaluate", "lm_eval", "eval"),
    ("evaluate", "torch", "eval"),
    ("evaluate", "jinja2", "eval"),
    ("evaluate", "datasets", "eval"),
    ("export", "peft", "export"),
    ("export", "torch", "export"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    config = tiny_files.llama_config()
    tiny_files.write(place / "base", tiny_files.llama(), config=config)
    tiny_files.write(place / "tuned", tiny_files.llama(), config=config, seed=1)
    tiny_files.adapter(place / "adapter")
    return place


def told(folder: Path, call: str, module: str, how: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CALLER, module, how, CALLS[call], str(folder)],
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    answer: list[str] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize(("call", "module", "extra"), CASES)
def test_a_missing_package_names_the_extra(
    folder: Path, call: str, module: str, extra: str
) -> None:
    kind, problem, mend, code = told(folder, call, module, "missing")
    assert (kind, code) == ("InputError", 2), (problem, mend)
    assert problem == f"{module} is not installed."
    assert mend == f"Install it: pip install 'taia[{extra}]'"
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("call", "module", "extra"),
    [
        ("live adapter", "torch", "torch"),
        ("live checkpoint", "transformers", "torch"),
        ("evaluate", "lm_eval", "eval"),
        ("evaluate", "torch", "eval"),
        ("export", "peft", "export"),
    ],
)
def test_a_package_that_is_there_and_cannot_be_imported_is_named(
    folder: Path, call: str, module: str, extra: str
) -> None:
    kind, problem, mend, _ = told(folder, call, module, "broken")
    assert kind in ("InputError", "RunError", "CheckpointError"), (problem, mend)
    assert module in problem
    assert f"taia[{extra}]" in mend
    assert not (folder / "out").exists()


def test_filtering_on_disk_needs_none_of_them(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'peft']));"
        "import taia; taia.compose(sys.argv[1], sys.argv[2], sys.argv[3], keep='taia')"
    )
    made = tmp_path / "out"
    command = [sys.executable, "-c", code, str(folder / "base"), str(folder / "tuned"), str(made)]
    assert subprocess.run(command).returncode == 0
    assert (made / "model.safetensors").is_file()
