"""Constraints for trying taia at an end of the versions it allows.

``python scripts/versions.py lowest`` prints each requirement of pyproject.toml at its lower bound,
``newest`` leaves them to the index. torch is pinned to constraints.txt in both: a range of it would
bring gigabytes of CUDA.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_BOUND: Final = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=(?P<version>[0-9.]+)")


def main(end: str) -> None:
    """Print the constraints of ``lowest`` or ``newest``, for pip.

    Raises:
        SystemExit: If it is neither.
    """
    if end not in ("lowest", "newest"):
        raise SystemExit(f"{end!r} is neither lowest nor newest")
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    print(next(pin for pin in pins if pin.startswith("torch==")))
    if end == "lowest":
        print(*lower_bounds(), sep="\n")


def lower_bounds() -> Iterator[str]:
    """Each requirement of the package and its extras, as a pin of its lower bound; without torch.

    Raises:
        SystemExit: If one has no lower bound.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for need in dict.fromkeys([*project["dependencies"], *chain(*extras.values())]):
        if need.startswith("taia["):
            continue
        found = _BOUND.match(need)
        if found is None:
            raise SystemExit(f"{need!r} has no lower bound in pyproject.toml")
        if found["name"] != "torch":
            yield f"{found['name']}=={found['version']}"


if __name__ == "__main__":
    main(*sys.argv[1:2] or ("lowest",))
