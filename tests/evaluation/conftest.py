import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Puts a folder on Python's path; its modules are forgotten when the test is over.

    Another test's of the same name would be found in their place.
    """
    folders: list[Path] = []

    def add(folder: Path) -> None:
        folders.append(folder)
        monkeypatch.syspath_prepend(folder)

    yield add
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and any(Path(file).is_relative_to(folder) for folder in folders):
            del sys.modules[name]
