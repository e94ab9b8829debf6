"""Candidates measured on examples, in the live model; each measurement is made once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from taia.errors import RunError
from taia.mending.candidates import BASE, TUNED, Candidate
from taia.mending.choice import BothEnds, Measures
from taia.mending.examples import Example
from taia.mending.journal import Journal, digest
from taia.mending.measures import Meter, Nats

if TYPE_CHECKING:
    from taia.runtime.switchable import SwitchableModel


@dataclass(frozen=True)
class Examples:
    """What candidates are measured on.

    Attributes:
        learn: Rows whose loss shall stay low.
        keep: Prompts with base's own answers, along which nothing shall change.
    """

    learn: tuple[Example, ...]
    keep: tuple[Example, ...]

    @cached_property
    def key(self) -> str:
        """A hash of all of it."""
        return digest(
            [[one.ids, one.counted] for one in (*self.learn, *self.keep)], len(self.learn)
        )

    @cached_property
    def tokens(self) -> int:
        """How many there are of both, counted or not."""
        return sum(len(one.ids) for one in (*self.learn, *self.keep))

    def first(self, learn: int, keep: int) -> Examples:
        """The first few of both."""
        return Examples(self.learn[:learn], self.keep[:keep])

    def rest(self, learn: int, keep: int) -> Examples:
        """All but those."""
        return Examples(self.learn[learn:], self.keep[keep:])


class Bench:
    """Measures candidates.

    Attributes:
        model: The live model.
        evaluations: How many candidates were measured on how many sets: each counts.
        seconds: How long the measuring took, in this process.
        tokens: How many tokens were read for it, each as often as it was.
        examples: How many examples, likewise.

    Args:
        model: The live model.
        journal: What is known already.
    """

    def __init__(self, model: SwitchableModel, journal: Journal) -> None:
        self.model = model
        self.evaluations = 0
        self.seconds, self.tokens, self.examples = 0.0, 0, 0
        self._journal = journal
        self._meters: dict[str, Meter] = {}

    def measure(self, candidate: Candidate, examples: Examples) -> Measures:
        """Both measures of a candidate.

        Raises:
            SelectionError: If it means nothing in this model.
            AdapterError: If the update cannot be cut so.
            RunError: If the model's numbers are none.
        """
        self.evaluations += 1
        key = digest("measured", candidate.identity, examples.key)
        if (known := self._journal.get(key)) is not None:
            return Measures(*(Nats(tuple(a), tuple(b)) for a, b in known))
        meter = self._meters.get(examples.key)
        if meter is None:
            meter = Meter(self.model, examples.learn, examples.keep)
            self._meters[examples.key] = meter
        with self.mode(candidate):
            start = time.perf_counter()
            found = Measures(meter.loss(), meter.divergence())
            self.seconds += time.perf_counter() - start
            self.tokens += examples.tokens
            self.examples += len(examples.learn) + len(examples.keep)
        if not all(_is_number(nats.mean) for nats in (found.loss, found.divergence)):
            raise RunError(
                f"The numbers of {candidate.name} are not finite.",
                "Check the weights, or compute in another --dtype.",
            )
        sides = (found.loss, found.divergence)
        self._journal.put(key, [[list(nats.nats), list(nats.tokens)] for nats in sides])
        return found

    def loss(self, candidate: Candidate, examples: Sequence[Example]) -> Nats:
        """The loss alone, of rows that are kept."""
        key = digest("loss", candidate.identity, [[one.ids, one.counted] for one in examples])
        if (known := self._journal.get(key)) is not None:
            return Nats(*(tuple(part) for part in known))
        with self.mode(candidate):
            found = Meter(self.model, examples, ()).loss()
        self._journal.put(key, [list(found.nats), list(found.tokens)])
        return found

    def ends(self, examples: Examples) -> BothEnds:
        """Base and tuned on examples."""
        return BothEnds(self.measure(BASE, examples), self.measure(TUNED, examples))

    @contextmanager
    def mode(self, candidate: Candidate) -> Iterator[None]:
        """Put the model in a candidate's mode for the length of a block.

        What a method makes takes memory, which is free again when the block ends.
        """
        if candidate.method is None:
            with self.model.mode(candidate.selection):
                yield
            return
        self.add(candidate)
        try:
            with self.model.mode(candidate.name):
                yield
        finally:
            self.model.forget_mode(candidate.name)

    def add(self, candidate: Candidate) -> None:
        """Let the model know a candidate by its name.

        Raises:
            SelectionError: If it means nothing in this model.
            AdapterError: If the update cannot be cut so.
            MethodError: If its method means nothing here.
        """
        if candidate.method is None:
            self.model.add_mode(candidate.name, candidate.selection)
            return
        from taia.methods import Applied

        method = Applied.parse(candidate.method)
        self.model.add_mode(candidate.name, candidate.selection, method=method)


def _is_number(value: float) -> bool:
    return value == value and abs(value) != float("inf")
