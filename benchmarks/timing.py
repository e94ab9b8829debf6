"""What the benchmarks share: turns that are timed, and what is said meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping


def turns(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds each way took, turn by turn: what slows the machine for a while slows them all."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    width = max(map(len, ways), default=0)
    for turn in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
            say(f"{turn + 1}/{repeats} {name:{width}} {seconds[name][-1]:8.2f} s")
    return seconds


def say(text: str) -> None:
    """Tell how far the work is, beside the result on stdout."""
    print(text, file=sys.stderr, flush=True)
