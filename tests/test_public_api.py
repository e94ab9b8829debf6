"""The names that users import from taia, and what importing them costs."""

import ast
import inspect
import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import taia
from taia import errors

VALUES = {"MODES", "__version__"}

HEAVY = {"torch", "transformers", "safetensors", "numpy", "peft", "trl", "datasets"}


def modules_after(code: str) -> set[str]:
    """Top-level modules that are loaded once ``code`` has run in a fresh interpreter."""
    tail = "import json, sys; print(); print(json.dumps(sorted({m.split('.')[0] for m in m_()})))"
    script = f"import sys; m_ = lambda: list(sys.modules)\n{code}\n{tail}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_public_names():
    children = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    api = {"compose", "Composition", "Anatomy", "Selection", "Label", "TensorInfo", "Checkpoint"}
    api |= {"SwitchableModel", "evaluate", "mend"}
    assert set(taia.__all__) == children | api | VALUES


def test_all_is_sorted_and_free_of_doubles():
    assert len(set(taia.__all__)) == len(taia.__all__)
    assert dir(taia) == sorted(taia.__all__)


@pytest.mark.parametrize("name", taia.__all__)
def test_every_name_is_there(name):
    assert getattr(taia, name) is getattr(taia, name)


@pytest.mark.parametrize("name", sorted(set(taia.__all__) - VALUES))
def test_every_name_has_a_docstring_of_its_own(name):
    value = getattr(taia, name)
    assert vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert not value.__doc__.startswith(f"{name}("), "dataclass wrote this one"
    if inspect.isclass(value):
        for method in vars(value):
            if not method.startswith("_") and callable(getattr(value, method)):
                assert getattr(value, method).__doc__, f"{name}.{method}"


def test_the_version_is_the_packages():
    assert taia.__version__ == version("taia")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'taia' has no attribute 'taif'"):
        taia.taif  # noqa: B018
    with pytest.raises(ImportError):
        from taia import taif  # noqa: F401


def test_type_checkers_and_the_interpreter_see_the_same():
    tree = ast.parse(Path(taia.__file__).read_text(encoding="utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(guarded.test) == "TYPE_CHECKING"
    seen = {}
    for node in guarded.body:
        if isinstance(node, ast.ImportFrom):
            home = import_module(node.module)
            seen |= {alias.name: getattr(home, alias.name) for alias in node.names}
    assert set(seen) | {"__version__"} == set(taia.__all__)
    assert all(getattr(taia, name) is value for name, value in seen.items())


def test_import_taia_imports_nothing_of_it():
    assert not modules_after("import taia") & (HEAVY | {"typer", "rich"})
    loaded = "[m for m in sys.modules if m.startswith('taia.')]"
    assert not modules_after(f"import taia\nassert not {loaded}, {loaded}") & HEAVY


def test_no_public_name_needs_torch():
    assert not modules_after("from taia import *\nassert compose") & HEAVY


def test_help_needs_no_torch():
    call = "import sys\nfrom taia.cli import main\nsys.argv = ['taia', '--help']\n"
    call += "try: main()\nexcept SystemExit as end: assert not end.code, end.code"
    assert not modules_after(call) & HEAVY
