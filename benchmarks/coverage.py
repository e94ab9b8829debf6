"""How often 95% intervals hold the truth: ``python benchmarks/coverage.py``.

For each kind of score and number of items, samples are drawn from a distribution whose mean is
known, and it is counted how often the interval of ``taia.evaluation.scores`` holds it. The least
over the numbers of items is printed, with its number, and the median width; ``--before`` prints the
same of what was used before: the percentile bootstrap, and the normal interval for averages.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taia.evaluation.scores import bounded, resampling
from taia.evaluation.scores.bounded import Ends

SHARE, CHANGE = Ends(0, 1), Ends(-1, 1)
Draw = Callable[[np.random.Generator, int], NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Kind:
    """Scores of one distribution.

    Attributes:
        name: What it is.
        draw: So many of them.
        mean: The true one.
        ends: Between what they lie; None where nobody knows.
    """

    name: str
    draw: Draw
    mean: float
    ends: Ends | None


def _turned(gain: float, loss: float) -> Draw:
    rates = [loss, 1 - gain - loss, gain]
    return lambda rng, n: rng.choice([-1.0, 0.0, 1.0], n, p=rates)


def _right(rate: float, rng: np.random.Generator, items: int) -> NDArray[np.float64]:
    return (rng.random(items) < rate).astype(np.float64)


KINDS = (
    Kind("right 1 in 100", lambda r, n: (r.random(n) < 0.01).astype(float), 0.01, SHARE),
    Kind("right 1 in 5", lambda r, n: (r.random(n) < 0.2).astype(float), 0.2, SHARE),
    Kind("right 9 in 10", lambda r, n: (r.random(n) < 0.9).astype(float), 0.9, SHARE),
    Kind("even from 0 to 1", lambda r, n: r.random(n), 0.5, SHARE),
    Kind("beta(0.1, 0.9)", lambda r, n: r.beta(0.1, 0.9, n), 0.1, SHARE),
    Kind("beta(8, 1)", lambda r, n: r.beta(8, 1, n), 8 / 9, SHARE),
    Kind(
        "F1: 7 in 10 are 0",
        lambda r, n: r.choice([0, 0.4, 2 / 3, 1], n, p=[0.7, 0.1, 0.1, 0.1]),
        0.62 / 3,
        SHARE,
    ),
    Kind("half a point, 1 in 20", lambda r, n: 0.5 * (r.random(n) < 0.05), 0.025, SHARE),
    Kind("turned: 1% and 1%", _turned(0.01, 0.01), 0.0, CHANGE),
    Kind("turned: 20% and 5%", _turned(0.2, 0.05), 0.15, CHANGE),
    Kind("turned: 45% and 40%", _turned(0.45, 0.4), 0.05, CHANGE),
    Kind("+0.1 often, −0.9 seldom", lambda r, n: np.where(r.random(n) < 0.9, 0.1, -0.9), 0, CHANGE),
    Kind("normal", lambda r, n: r.normal(2, 1, n), 2.0, None),
    Kind("exponential", lambda r, n: r.exponential(1, n), 1.0, None),
    Kind("log-normal, σ = 1", lambda r, n: r.lognormal(0, 1, n), math.exp(0.5), None),
    Kind("Student's t, 3 degrees", lambda r, n: r.standard_t(3, n), 0.0, None),
    Kind(
        "1 in 20 is 10 larger", lambda r, n: r.normal(size=n) + 10 * (r.random(n) < 0.05), 0.5, None
    ),
)

#: Numbers of items of the tasks that an average is over.
AVERAGES = ((1, 1), (1,) * 7, (1, 60), (2, 5, 9), (8,) * 7, (20,) * 7, (60,) * 7, (1, 200, 200))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400, help="samples of each kind and size")
    parser.add_argument("--before", action="store_true", help="the percentile bootstrap instead")
    options = parser.parse_args()
    print("| scores | least | at n | median width at n = 8, 60, 200 |")
    print("| --- | ---: | ---: | ---: |")
    for kind in KINDS:
        print(_row(kind, options.runs, options.before), flush=True)
    print("\n| tasks of so many items | average | difference |")
    print("| --- | ---: | ---: |")
    for sizes in AVERAGES:
        cells = (f"{100 * share:.1f}" for share in _averages(sizes, options.runs, options.before))
        print(f"| {', '.join(map(str, sizes))} | {' | '.join(cells)} |", flush=True)


def _row(kind: Kind, runs: int, before: bool) -> str:
    rng, shares = np.random.default_rng(0), {}
    for items in (*range(1, 61), 100, 200):
        found = [_covers(kind, kind.draw(rng, items), before) for _ in range(runs)]
        known = [inside for inside in found if inside is not None]
        if known:
            shares[items] = float(np.mean(known))
    at = min(shares, key=lambda items: shares[items])
    wide = " ".join(_width(kind, items, before) for items in (8, 60, 200))
    return f"| {kind.name} | {100 * shares[at]:.1f} | {at} | {wide} |"


def _covers(kind: Kind, scores: NDArray[np.floating[Any]], before: bool) -> bool | None:
    if kind.ends is not None and not before:  # the same, and quicker
        return bounded.p_value(list(scores), kind.ends, kind.mean) >= bounded.LEVEL
    found = _interval(kind, scores, before)
    return None if found is None else found[0] <= kind.mean <= found[1]


def _width(kind: Kind, items: int, before: bool) -> str:
    rng = np.random.default_rng(0)
    found = [_interval(kind, kind.draw(rng, items), before) for _ in range(25)]
    known = [ends[1] - ends[0] for ends in found if ends is not None]
    return f"{np.median(known):.2g}" if known else "none"


def _interval(
    kind: Kind, scores: NDArray[np.floating[Any]], before: bool
) -> tuple[float, float] | None:
    if before:
        rng = np.random.default_rng(0)
        means = scores[rng.integers(len(scores), size=(2_000, len(scores)))].mean(1)
        low, high = np.quantile(means, [0.025, 0.975])
        return float(low), float(high)
    if kind.ends is not None:
        return bounded.limits(list(scores), kind.ends)
    found = resampling.ratio(list(scores))
    return found and found[:2]


def _averages(sizes: tuple[int, ...], runs: int, before: bool) -> Iterator[float]:
    """How often an average of accuracies is covered, and a difference of two."""
    rates = list(np.linspace(0.04, 0.96, len(sizes)))
    turned = [((0.1, 0.1), (0.4, 0.02))[n % 2] for n in range(len(sizes))]
    accuracies: list[Draw] = [partial(_right, rate) for rate in rates]
    changes = [_turned(gain, loss) for gain, loss in turned]
    differences = [gain - loss for gain, loss in turned]
    for draws, truths, ends in ((accuracies, rates, SHARE), (changes, differences, CHANGE)):
        rng = np.random.default_rng(0)
        truth = float(np.mean(truths))
        inside = 0
        for _ in range(runs):
            tasks = [draw(rng, n) for draw, n in zip(draws, sizes, strict=True)]
            if before:
                means = [
                    task[rng.integers(len(task), size=(2_000, len(task)))].mean(1) for task in tasks
                ]
                low, high = np.quantile(np.mean(means, 0), [0.025, 0.975])
            else:
                low, high, _ = bounded.average([list(task) for task in tasks], ends)
            inside += low <= truth <= high
        yield inside / runs


if __name__ == "__main__":
    main()
