"""Regular expressions of an adapter's config, tried within bounds before anything uses them.

PEFT matches ``target_modules``, ``exclude_modules`` and the keys of ``rank_pattern`` with Python's
``re``: see :mod:`taia.selection.trial` for what that may take.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from taia.errors import AdapterError
from taia.selection.trial import repeats, slow

#: What a regular expression may fail with while it is compiled.
BAD_PATTERN: Final = (re.error, OverflowError, RecursionError)
#: Longer than any that people or programs write; to compile one takes memory in proportion.
LONGEST_PATTERN: Final = 20_000


def check_patterns(config: Mapping[str, Any], names: Iterable[str], path: Path) -> None:
    """Refuse an adapter whose patterns take too long on the names of modules.

    Args:
        config: The adapter's config.
        names: Of modules and parameters that the patterns will be matched with. Of names that
            differ in numbers alone one is tried.
        path: Where the config lies, for the message.

    Raises:
        AdapterError: If one does.
    """
    doubtful = [(key, text) for key, text, plain in _patterns(config) if not plain]
    if not doubtful:
        return
    first = slow([text for _, text in doubtful], names, ("match", "fullmatch"))
    if first is not None:
        key, text = doubtful[first]
        shown = text if len(text) < 80 else f"{text[:77]}…"
        raise AdapterError(
            f"{path} has a regular expression in {key} that takes too long to match: {shown!r}.",
            "Write it without a repeat inside a repeat, or list the modules by name.",
        )


def _patterns(config: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Key of the config, each regular expression under it as it is matched, and if it is plain."""
    for key in ("target_modules", "exclude_modules", "expert_modules"):
        if isinstance(config.get(key), str):
            yield key, config[key], repeats(config[key]) < 2
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in config.get(key) or ():
            yield key, rf"(.*\.)?({pattern})$", not repeats(pattern)
    given = config.get("layers_pattern") or ()
    for pattern in [given] if isinstance(given, str) else given:
        yield "layers_pattern", rf"(?:^|.*?\.){pattern}\.(\d+)\.", not repeats(pattern)
