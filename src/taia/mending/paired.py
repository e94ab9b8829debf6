"""How sure a difference of two modes is that was measured on the same examples.

The number is a ratio of sums: nats over tokens. An example's nats go together, so examples are what
is drawn; with d of an example the one mode's nats minus the other's, and t its tokens,

    r = Σd / Σt,    se = √(n/(n − 1) · Σ(d − r·t)²) / Σt,

the ratio's standard error to first order (Cochran, "Sampling Techniques", 3rd edition, 1977,
section 6.3). Limits and p-value are by Student's distribution with n − 1 degrees of freedom. Of few
examples whose differences are skewed the limits cover less than they say; tests/mending has by how
much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from taia.evaluation.scores.statistics import Contrast

#: Of fewer examples nothing is said of how sure it is.
FEWEST: Final = 3


class Ratio(NamedTuple):
    """Σ nats / Σ tokens.

    Attributes:
        mean: In nats a token.
        error: Its standard error, over examples; infinite of a single one.
    """

    mean: float
    error: float


def ratio_of(nats: Sequence[float], tokens: Sequence[float]) -> Ratio:
    """Nats a token and how sure that is.

    Args:
        nats: By example; of a difference, how much more the one mode has.
        tokens: By example, how many tokens were counted.
    """
    whole, count = math.fsum(tokens), len(tokens)
    mean = math.fsum(nats) / whole
    if count < 2:
        return Ratio(mean, math.inf)
    squares = math.fsum((each - mean * size) ** 2 for each, size in zip(nats, tokens, strict=True))
    return Ratio(mean, math.sqrt(count / (count - 1) * squares) / whole)


def difference(
    first: Sequence[float], second: Sequence[float], tokens: Sequence[float], alpha: float = 0.05
) -> Contrast:
    """Nats a token of the first minus those of the second, on the same examples.

    Args:
        first: Of each example, the first mode's nats, summed over its tokens.
        second: The same of the second mode, in the same order.
        tokens: Of each example, how many tokens were counted; more than 0.
        alpha: One less the share of such intervals that shall cover.

    Returns:
        The difference with its interval; without one of fewer than :data:`FEWEST` examples. Where
        all examples agree there is nothing that it could be but what it is.

    Raises:
        ValueError: If they are not equally long, or there are none.
    """
    apart = [one - two for one, two in zip(first, second, strict=True)]
    if not apart:
        raise ValueError("there is no example")
    count = len(apart)
    ratio, error = ratio_of(apart, tokens)
    if count < FEWEST:
        return Contrast(ratio, None, None, None)
    if error <= 1e-12 * max(abs(ratio), math.ulp(1.0)):
        return Contrast(ratio, ratio, ratio, 1.0 if ratio == 0 else 0.0)
    reach = quantile(alpha, count - 1) * error
    return Contrast(ratio, ratio - reach, ratio + reach, two_sided(ratio / error, count - 1))


def two_sided(t: float, freedom: int) -> float:
    """The probability that Student's t is at least so far from 0, either way.

    Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), 26.7.3 and 26.7.4.

    Args:
        t: How far.
        freedom: Degrees of freedom, at least 1.
    """
    angle = math.atan2(abs(t), math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    terms, term = [], cosine if odd else 1.0
    for number in range(odd + 2, freedom + 1, 2):
        terms.append(term)
        term *= cosine**2 * (number - 1) / number
    inside = sine * math.fsum(terms)
    inside = 2 / math.pi * (angle + inside) if odd else inside
    return min(1.0, max(0.0, 1.0 - inside))


@lru_cache(maxsize=256)
def quantile(alpha: float, freedom: int) -> float:
    """How far from 0 Student's t is with the probability ``alpha``, either way."""
    low, high = 0.0, 1.0
    while two_sided(high, freedom) > alpha:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, freedom) > alpha else (low, middle)
    return high
