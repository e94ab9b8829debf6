r"""Regular expressions of an adapter's config, tried within bounds before anything uses them.

PEFT matches ``target_modules``, ``exclude_modules`` and the keys of ``rank_pattern`` with Python's
``re``, which may take longer than the universe for thirty characters, holds the interpreter's lock
meanwhile and cannot be stopped in a thread. Refusing every nested repeat would also refuse
``(\w+\.)*q_proj``, which people write; a matcher of our own would not be PEFT's. So what cannot
be seen to be harmless is tried in a process of its own, on the names it is meant for, and refused
if that takes longer than a second of processor time.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from taia.errors import AdapterError

#: What a regular expression may fail with while it is compiled.
BAD_PATTERN: Final = (re.error, OverflowError, RecursionError)
#: Longer than any that people or programs write; to compile one takes memory in proportion.
LONGEST_PATTERN: Final = 20_000

#: Of the processor's time, so that a busy machine refuses nothing; and of the clock's, where the
#: system has no such limit.
_SECONDS: Final = 1
_BY_THE_CLOCK: Final = 30
#: With at most one of these a match takes time in proportion to the name.
_SPECIAL: Final = re.compile(r"[*+?{|(]")
_NUMBER: Final = re.compile(r"\d+")
#: Reads [seconds, patterns, names] and tries each pattern on each name; says which comes next.
_TRIAL: Final = """
import json, re, sys
seconds, patterns, names = json.load(sys.stdin)
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
except (ImportError, OSError, ValueError):
    pass
for index, pattern in enumerate(patterns):
    print(index, flush=True)
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        continue
    for name in names:
        compiled.match(name)
        compiled.fullmatch(name)
"""


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
    kinds = {_NUMBER.sub("0", name): name for name in names}
    # What nearly matches takes longest.
    tried = [text for name in kinds.values() for text in (name, f"{name}!")]
    slow = _slow(tuple(text for _, text in doubtful), tuple(tried))
    if slow is not None:
        key, text = doubtful[slow]
        shown = text if len(text) < 80 else f"{text[:77]}…"
        raise AdapterError(
            f"{path} has a regular expression in {key} that takes too long to match: {shown!r}.",
            "Write it without a repeat inside a repeat, or list the modules by name.",
        )


def _patterns(config: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Key of the config, each regular expression under it as it is matched, and if it is plain."""
    for key in ("target_modules", "exclude_modules", "expert_modules"):
        if isinstance(config.get(key), str):
            yield key, config[key], len(_SPECIAL.findall(config[key])) < 2
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in config.get(key) or ():
            yield key, rf"(.*\.)?({pattern})$", not _SPECIAL.search(pattern)
    given = config.get("layers_pattern") or ()
    for pattern in [given] if isinstance(given, str) else given:
        yield "layers_pattern", rf"(?:^|.*?\.){pattern}\.(\d+)\.", not _SPECIAL.search(pattern)


@lru_cache(maxsize=32)
def _slow(patterns: tuple[str, ...], names: tuple[str, ...]) -> int | None:
    """Which pattern took too long, ``None`` if all were done in time; a process for each answer."""
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _TRIAL],
            input=json.dumps([_SECONDS, patterns, names]).encode(),
            timeout=_BY_THE_CLOCK,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        reached = (error.stdout or b"").split()
        return int(reached[-1]) if reached else 0
    return None
