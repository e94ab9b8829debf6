"""Shared by the tests of adapters: pairs of a base and an adapter, each made once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny_adapters import save_pair

Pairs = Callable[..., tuple[Path, Path]]


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    """The folders of a base and of an adapter, by a model's name and ``save_pair``'s options.

    They are everybody's: what a test spoils is a copy.
    """
    made: dict[str, tuple[Path, Path]] = {}

    def get(name: str, **options: Any) -> tuple[Path, Path]:
        key = repr((name, sorted(options.items())))
        if key not in made:
            made[key] = save_pair(tmp_path_factory.mktemp("pair"), name, **options)
        return made[key]

    return get
