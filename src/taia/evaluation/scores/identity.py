"""What a result depends on, as texts and hashes that are the same in every process.

Weights count by every byte, a tokenizer by what it does to a text. A task's configuration holds
functions, and what they do depends on more than their own lines: on the helpers they call. So a
function is its name and the source of the whole module that it lives in, of the modules which that
imports from beside it, and of files beside it that it names. What is installed elsewhere is known
by its version and is not followed.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import inspect
import json
import re
import sysconfig
from collections.abc import Iterator, Mapping, Set
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from taia.checkpoint.adapters.read import read_adapter
from taia.checkpoint.folders import holds_adapter
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.locate import Located
from taia.checkpoint.output.manifest import identity

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What a text in a module may look like that names a file beside it.
_NAME: Final = re.compile(r"[\w./-]{1,200}")
#: taia itself, wherever it lies.
_TAIA: Final = Path(__file__).resolve().parents[2]


def weights(place: Located) -> dict[str, str]:
    """SHA-256 of each of a model's or an adapter's files, its configuration among them.

    Every byte is read: a result that is kept must not be another model's.

    Raises:
        CheckpointError: If there is no model, or it is damaged.
        AdapterError: If it is an adapter that taia cannot read.
    """
    model = read_adapter(place.path) if holds_adapter(place.path) else Checkpoint.open(place.path)
    found = identity(place, model, full=True)
    return {file["name"]: file["sha256"] for file in found["files"]}


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of what a tokenizer does to a text, its chat template included."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    content = inner.to_str() if inner is not None else sorted(tokenizer.get_vocab().items())
    return digest(
        {
            "tokenizer": content,
            "special": {key: str(value) for key, value in tokenizer.special_tokens_map.items()},
            "chat_template": tokenizer.chat_template,
        }
    )


def digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def canonical(value: object) -> str:
    """A value as JSON text, the same in every process.

    Dictionaries are sorted; functions and classes are their name and source, objects their class
    and attributes. No address of memory and no order of a set is in it.

    Args:
        value: JSON values, functions, classes, objects, and whatever holds them.
    """
    return json.dumps(_Written().plain(value), sort_keys=True)


def source_hash(file: Path) -> str:
    """SHA-256 of a module's file and of those beside it that it imports or names.

    Args:
        file: Of the module. One that is not Python's counts by itself.
    """
    files = _reached(file.resolve())
    each = sorted(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files)
    return hashlib.sha256("\n".join(each).encode()).hexdigest()


class _Written:
    """Writes a value down; what holds itself is written once."""

    def __init__(self) -> None:
        self._above: set[int] = set()

    def plain(self, value: Any) -> Any:  # noqa: ANN401 - any value, as JSON's kinds
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if id(value) in self._above:
            return "..."
        self._above.add(id(value))
        try:
            return self._inner(value)
        finally:
            self._above.remove(id(value))

    def _inner(self, value: Any) -> Any:  # noqa: ANN401 - as above
        if isinstance(value, Mapping):
            return {self._text(key): self.plain(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(one) for one in value]
        if isinstance(value, Set):
            return ["set", *sorted(map(self._text, value))]
        if isinstance(value, bytes | bytearray):
            return ["bytes", bytes(value).hex()]
        if isinstance(value, re.Pattern):
            return ["pattern", value.pattern, value.flags]
        if isinstance(value, ModuleType):
            return ["module", value.__name__]
        if isinstance(value, functools.partial):
            return ["partial", *map(self.plain, (value.func, value.args, value.keywords))]
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            body = _file_hash(value) or self.plain(
                {name: one for name, one in vars(value).items() if isinstance(one, FunctionType)}
            )
            return ["class", value.__qualname__, body]
        if inspect.ismethod(value):
            return ["method", self.plain(value.__func__), self.plain(value.__self__)]
        if (inner := getattr(value, "__wrapped__", None)) is not None:  # such as a cache
            return ["wrapped", self.plain(inner)]
        if inspect.isroutine(value):  # written in C
            return ["routine", value.__qualname__, self.plain(getattr(value, "__self__", None))]
        return self._object(value)

    def _text(self, value: object) -> str:
        return value if isinstance(value, str) else json.dumps(self.plain(value), sort_keys=True)

    def _function(self, value: FunctionType) -> Any:  # noqa: ANN401 - as above
        """What it is called, its module's source, and what it was made with."""
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        made = [self.plain(one) for one in (value.__defaults__, value.__kwdefaults__, cells)]
        body = _file_hash(value) or self._code(value.__code__)
        return ["function", value.__qualname__, *made, body]

    def _code(self, code: CodeType) -> Any:  # noqa: ANN401 - as above
        """What a function runs that lives in no file."""
        constants = [
            self._code(one) if isinstance(one, CodeType) else self.plain(one)
            for one in code.co_consts
        ]
        return [code.co_code.hex(), list(code.co_names), constants]

    def _object(self, value: Any) -> Any:  # noqa: ANN401 - as above
        """Its class with what it holds, or else what its class calls it.

        Of a library's objects only what is plain: they hold locks, loggers and half the library.
        """
        kind = self.plain(type(value))
        if dataclasses.is_dataclass(value):
            fields = dataclasses.fields(value)
            return [kind, {field.name: self.plain(getattr(value, field.name)) for field in fields}]
        if hasattr(value, "tolist"):  # NumPy's and torch's
            return [kind, self.plain(value.tolist())]
        state = dict(getattr(value, "__dict__", {}))
        if state:
            if _is_installed(_file(type(value))):
                simple = (bool, int, float, str)
                state = {name: one for name, one in state.items() if isinstance(one, simple)}
            return [kind, self.plain(state)]
        text = repr(value)
        return [kind, "" if " at 0x" in text else text]


