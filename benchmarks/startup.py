"""How long does taia take to start?

Starts fresh processes in turns and prints the median wall time of each, and what it adds to an
interpreter that does nothing. The first round only warms the page cache and is not counted.

    python benchmarks/startup.py --repeats 15
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

#: Seconds in which ``taia --help`` is to be there.
TARGET: Final = 0.3

CONTENDERS: Final[Mapping[str, Sequence[str]]] = {
    "python -c pass": ("-c", "pass"),
    "import taia": ("-c", "import taia"),
    "taia.compose": ("-c", "import taia; taia.compose"),
    "taia --version": ("-m", "taia", "--version"),
    "taia --help": ("-m", "taia", "--help"),
    "taia compose --help": ("-m", "taia", "compose", "--help"),
}


def measure(repeats: int) -> dict[str, list[float]]:
    """Seconds each contender took, round by round.

    Raises:
        CalledProcessError: If one of them fails.
    """
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for turn in range(repeats + 1):
        for name, arguments in CONTENDERS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> int:
    """Prints the table; 1 where ``taia --help`` misses its target."""
    parser = argparse.ArgumentParser(description="Measure how long taia takes to start.")
    parser.add_argument("--repeats", type=int, default=15, help="rounds that count (%(default)s)")
    seconds = measure(parser.parse_args().repeats)
    nothing = statistics.median(seconds["python -c pass"])
    print(f"{'':<20}  {'median':>7}  {'least':>7}  {'added':>7}   (ms)")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        columns = (median, min(taken), median - nothing)
        print(f"{name:<20}  " + "  ".join(f"{1000 * value:7.0f}" for value in columns))
    slow = statistics.median(seconds["taia --help"]) > TARGET
    print(f"taia --help: {'misses' if slow else 'meets'} the target of {TARGET} s")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
