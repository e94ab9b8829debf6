r"""Regular expressions of others, tried within bounds before they are used.

Python's ``re`` may take longer than the universe for thirty characters, holds the interpreter's
lock meanwhile and cannot be stopped in a thread. Refusing every nested repeat would also refuse
``(\w+\.)*q_proj``, which people write; a matcher of our own would be another language. So what
cannot be seen to be harmless is tried in a process of its own, on the names it is meant for, and
refused if that takes longer than a second of processor time.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

#: Of the processor's time, so that a busy machine refuses nothing; and of the clock's, where the
#: system has no such limit.
_SECONDS: Final = 1
_BY_THE_CLOCK: Final = 30
_NUMBER: Final = re.compile(r"\d+")
_SPECIAL: Final = re.compile(r"[*+?{|(]")
#: Reads [seconds, patterns, names, ways] and tries each pattern on each name; says which comes
#: next.
_TRIAL: Final = """
import json, re, sys
seconds, patterns, names, ways = json.load(sys.stdin)
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
        for way in ways:
            getattr(compiled, way)(name)
"""


def repeats(pattern: str) -> int:
    """How much in a pattern may repeat or branch, at most.

    With one of these, matching takes time in proportion to the name: there is nothing to try.
    """
    return len(_SPECIAL.findall(pattern))


def slow(patterns: Iterable[str], names: Iterable[str], ways: tuple[str, ...]) -> int | None:
    """Which pattern takes too long, by its place; ``None`` if all are done in time.

    Args:
        patterns: The regular expressions.
        names: What they will be matched with. Of names that differ in numbers alone one is tried.
        ways: Methods of a compiled one, such as ``"match"``.
    """
    kinds = {_NUMBER.sub("0", name): name for name in names}
    # What nearly matches takes longest.
    tried = [text for name in kinds.values() for text in (name, f"{name}!")]
    return _tried(tuple(patterns), tuple(tried), ways)


@lru_cache(maxsize=32)
def _tried(patterns: tuple[str, ...], names: tuple[str, ...], ways: tuple[str, ...]) -> int | None:
    """The same; a process for each answer."""
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _TRIAL],
            input=json.dumps([_SECONDS, patterns, names, ways]).encode(),
            timeout=_BY_THE_CLOCK,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        reached = (error.stdout or b"").split()
        return int(reached[-1]) if reached else 0
    return None
