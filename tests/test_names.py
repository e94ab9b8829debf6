"""A class's or an alias's name says what it is: no two modules have one for different things."""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import taia

SRC = Path(taia.__file__).parents[1]

#: Twins that may stay, each with its modules. Remove a line once it is not needed.
TWINS: dict[str, set[str]] = {}


def public_kinds(source: str) -> Iterator[str]:
    """Public names of the classes and type aliases that a module defines, at its top."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            name = node.name
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).endswith("TypeAlias"):
            name = ast.unparse(node.target)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
            name = ast.unparse(node.targets[0])  # ``Pair = tuple[int, int]`` is an alias, too
        else:
            continue
        if not name.startswith("_") and not name.isupper() and name[0].isupper():
            yield name


def twins(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Name → the modules that define it, of those that several do."""
    homes: dict[str, set[str]] = defaultdict(set)
    for module, source in sources.items():
        for name in public_kinds(source):
            homes[name].add(module)
    return {name: modules for name, modules in homes.items() if len(modules) > 1}


def test_every_name_is_one_thing():
    modules = {
        ".".join(path.relative_to(SRC).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in (SRC / "taia").rglob("*.py")
    }
    assert twins(modules) == TWINS


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("class Run: ...", ["Run"]),
        ("Progress: TypeAlias = Callable[[int], None]", ["Progress"]),
        ("Progress: typing.TypeAlias = Callable[[int], None]", ["Progress"]),
        ("Pair = tuple[int, int]", ["Pair"]),
        ("Number = int | float", ["Number"]),
        ("class _Run: ...\n_Pair: TypeAlias = tuple[int, int]", []),
        ("def f():\n    class Inner: ...", []),
        ("T = TypeVar('T')", []),
        ("LIMIT: Final = A[0]\nFIRST = ROWS[0]\nfirst = ROWS[0]", []),
        ("from a import Run", []),
    ],
)
def test_what_a_module_defines(source, names):
    assert list(public_kinds(source)) == names


def test_a_class_and_an_alias_of_one_name_are_twins():
    sources = {"a": "class Run: ...", "b": "Run = dict[str, int]", "c": "from a import Run"}
    assert twins(sources) == {"Run": {"a", "b"}}
