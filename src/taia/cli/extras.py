"""Which extra of taia brings a package that is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from typing import Final

from taia.errors import InputError, RunError, TaiaError

#: Module → the package that holds it, where their names differ.
_PACKAGES: Final = {"yaml": "pyyaml", "sklearn": "scikit-learn", "PIL": "pillow"}
#: Command → the extra that was made for it, where that is not named so.
_EXTRAS: Final = {"demo": "train", "report": "eval"}
_REQUIREMENT: Final = re.compile(r"\s*([\w.-]+)\s*(?:\[([\w.,\s-]*)\])?")
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")


def not_installed(error: ImportError, command: str) -> TaiaError:
    """What to say where a package could not be imported.

    Args:
        error: What the import raised.
        command: The command that needed it.
    """
    top = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or not top or _is_there(top):
        fix = f"pip install --upgrade 'taia[{_extra(top, command) or 'train'}]'"
        return RunError(f"An installed package does not fit taia: {error}.", f"Try {fix}")
    package = _PACKAGES.get(top, top)
    extra = _extra(top, command)
    what = f"'taia[{extra}]'" if extra else package
    return InputError(f"{package} is not installed.", f"Install it: pip install {what}")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _extra(module: str, command: str) -> str | None:
    """The extra to install: the command's own where it brings the module, else the first."""
    package = _plain(_PACKAGES.get(module, module))
    try:
        extras = metadata.metadata("taia").get_all("Provides-Extra") or []
        required = metadata.requires("taia") or []
    except metadata.PackageNotFoundError:
        return None
    found = [extra for extra in extras if package in set(_brought(extra, required))]
    own = _EXTRAS.get(command, command)
    return own if own in found else next(iter(found), None)


def _brought(extra: str, required: list[str]) -> Iterator[str]:
    """Every package that an extra brings, those of the extras in it as well."""
    for line in required:
        requirement, _, condition = line.partition(";")
        named, of = _REQUIREMENT.match(requirement), _EXTRA.search(condition)
        if named is None or of is None or of[1] != extra:
            continue
        if named[1] == "taia":
            for inner in (named[2] or "").split(","):
                yield from _brought(inner.strip(), required)
        else:
            yield _plain(named[1])


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
