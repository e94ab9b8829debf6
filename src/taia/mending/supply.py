"""Items as examples, as many as there is time for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taia.errors import DataError
from taia.evaluation.settings import Watch
from taia.mending.answers import kept_examples
from taia.mending.bench import Bench, Examples
from taia.mending.budget import FEWEST, Clock, Sizes
from taia.mending.candidates import BASE, TUNED
from taia.mending.examples import Example
from taia.mending.items import MendItem, Tokeniser, in_turn
from taia.mending.journal import Journal, digest
from taia.mending.scoring import Speed

if TYPE_CHECKING:
    from taia.runtime.engine import Engine


@dataclass
class Supply:
    """Makes examples of items.

    Attributes:
        tokeniser: Makes tokens.
        engine: Writes base's answers.
        end: Tokens that end one.
        journal: Answers that are known already.
        speed: How fast the model is; told by the first examples.
        seed: Of base's answers.
        watch: Told how far the work is.
    """

    tokeniser: Tokeniser
    engine: Engine
    end: frozenset[int]
    journal: Journal
    speed: Speed
    seed: int
    watch: Watch

    def sizes(
        self,
        learn: Sequence[MendItem],
        keep: Sequence[MendItem],
        bench: Bench,
        clock: Clock,
        count: int,
    ) -> Sizes:
        """How many examples there is time for, told by a first few.

        Args:
            learn: What is learnt, of which the first are taken.
            keep: What is kept, likewise.
            bench: Measures them.
            clock: The time.
            count: How many candidates will be tried.
        """
        key = digest("sizes")
        known = self.journal.get(key)
        if known is None:
            start = time.perf_counter()
            first = self.examples(learn, keep, FEWEST)
            written = sum(len(one.counted) for one in first.keep)
            self.speed.written = written / max(1e-3, time.perf_counter() - start)
            bench.measure(TUNED, first)
            start = time.perf_counter()
            bench.measure(BASE, first)  # by now nothing is made for the first time
            took = time.perf_counter() - start
            start = time.perf_counter()
            bench.loss(BASE, first.keep)
            read = sum(len(one.ids) for one in first.keep)
            self.speed.read = read / max(1e-3, time.perf_counter() - start)
            pairs = max(1.0, (len(first.learn) + len(first.keep)) / 2)
            sizes = Sizes.of(clock, took / pairs, count)
            known = [sizes.search, sizes.select, sizes.report, self.speed.read, self.speed.written]
            self.journal.put(key, known)
        self.speed.read, self.speed.written = known[3:]
        return Sizes(*known[:3])

    def rows(self, learn: Sequence[MendItem], size: int) -> tuple[Example, ...]:
        """The first so many learnt rows, of each source in turn."""
        rows: list[Example] = []
        for item in in_turn(learn):
            if len(rows) < size and (example := self.tokeniser.example(item)) is not None:
                rows.append(example)
        return tuple(rows)

    def examples(self, learn: Sequence[MendItem], keep: Sequence[MendItem], size: int) -> Examples:
        """The first so many of each, of each source in turn.

        Raises:
            DataError: If nothing is left of them.
        """
        rows = self.rows(learn, size)
        items = in_turn(keep)[:size]
        done, work = 0, f"Base's own answers to {len(items)} prompts"

        def count(number: int) -> None:
            nonlocal done
            done += number
            self.watch(work, done, len(items))

        kept = kept_examples(
            items,
            self.tokeniser,
            self.engine,
            self.end,
            self.journal,
            seed=self.seed,
            progress=count,
        )
        for some, what in ((rows, "--learn"), (kept, "--keep")):
            if not some:
                raise DataError(
                    f"Nothing of {what} is left to measure: its rows are too long for the model.",
                    "Give shorter rows.",
                )
        return Examples(rows, tuple(kept))
