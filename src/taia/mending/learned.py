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
from taia.mending.ceiling import settle
from taia.mending.examples import Example
from taia.mending.measures import Meter, Nats
from taia.mending.places import Place
from taia.mending.tuning import RunningMean, Slope, Tuning
from taia.runtime.switchable import SwitchableModel
from taia.selection import Selection

#: η at first and at last, between which it falls as a cosine.
_RATES: Final = (0.08, 0.01)
#: Of the averages of gradients, of their squares, and of the loss above the ceiling.
_MOMENTUM: Final = 0.8
_SQUARES: Final = 0.95
_LOSSES: Final = 0.8
#: κ, and the ends of μ.
_PRESS: Final = 0.35
_MULTIPLIERS: Final = (1e-3, 1e4)
#: Learnt rows and kept examples of a step.
_ROWS: Final = 8
_PROMPTS: Final = 4
#: The least of what the loss may be over the tuned model's, and of a gradient's size.
_LEAST_SLACK: Final = 0.01
_TINY: Final = 1e-12


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
    search = Search(Tuning(Meter(model, learn, keep)), start, seed)
    return search.run(ceiling, steps, seconds, progress)


class Search:
    """A search that goes on: under another ceiling, from where the last one ended.

    Args:
        tuning: The model, of which every coefficient is turned.
        start: As :func:`learn` has it.
        seed: Likewise.

    Attributes:
        values: Where it is, ``[coefficients]``.

    Raises:
        InputError: As :func:`learn` does.
    """

    def __init__(self, tuning: Tuning, start: float | Mapping[Place, float], seed: int) -> None:
        self.values = _started(tuning, start)
        self._tuning = tuning
        meter = tuning.meter
        with meter.model.mode("tuned"):
            self._tuned = meter.loss()
        random = np.random.default_rng(seed)
        self._rows = _rounds(len(meter.learn), _ROWS, random)
        self._prompts = _rounds(len(meter.keep), _PROMPTS, random)
        self._multiplier: float | None = None
        self._of_loss = RunningMean(_MOMENTUM)
        self._of_divergence = RunningMean(_MOMENTUM)
        self._squares = RunningMean(_SQUARES)

    def run(
        self,
        ceiling: float,
        steps: int,
        seconds: float = math.inf,
        progress: Callable[[LearningStep], None] | None = None,
    ) -> Learned:
        """Go towards the least KL under a ceiling; what :func:`learn` takes and returns."""
        path = []
        for step in self._steps(ceiling, steps, seconds):
            path.append(step)
            if progress:
                progress(step)
        toward = np.ones(self._tuning.size)
        known: Nats | None = self._tuned
        if self._tuned.mean > ceiling and self._of_loss.count:  # then down the loss's slope
            slope = self._of_loss.value
            toward = np.clip(self.values - slope / (np.abs(slope).max() + _TINY), 0.0, 1.0)
            known = None
        slack = self._slack(ceiling)
        self.values, loss = settle(self._tuning, self.values, ceiling, slack, toward, known)
        with self._tuning.at(self.values):
            divergence = self._tuning.meter.divergence()
        alphas = self._tuning.alphas(self.values)
        squares = self._squares.value if self._squares.count else np.ones(self._tuning.size)
        return Learned(
            alphas,
            self._tuning.places.selection(alphas),
            loss,
            divergence,
            ceiling,
            self._tuning.alphas(squares),
            tuple(path),
        )

    def _steps(self, ceiling: float, steps: int, seconds: float) -> Iterator[LearningStep]:
        began = time.monotonic()
        above = RunningMean(_LOSSES)
        tail = RunningMean(1 - 4 / max(steps, 5))
        for step in range(1, steps + 1):
            if time.monotonic() - began > seconds:
                break
            loss = self._tuning.loss(self.values, next(self._rows))
            divergence = self._tuning.divergence(self.values, next(self._prompts))
            self._of_loss.add(loss.gradient)
            self._of_divergence.add(divergence.gradient)
            estimate = self._tuned.mean + loss.mean - self._mean_of_tuned(loss)
            above.add(estimate - ceiling)
            multiplier = self._pressed(float(above.value), self._slack(ceiling))
            joined = (divergence.gradient + multiplier * loss.gradient) / (1 + multiplier)
            self._squares.add(joined**2)
            move = (self._of_divergence.value + multiplier * self._of_loss.value) / (1 + multiplier)
            rate = _RATES[1] + (_RATES[0] - _RATES[1]) * (1 + math.cos(math.pi * step / steps)) / 2
            self.values = np.clip(
                self.values - rate * move / (np.sqrt(self._squares.value) + _TINY), 0.0, 1.0
            )
            tail.add(self.values)
            yield LearningStep(
                step, time.monotonic() - began, estimate, divergence.mean, multiplier
            )
        if tail.count:
            self.values = tail.value

    def _mean_of_tuned(self, loss: Slope) -> float:
        """The tuned model's loss on the rows of a step."""
        return sum(self._tuned.nats[index] for index in loss.nats) / loss.tokens

    def _slack(self, ceiling: float) -> float:
        """How far the ceiling is from the tuned model's loss: the scale of being over it."""
        return max(abs(ceiling - self._tuned.mean), _LEAST_SLACK)

    def _pressed(self, above: float, slack: float) -> float:
        """μ, begun where the line would be at rest, and moved by how far the loss is over."""
        if self._multiplier is None:
            of_loss, of_divergence = self._of_loss.value.sum(), self._of_divergence.value.sum()
            self._multiplier = (
                float(-of_divergence / of_loss) if of_loss < 0 < of_divergence else 1.0
            )
        press = _PRESS * max(-2.0, min(2.0, above / slack))
        low, high = _MULTIPLIERS
        self._multiplier = max(low, min(high, self._multiplier * math.exp(press)))
        return self._multiplier


def _started(tuning: Tuning, start: float | Mapping[Place, float]) -> np.ndarray:
    if not tuning.size:
        raise InputError(
            "No part of the update can be scaled in a live model.",
            "Choose among whole parts: α of DoRA and of modules saved whole are 0 or 1.",
        )
    values = np.full(tuning.size, 1.0)
    for place, group in tuning.groups.items():
        value = start[place] if isinstance(start, Mapping) else start
        if not 0 <= value <= 1:
            raise InputError(f"{place} was to start at {value}.", "Start at α from 0 to 1.")
        values[group] = value
    return values


def _rounds(count: int, size: int, random: np.random.Generator) -> Iterator[list[int]]:
    """Some of so many examples, again and again, each as often as the others."""
    if not count:
        raise InputError(
            "α were to be learnt without learnt rows, or without kept examples.",
            "Give at least one of each.",
        )
    order: list[int] = []
    while True:
        while len(order) < size:
            order += random.permutation(count).tolist()
        some, order = order[:size], order[size:]
        yield sorted({*some})
