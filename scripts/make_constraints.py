"""Pin what a development environment consists of: `python scripts/make_constraints.py`.

Run it in a fresh environment, after `pip install -e ".[dev]"`, to move to newer versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TARGET: Final = Path(__file__).parents[1] / "constraints.txt"
HEADER: Final = """\
# What development and CI install: pip install -c constraints.txt -e ".[dev]"
# The package itself asks for ranges, in pyproject.toml. Written by scripts/make_constraints.py.
"""


def main() -> None:
    """Write ``constraints.txt`` from the packages installed here."""
    pins = sorted({_pin(found) for found in closure("taia", ["dev"])}, key=str.lower)
    TARGET.write_text(HEADER + "".join(f"{pin}\n" for pin in pins), encoding="utf-8")
    print(f"{len(pins)} pins in {TARGET}")


def closure(name: str, extras: list[str]) -> Iterator[Distribution]:
    """What a project's extras need, directly or not, as far as it is installed.

    Raises:
        SystemExit: If something needed is not installed.
    """
    todo, seen = [(name, frozenset(extras))], set[tuple[str, frozenset[str]]]()
    while todo:
        name, wanted = todo.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f'{name} is missing here: pip install -e ".[dev]"') from None
        if name != "taia":
            yield found
        for line in found.requires or []:
            need = Requirement(line)
            if need.marker is None or any(
                need.marker.evaluate({"extra": e}) for e in wanted | {""}
            ):
                todo.append((canonicalize_name(need.name), frozenset(need.extras)))


def _pin(found: Distribution) -> str:
    """Name, and version without a build's suffix (2.13.0+cpu)."""
    return f"{canonicalize_name(found.metadata['Name'])}=={found.version.partition('+')[0]}"


if __name__ == "__main__":
    main()
