"""Packages that are missing or of another version than taia needs, and what brings them.

Which versions those are is said once, in taia's own metadata.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from importlib import metadata
from importlib.util import find_spec
from typing import Final, NamedTuple, ParamSpec, TypeVar

from taia.errors import InputError, RunError, TaiaError
from taia.text import listed

#: Module → the package that holds it, where their names differ.
_PACKAGES: Final = {"yaml": "pyyaml", "sklearn": "scikit-learn", "PIL": "pillow"}
#: Command → the extra that was made for it, where that is not named so.
_EXTRAS: Final = {"demo": "train", "report": "eval"}
_REQUIREMENT: Final = re.compile(r"\s*([\w.-]+)")
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")


_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")


def needing(
    command: str, *modules: str
) -> Callable[[Callable[_Given, _Made]], Callable[_Given, _Made]]:
    """Let a public function end as the command line does where a package is missing or broken.

    Args:
        command: Which it stands for, or an extra.
        modules: What it will import, whatever it is given; looked for before it runs.

    Raises:
        InputError: By the function, if a package is not installed, or not in a version that fits.
        RunError: By the function, if one that is installed cannot be imported.
    """

    def decorate(function: Callable[_Given, _Made]) -> Callable[_Given, _Made]:
        @wraps(function)
        def call(*args: _Given.args, **options: _Given.kwargs) -> _Made:
            require_packages(command, *modules)
            try:
                return function(*args, **options)
            except ImportError as error:
                raise not_installed(error, command) from error

        return call

    return decorate


def require_packages(command: str, *modules: str) -> None:
    """Refuse a command without its packages before any of them is loaded, which takes seconds.

    Args:
        command: The command.
        modules: What it will import, whatever else is asked for.

    Raises:
        InputError: If one is not installed, or some are not in a version that fits.
    """
    for module in modules:
        if not _is_there(module):
            raise not_installed(ModuleNotFoundError(name=module), command)
    if unfit := [found for module in modules if (found := _unfit(module))]:
        wanted = " ".join(f"'{each.needed}'" for each in unfit)
        raise InputError(
            f"{listed([f'{each.package} {each.version}' for each in unfit])} "
            f"{'is' if len(unfit) == 1 else 'are'} installed, and taia needs "
            f"{listed([each.needed for each in unfit])}.",
            f"Install it: pip install --upgrade {wanted}",
        )


class _Unfit(NamedTuple):
    """A package whose installed version is not one that taia works with."""

    package: str
    version: str
    needed: str


def _unfit(module: str) -> _Unfit | None:
    package = _PACKAGES.get(module, module)
    try:
        from packaging.requirements import Requirement
        from packaging.version import InvalidVersion, Version
    except ImportError:
        return None
    try:
        version = Version(metadata.version(package))
        named = [line for line in metadata.requires("taia") or [] if _is_of(package, line)]
    except (InvalidVersion, metadata.PackageNotFoundError):
        return None  # a build of somebody's own; or taia's source tree, not installed
    bounds = (Requirement(line).specifier for line in named)
    unfit = (bound for bound in bounds if not bound.contains(version, prereleases=True))
    return next((_Unfit(package, str(version), f"{package}{bound}") for bound in unfit), None)


def not_installed(error: ImportError, command: str) -> TaiaError:
    """What to say where a package could not be imported.

    Args:
        error: What the import raised.
        command: The command that needed it.
    """
    top = (error.name or "").partition(".")[0]
    if not is_missing(error):
        fix = f"pip install --upgrade 'taia[{_extra(top, command) or 'train'}]'"
        return RunError(f"An installed package does not fit taia: {error}.", f"Try {fix}")
    package = _PACKAGES.get(top, top)
    extra = _extra(top, command)
    what = f"'taia[{extra}]'" if extra else package
    return InputError(f"{package} is not installed.", f"Install it: pip install {what}")


def is_missing(error: ImportError) -> bool:
    """Whether it was raised because a package is not installed at all, rather than by one."""
    top = (error.name or "").partition(".")[0]
    return isinstance(error, ModuleNotFoundError) and bool(top) and not _is_there(top)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _extra(module: str, command: str) -> str | None:
    """The extra to install: the command's own where it brings the module, else the smallest."""
    package = _plain(_PACKAGES.get(module, module))
    try:
        extras = metadata.metadata("taia").get_all("Provides-Extra") or []
        required = metadata.requires("taia") or []
    except metadata.PackageNotFoundError:
        return None
    brought = {extra: _brought(extra, required) for extra in extras}
    found = [extra for extra, packages in brought.items() if package in packages]
    own = _EXTRAS.get(command, command)
    return own if own in found else min(found, key=lambda x: len(brought[x]), default=None)


def _is_of(package: str, requirement: str) -> bool:
    """Whether a requirement is of a package; parsing all of them would take longer than that."""
    named = _REQUIREMENT.match(requirement)
    return named is not None and _plain(named[1]) == _plain(package)


def _brought(extra: str, required: list[str]) -> frozenset[str]:
    """Every package that an extra brings; the metadata has those of the extras in it as well."""
    found = set()
    for line in required:
        requirement, _, condition = line.partition(";")
        named, of = _REQUIREMENT.match(requirement), _EXTRA.search(condition)
        if named and of and of[1] == extra:
            found.add(_plain(named[1]))
    return frozenset(found)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
