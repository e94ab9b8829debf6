"""Learned α: the least distance from base at which enough of what was learnt is left.

Minimise KL(base ‖ mode) on kept examples subject to loss of learnt rows ≤ a ceiling, over one α in
[0, 1] for each place of an update, by gradient (aTLAS, arXiv 2407.02880, and DAM, arXiv 2410.08371,
learn such coefficients of several updates, without the constraint). The gradients of both measures
are averaged over steps and joined with a multiplier μ:

    α ← [α − η · (m_KL + μ·m_loss) / √v],    μ ← μ · exp(κ · (loss − ceiling) / slack)

with v the average square of the joined gradient (Adam, arXiv 1412.6980) and [·] the projection to
[0, 1]. μ begins where the line on which everything has one α would be at rest, −dKL/dloss, and is
multiplied, so that it needs no scale. A step's loss is known as its difference from the tuned
model's on the same rows, whose noise is small, beside the tuned model's on all rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from taia.errors import InputError
from taia.mending.examples import Example
from taia.mending.measures import Meter, Nats
from taia.mending.places import Place
from taia.mending.tuning import Tuning
from taia.runtime.switchable import SwitchableModel
from taia.selection import Selection

#: η at first and at last, between which it falls as a cosine.
_RATES: Final = (0.08, 0.01)
#: Of the averages of gradients, of their squares, and of the loss above the ceiling.
_MOMENTUM: Final = 0.8
_SQUARES: Final = 0.95
_LOSSES: Final = 0.8
#: κ, and the ends of μ.
_PRESS: Final = 0.15
_MULTIPLIERS: Final = (1e-3, 1e4)
#: Learnt rows and kept examples of a step.
_ROWS: Final = 8
_PROMPTS: Final = 4
#: α are rounded to so many digits.
_DIGITS: Final = 3
#: How often all learnt rows are measured to come to the ceiling, and how near is near enough, as a
#: part of the slack.
_TRIES: Final = 4
_NEAR: Final = 0.1


class LearningStep(NamedTuple):
    """One step of the search.

    Attributes:
        step: Its number, from 1.
        seconds: Since the search began.
        loss: Of its learnt rows in nats a token, put right by the tuned model's on the same rows.
        divergence: Of its kept examples, in nats a token.
        multiplier: μ.
    """

    step: int
    seconds: float
    loss: float
    divergence: float
    multiplier: float


@dataclass(frozen=True, slots=True)
class Learned:
    """What a search has found, measured on all examples that it was given.

    Attributes:
        alphas: α of every place, those that stay tuned too.
        selection: The same as a selection.
        loss: Of learnt rows.
        divergence: KL from base on kept examples.
        ceiling: What the loss was to stay under, in nats a token.
        weights: How much each place's α matters: the average square of the gradient of
            KL + μ · loss, by which places are joined.
        path: The steps.
    """

    alphas: dict[Place, float]
    selection: Selection
    loss: Nats
    divergence: Nats
    ceiling: float
    weights: dict[Place, float]
    path: tuple[LearningStep, ...]

    @property
    def is_feasible(self) -> bool:
        """Whether the loss is under the ceiling."""
        return self.loss.mean <= self.ceiling


def learn(
    model: SwitchableModel,
    learn: Sequence[Example],
    keep: Sequence[Example],
    *,
    start: float | Mapping[Place, float],
    ceiling: float,
    steps: int = 48,
    seconds: float = math.inf,
    seed: int = 0,
    progress: Callable[[LearningStep], None] | None = None,
) -> Learned:
    """Search α of every place of a live model's update.

    Args:
        model: The model; it is left in the mode it was in.
        learn: Learnt rows.
        keep: What must not change.
        start: Where to begin: one α for all, best the line's that is just under the ceiling, or
            one for each place.
        ceiling: The most nats a token that learnt rows may have; the tuned model's and a little.
        steps: At most so many steps, of 8 learnt rows and 4 kept examples each.
        seconds: No step begins after so many. What comes at the end, a few passes over all
            examples, is not counted.
        seed: Of the order of examples.
        progress: Told of each step.

    Returns:
        The α found; over the ceiling only where the tuned model is, too.

    Raises:
        InputError: If there are no examples of a kind, nothing can be scaled, or ``start`` is not
            from 0 to 1.
    """
    (found,) = front(
        model,
        learn,
        keep,
        start=start,
        ceilings=[ceiling],
        steps=steps,
        seconds=seconds,
        seed=seed,
        progress=progress,
    )
    return found


class Search:
    """A search that goes on: from ceiling to ceiling, where the last one ended.

    Args:
        tuning: The model, of which every coefficient is turned.
        start: Where to begin, ``[coefficients]``.
        seed: Of the order of examples.

    Attributes:
        values: Where it is, ``[coefficients]``.
    """

    def __init__(self, tuning: Tuning, start: np.ndarray, seed: int) -> None:
        self.values = start
        self._tuning = tuning
        self._random = np.random.default_rng(seed)
        meter = tuning.meter
        with meter.model.mode("tuned"):
            self._tuned = meter.loss()
        self._rows = _order(len(meter.learn), _ROWS, self._random)
        self._prompts = _order(len(meter.keep), _PROMPTS, self._random)
        self._multiplier: float | None = None
        self._of_loss = _Average(_MOMENTUM)
        self._of_divergence = _Average(_MOMENTUM)
        self._squares = _Average(_SQUARES)

    def steps(self, ceiling: float, steps: int, seconds: float) -> Iterator[LearningStep]:
        """Go towards the least KL under a ceiling, and tell of each step."""
        began = time.monotonic()
        slack = self._slack(ceiling)
        above = _Average(_LOSSES)
        tail = _Average(1 - 1 / max(1, steps // 4))
        for step in range(1, steps + 1):
            if time.monotonic() - began > seconds:
                break
            loss, divergence = self._measure()
            self._of_loss.add(loss.gradient)
            self._of_divergence.add(divergence.gradient)
            over = self._over(loss, ceiling)
            above.add(np.array(over))
            multiplier = self._pressed(float(above.value), slack)
            joined = divergence.gradient + multiplier * loss.gradient
            self._squares.add((joined / (1 + multiplier)) ** 2)
            move = self._of_divergence.value + multiplier * self._of_loss.value
            scale = (1 + multiplier) * np.sqrt(self._squares.value) + 1e-12
            self.values = np.clip(self.values - _rate(step, steps) * move / scale, 0.0, 1.0)
            tail.add(self.values)
            yield LearningStep(
                step, time.monotonic() - began, ceiling + over, divergence.mean, multiplier
            )
        if tail.count:
            self.values = tail.value
