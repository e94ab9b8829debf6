"""Python's users without an extra get the two lines that the command line prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import tiny_files
from cli_runner import inside
from taia.errors import InputError
from taia.export.run import export
from taia.packages import require_packages

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
    "judge": "from taia.evaluation.judge import Judge; "
    "taia.evaluate(base, tasks=['advbench'], output=out, judge=Judge('http://x/v1', 'm'))",
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


def test_a_judge_is_refused_before_any_work_without_its_client(folder: Path) -> None:
    kind, problem, _, code = told(folder, "judge", "httpx", "missing")
    assert (kind, problem, code) == ("InputError", "httpx is not installed.", 2)
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


# --- versions -----------------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def bound(package: str) -> str:
    """What pyproject.toml says of a package's versions, as it says it everywhere."""
    extras = PROJECT["optional-dependencies"].values()
    lines = {
        found[2]
        for extra in (*extras, PROJECT["dependencies"])
        for line in extra
        if (found := re.fullmatch(r"([\w-]+)(?:\[.*\])?([<>=].*)", line)) and found[1] == package
    }
    (said,) = lines
    return said


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """Lets other versions of packages be installed than are."""
    really = metadata.version

    def install(**versions: str) -> None:
        monkeypatch.setattr(metadata, "version", lambda name: versions.get(name) or really(name))

    return install


COMMANDS = {
    "train": ["train", "no/model", "--data", "no.jsonl", "--output", "out"],
    "demo": ["demo", "-o", "out"],
    "eval": ["eval", "no/base", "no/tuned", "--tasks", "arc_easy", "-o", "out"],
    "serve": ["serve", "no/base", "no/tuned"],
    "export": ["export", "no/adapter", "--to", "vllm", "-o", "out"],
}


@pytest.mark.parametrize(
    ("command", "package", "version"),
    [
        ("train", "transformers", "5.22.1"),
        ("train", "trl", "0.29.0"),
        ("train", "peft", "0.21.1"),
        ("train", "accelerate", "1.9.9"),
        ("train", "torch", "2.5.1+cpu"),
        ("demo", "transformers", "4.57.6"),
        ("demo", "datasets", "4.6.0"),
        ("eval", "transformers", "6.0.0"),
        ("eval", "lm_eval", "0.4.9.1"),
        ("serve", "fastapi", "0.110"),
        ("serve", "peft", "0.17.0.dev0"),
        ("export", "transformers", "5.23.0rc1"),
        ("export", "peft", "0.5.0"),
    ],
)
def test_another_version_is_told_before_anything_is_read(
    installed, tmp_path, monkeypatch, command, package, version
):
    monkeypatch.chdir(tmp_path)
    installed(**{package: version})
    first, second = inside(*COMMANDS[command], code=2).stderr.splitlines()
    needed = f"{package}{bound(package)}"
    low, *_ = needed.removeprefix(package).split(",")
    assert first.startswith(f"taia: {package} {version} is installed, and taia needs {package}")
    assert low in first
    assert re.fullmatch(rf" +Install it: pip install --upgrade '{package}[^']*{low}[^']*'", second)
    assert not list(tmp_path.iterdir())


def test_all_that_do_not_fit_are_told_at_once(installed):
    installed(torch="2.5", transformers="5.1", trl="0.9")
    with pytest.raises(InputError) as refused:
        require_packages("train", "torch", "transformers", "peft", "trl")
    assert refused.value.problem.startswith("torch 2.5, transformers 5.1 and trl 0.9 are installed")
    assert refused.value.mend.count("'") == 6


@pytest.mark.parametrize(
    "versions",
    [
        {"transformers": "5.23.0", "torch": "2.6.0", "peft": "0.21.2"},
        {"transformers": "5.99.0.dev0", "torch": "2.14.0.dev20270101+cu130", "peft": "1.0rc1"},
        {"torch": "2.7.0a0+git1234567.nv25"},
        {"torch": "built by hand"},  # it says nothing
    ],
)
def test_versions_within_the_bounds_are_not_told(installed, versions):
    installed(**versions)
    require_packages("train", "torch", "transformers", "peft")


def test_python_is_told_as_the_command_line_is(installed, folder, tmp_path):
    import taia

    base, adapter = folder / "base", folder / "adapter"
    installed(peft="0.20.0")
    needed = re.escape(bound("peft"))
    for call in (
        lambda: taia.SwitchableModel.load(base, adapter),
        lambda: export(adapter, "transformers", tmp_path / "out", base=str(base)),
    ):
        with pytest.raises(InputError, match=rf"peft 0\.20\.0 is installed.*peft{needed}"):
            call()
    assert not list(tmp_path.iterdir())
    installed(transformers="5.20.0")
    with pytest.raises(InputError, match=r"transformers 5\.20\.0 is installed"):
        taia.SwitchableModel.load(base, folder / "tuned")
    with pytest.raises(InputError, match=r"transformers 5\.20\.0 is installed"):
        taia.evaluate(base, folder / "tuned", tasks=["lookalikes"], output=tmp_path / "out")
    # What needs none of them asks nothing of them.
    taia.compose(base, folder / "tuned", tmp_path / "composed", keep="taia")


def test_the_versions_are_said_once():
    """In pyproject.toml; what else names them says the same."""
    packages = {
        found[0]
        for extra in PROJECT["optional-dependencies"].values()
        for line in extra
        if (found := re.match(r"[\w-]+(?=[\[<>=])", line)) and found[0] != "taia"
    }
    assert all(bound(package) for package in packages)
    python = PROJECT["requires-python"].removeprefix(">=")
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert tools["mypy"]["python_version"] == python
    assert tools["ruff"]["target-version"] == f"py{python.replace('.', '')}"
    assert f"Python {python} or newer" in (ROOT / "README.md").read_text()
    assert f'python: ["{python}"' in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert f"needs {python} or newer" in (ROOT / ".ci" / "run").read_text()
    lowest = bound("transformers").partition(",")[0].removeprefix(">=")
    assert f"Python {python} and transformers {lowest}" in (ROOT / "CHANGELOG.md").read_text()
