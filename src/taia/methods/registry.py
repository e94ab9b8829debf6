"""All methods by their names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from taia.errors import MethodError
from taia.methods import (
    breadcrumbs,
    dare,
    dg_hard,
    intruder,
    lines,
    magnitude,
    revert_largest,
    safe_delta,
    safe_lora,
    spectral_surgery,
    wise_ft,
)
from taia.methods.method import Method
from taia.text import closest, shortened

_ALL: Final = (
    *(wise_ft, lines, magnitude, revert_largest, breadcrumbs, dare),
    *(dg_hard, intruder, spectral_surgery, safe_delta, safe_lora),
)

#: Name → method.
METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {module.METHOD.name: module.METHOD for module in _ALL}
)


def find(name: str) -> Method:
    """The method of a name.

    Raises:
        MethodError: If there is none; it names the nearest and all there are.
    """
    if (method := METHODS.get(name)) is not None:
        return method
    near = closest(name.replace("_", "-").strip(), METHODS)
    meant = f"Did you mean {near}? " if near else ""
    raise MethodError(
        f"There is no method {quoted(name)}.", f"{meant}Methods are: {', '.join(METHODS)}."
    )


def quoted(given: object) -> str:
    """What was given, as an error can hold it: on one line, not without end, and no steering."""
    return shortened(repr(given) if str(given).isprintable() else ascii(given), 80)