def _is_filled(cell: Any) -> bool:  # noqa: ANN401 - a cell's class has no public name
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _file(value: object) -> Path | None:
    """Where a function or class lives; none where it lives in no file."""
    try:
        file = inspect.getsourcefile(value)  # type: ignore[arg-type]  # or fails, as told below
    except TypeError:
        return None
    return Path(file).resolve() if file is not None and Path(file).is_file() else None


def _file_hash(value: object) -> str | None:
    file = _file(value)
    return None if file is None else source_hash(file)


def _reached(file: Path) -> set[Path]:
    """A file, and those that it imports or names, and those that they do."""
    found: set[Path] = set()
    todo = [file]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            followed = path.suffix == ".py" and (_is_of_tasks(path) or not _is_installed(path))
            todo += _beside(path) if followed else []
    return found


def _beside(file: Path) -> Iterator[Path]:
    """The files that a module imports, or that a text in it names, as far as they are followed."""
    modules, texts = _names(file.read_bytes())
    for level, name in modules:
        for path in _modules(file, level, name):
            if path.is_relative_to(file.parent) or not _is_installed(path):
                yield path
    for text in texts:
        for name in (text, f"{text}.py"):
            path = file.parent / name
            if path.is_file() and path.resolve().is_relative_to(file.parent):
                yield path.resolve()


@functools.lru_cache(maxsize=1024)
def _names(source: bytes) -> tuple[list[tuple[int, str]], list[str]]:
    """What a source imports, with how many dots, and the texts in it that may name a file."""
    modules: list[tuple[int, str]] = []
    texts = []
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # not this Python's: the file counts by itself
        return [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module or ''}.{alias.name}" for alias in node.names]
            modules += [(node.level, name.strip(".")) for name in (node.module or "", *inner)]
        elif isinstance(node, ast.Constant) and _NAME.fullmatch(str(node.value)):
            texts.append(str(node.value))
    return modules, texts


def _modules(file: Path, level: int, name: str) -> Iterator[Path]:
    """The files that an import may mean, of the packages on the way to it too."""
    parts = name.split(".") if name else []
    for root in _roots(file, level, parts[:1]):
        for size in range(1, len(parts) + 1):
            inner = root.joinpath(*parts[:size])
            for path in (inner.with_name(f"{inner.name}.py"), inner / "__init__.py"):
                if path.is_file():
                    yield path.resolve()


def _roots(file: Path, level: int, first: list[str]) -> list[Path]:
    """The folders in which an import is looked for: from the dots, else beside, and its package."""
    if level:
        return [file.parents[level - 1]]
    found = [file.parent]
    try:
        spec = find_spec(first[0]) if first else None
    except (ImportError, ValueError, AttributeError):
        spec = None
    origin = None if spec is None or spec.origin is None else Path(spec.origin)
    if origin is not None and origin.is_file():
        found.append(origin.parents[1] if origin.name == "__init__.py" else origin.parent)
    return found


@functools.cache
def _places() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return (_TAIA, *{Path(paths[name]).resolve() for name in names})


def _is_installed(path: Path | None) -> bool:
    """Whether a file is known by its version: the standard library, a package, taia itself."""
    return path is None or any(path.is_relative_to(place) for place in _places())


def _is_of_tasks(path: Path) -> bool:
    """Whether an installed file is one of a task, whose helpers lie beside it."""
    return "tasks" in path.parts and not {"lm_eval", "taia"}.isdisjoint(path.parts)
