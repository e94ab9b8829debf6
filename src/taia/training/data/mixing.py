"""How many rows of each source, and in which order. Numbers only: no row is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

from taia.errors import DataError
from taia.training.recipe import Mixing

if TYPE_CHECKING:
    import numpy as np

MIXINGS: Final[tuple[Mixing, ...]] = get_args(Mixing)
Indices: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Divide a total by weights: each share rounded up or down, by the largest remainder."""
    scale = sum(weights)
    exact = [total * weight / scale for weight in weights]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: counts[i] - exact[i])
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts


def draw(
    sizes: Sequence[int], weights: Sequence[float] | None, limit: int | None = None
) -> list[int]:
    """How many rows to take of each source, none twice.

    Args:
        sizes: How many it has.
        weights: Its share of the whole, to any scale; ``None``: all rows of all sources.
        limit: At most so many rows in all.

    Returns:
        The counts: the largest total in which every share is as asked, to rounding.
    """
    most = sum(sizes) if limit is None else min(limit, sum(sizes))
    if weights is None:
        return apportion(most, sizes) if most else list(sizes)
    # A share that is rounded down may be up to one larger than the source.
    bound = min((size + 1) * sum(weights) / w for size, w in zip(sizes, weights, strict=True) if w)
    total = min(most, int(bound) + 1)  # one more, for where the division itself rounds down
    while any(count > size for count, size in zip(apportion(total, weights), sizes, strict=True)):
        total -= 1
    return apportion(total, weights)


def mixed_weights(weights: Sequence[float | None], mixing: Mixing) -> list[float] | None:
    """The weights of all sources under a schedule, or ``None`` if every row is to be used.

    Raises:
        DataError: If some sources have a weight and others none, all are 0, or the schedule does
            not allow them.
    """
    given = [weight for weight in weights if weight is not None]
    if given and (len(given) < len(weights) or not any(given)):
        raise DataError(
            "Some sources of data have a weight and others none."
            if any(given)
            else "No source of data has a weight above 0.",
            "Give each a weight, as in a.json:0.8 b.json:0.2, or none.",
        )
    if mixing not in MIXINGS:
        raise DataError(f"{mixing!r} is no way of mixing.", f"Choose: {', '.join(MIXINGS)}.")
    if mixing != "uniform" and len(weights) < 2:
        raise DataError(f"Mixing {mixing!r} takes two sources of data.", "Give another --data.")
    if mixing == "annealed" and given and abs(2 * given[0] - sum(given)) > 1e-9 * sum(given):
        raise DataError(
            "Annealing from the first source to the others takes half of the rows from each side; "
            "the weights say otherwise.",
            "Give the first source half of the weight, or choose another --mixing.",
        )
    return given or None


def annealed_weights(sizes: Sequence[int]) -> list[float]:
    """Half for the first source; the rest for the others by their size."""
    others = sum(sizes[1:])
    return [0.5, *(size / others / 2 if others else 0.0 for size in sizes[1:])]


def run_order(lanes: Sequence[int], mixing: Mixing, epochs: Sequence[int], seed: int) -> Indices:
    """The order of a run.

    A *lane* is what is shuffled within itself: all examples for ``uniform``, else the first
    source's and the others'. Each lane is gone through once per epoch, shuffled anew each time,
    but in epoch 0 taken as it lies. Then the schedule merges the lanes, over the whole run. For
    ``annealed`` with two equal lanes the share of the first falls linearly from 1 to 0: at time x
    of the run, 2x − x² of it has been used and x² of the other.

    Args:
        lanes: How many examples each has.
        mixing: The schedule.
        epochs: The numbers of its epochs, from 0.
        seed: Epoch e is shuffled with ``seed + e``.

    Returns:
        Indices, as many per epoch as there are examples. Examples are numbered lane by lane.
    """
    import numpy as np

    first = np.cumsum([0, *lanes])
    runs = []
    for lane, size in enumerate(lanes):
        shuffled = [
            np.random.default_rng((seed + epoch, lane)).permutation(size)
            if epoch
            else np.arange(size)
            for epoch in epochs
        ]
        runs.append(first[lane] + np.concatenate(shuffled))
    if mixing == "annealed":
        ahead, behind = ((np.arange(len(run)) + 0.5) / max(1, len(run)) for run in runs)
        times = np.concatenate([1 - np.sqrt(1 - ahead), np.sqrt(behind)])
        order: Indices = np.concatenate(runs)[np.argsort(times, kind="stable")]
        return order
    return np.concatenate(runs[::-1] if mixing == "in-domain-last" else runs)
