"""Imports go down only: the layers of the program, kept.

Everything counts: imports at the top, inside functions, relative ones and ``import_module`` with a
literal name. Only what stands under ``if TYPE_CHECKING`` does not, as it never runs.
"""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import taia

SRC = Path(taia.__file__).parents[1]

#: From the top down. Packages on one line are siblings and leave each other alone.
LAYERS = (
    {"__main__"},
    {"cli"},
    {"demo"},
    {"reporting"},
    {"mending"},
    {"training", "evaluation", "serving", "export", "analysis"},
    {"runtime"},
    {"molora", "loading", "offline"},
    {"checkpoint"},
    {"methods"},
    {"selection"},
    {"anatomy"},
    {"packages"},
    {"errors"},
    {"text", "signals"},
)

#: Siblings that may be imported all the same, and why. Remove a line once it is not needed.
JUSTIFIED: dict[tuple[str, str], str] = {
    ("evaluation", "serving"): "an evaluation starts the vLLM that `taia serve` starts",
    ("serving", "export"): "vLLM serves the adapters that `taia export` writes for it",
}

HEAVY = {"torch", "transformers", "safetensors", "numpy", "peft", "trl", "accelerate", "datasets"}

#: Packages that work without torch, and the modules in them that only what is calculated loads.
TORCH_FREE = (
    *("text", "errors", "anatomy", "selection", "methods", "checkpoint", "cli", "reporting"),
)
CALCULATES = {
    "taia.methods.calculate",
    "taia.checkpoint.arithmetic",
    "taia.checkpoint.adapters.low_rank",
}

RANK = {package: -depth for depth, layer in enumerate(LAYERS) for package in layer}
MODULES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((SRC / "taia").rglob("*.py"))
}


def imports(tree: ast.AST, package: str, late: bool = True) -> Iterator[str]:
    """Dotted names that running a module can import: ``a.b`` for ``from a import b``, too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield from imports(ast.Module([other], []), package, late)
        elif not late and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            home = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            yield from (f"{home}.{alias.name}" for alias in node.names)
        else:
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                name = node.args[0]
                if isinstance(name, ast.Constant):
                    yield str(name.value)
            yield from imports(node, package, late)


def imports_of(module: str, late: bool = True) -> Iterator[str]:
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return imports(ast.parse(path.read_text(encoding="utf-8")), package, late)


def package_of(name: str) -> str | None:
    """The package of ours that a dotted name lies in; '' for the package taia itself."""
    top, _, rest = name.partition(".")
    first = rest.partition(".")[0]
    if top != "taia":
        return None
    return first if f"taia.{first}" in MODULES else ""


def verdict(importer: str, imported: str) -> str | None:
    """Why one package may not import another."""
    if importer == imported:
        return None
    if imported == "":
        return None if importer == "cli" else "the top package is made of the others"
    if RANK[importer] < RANK[imported]:
        return f"{imported} lies above {importer}"
    if RANK[importer] == RANK[imported] and (importer, imported) not in JUSTIFIED:
        return f"{imported} lies beside {importer}"
    return None


def test_every_package_has_a_layer():
    packages = {module.split(".")[1] for module in MODULES if "." in module}
    assert packages <= set(RANK), "give it a layer here and in docs/decisions, or another home"


@pytest.mark.parametrize("module", [name for name in MODULES if "." in name])
def test_imports_go_down(module):
    importer = module.split(".")[1]
    found = {name: package_of(name) for name in imports_of(module)}
    wrong = {
        name: why
        for name, imported in found.items()
        if imported is not None and (why := verdict(importer, imported))
    }
    assert not wrong


def module_of(name: str) -> str:
    """The module of ours that importing a dotted name runs."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def test_no_module_imports_itself_round_a_circle():
    importing = {
        module: {found for name in imports_of(module) if (found := module_of(name)) != module}
        for module in MODULES
        if MODULES[module].name != "__init__.py"
    }
    TopologicalSorter(importing).prepare()  # CycleError names the circle


def test_the_top_package_imports_late():
    assert not [name for name in imports_of("taia", late=False) if name.startswith("taia")]


def test_justifications_are_still_needed():
    used = {
        (module.split(".")[1], package_of(name))
        for module in MODULES
        if "." in module
        for name in imports_of(module)
    }
    assert set(JUSTIFIED) <= used


@pytest.mark.parametrize(
    "module",
    [name for name in MODULES if name.split(".")[1:2] and name.split(".")[1] in TORCH_FREE],
)
def test_heavy_libraries_are_imported_late(module):
    found = [name for name in imports_of(module, late=False) if name.split(".")[0] in HEAVY]
    assert bool(found) == (module in CALCULATES), found
    heavy_of_ours = [n for n in imports_of(module, late=False) if n.startswith(tuple(CALCULATES))]
    assert not heavy_of_ours or module in CALCULATES


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import taia.cli.demo as d", {"taia.cli.demo"}),
        ("from taia import cli", {"taia.cli"}),
        ("from taia.errors import TaiaError", {"taia.errors.TaiaError"}),
        ("from . import steps", {"taia.checkpoint.steps"}),
        ("from .. import cli", {"taia.cli"}),
        ("from ..cli import main", {"taia.cli.main"}),
        ("def f():\n  class A:\n    from taia import demo", {"taia.demo"}),
        ("try:\n  import a\nexcept ImportError:\n  import b", {"a", "b"}),
        ("if TYPE_CHECKING:\n  import a\nelse:\n  import b", {"b"}),
        ("if typing.TYPE_CHECKING:\n  from a import b", set()),
        ("importlib.import_module('taia.cli')", {"taia.cli"}),
        ("f = lambda: import_module('a')", {"a"}),
        ("x = 'import taia.cli'", set()),
    ],
)
def test_every_kind_of_import_is_seen(code, found):
    assert set(imports(ast.parse(code), "taia.checkpoint")) == found


def test_late_imports_can_be_told_apart():
    code = "import a\ndef f():\n  import b\nif x:\n  import c"
    assert set(imports(ast.parse(code), "m", late=False)) == {"a", "c"}


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("cli", "errors", True),
        ("anatomy", "anatomy", True),
        ("errors", "anatomy", False),
        ("anatomy", "selection", False),
        ("reporting", "demo", False),
        ("evaluation", "runtime", True),
        ("runtime", "evaluation", False),
        ("evaluation", "training", False),
        ("checkpoint", "", False),
        ("cli", "", True),
    ],
)
def test_what_may_import_what(importer, imported, allowed):
    assert (verdict(importer, imported) is None) == allowed
