"""From models and items to a decision: what is measured when, and how much of it there is time for.

The order is the honesty of it. Whether the fine-tune is worse, the search and the choice look at
the parts to search and to select on; the part to report on is opened when the choice is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taia.errors import AdapterError, InputError, SelectionError
from taia.evaluation.settings import Watch
from taia.mending.bench import Bench, Examples
from taia.mending.budget import FEWEST, Clock
from taia.mending.candidates import BASE, TAIA, TUNED, Candidate, candidates, share_of
from taia.mending.chance import by_chance
from taia.mending.choice import (
    BothEnds,
    Decision,
    Measures,
    Optimism,
    best_of,
    choose,
)
from taia.mending.effort import seconds_to_make
from taia.mending.harm import findings
from taia.mending.items import MendItem
from taia.mending.journal import AFTER, BEFORE, Journal, digest
from taia.mending.learnt import ATTRIBUTION, learnt_candidates, places_of
from taia.mending.result import CandidateRow, Cost, Mended
from taia.mending.scoring import TaskScoring
from taia.mending.search import Found, narrow
from taia.mending.split import Parts
from taia.mending.supply import Supply
from taia.mending.why import Attributed, Evidence, advice, reasons
from taia.mending.worse import is_worse

if TYPE_CHECKING:
    from taia.runtime.switchable import SwitchableModel

#: Of the time to search, what making one candidate may take.
_METHOD: Final = 0.1
#: How many times as many rows are learned from as candidates are measured on.
_ROWS: Final = 2


@dataclass
class Flow:
    """One search.

    Attributes:
        model: The live model.
        supply: Makes examples of items.
        learn: What was to be learnt.
        keep: What must not get worse.
        scoring: The tasks' own scores.
        journal: What is known.
        clock: The time.
        seed: Of draws and of the search.
        is_adapter: Whether the update is one.
        evidence: What the training's record and the update's size say.
        watch: Told how far the work is.
        notes: What a careful reader would want to know.
    """

    model: SwitchableModel
    supply: Supply
    learn: Parts[MendItem]
    keep: Parts[MendItem]
    scoring: TaskScoring
    journal: Journal
    clock: Clock
    seed: int
    is_adapter: bool
    evidence: Mapping[str, Any]
    watch: Watch
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bench = Bench(self.model, self.journal)

    def run(self, output: Path, facts: Mapping[str, Any]) -> Mended:
        """Search, choose, and measure what was chosen.

        Raises:
            DataError: If rows cannot be used.
            RunError: If the model fails.
        """
        tried = candidates(self.is_adapter)
        sizes = self.supply.sizes(
            self.learn.search, self.keep.search, self.bench, self.clock, len(tried)
        )
        search = self.supply.examples(self.learn.search, self.keep.search, sizes.search)
        select = self.supply.examples(self.learn.select, self.keep.select, sizes.select)
        tested = findings(
            [*self.keep.search, *self.keep.select],
            self.scoring,
            self.bench,
            self.supply.tokeniser,
            output / BEFORE,
            self.clock,
        )
        self.notes += self.scoring.notes("To tell whether it is worse")
        worse = is_worse(tested)
        ends = self.bench.ends(search)
        gained = ends.joined(self.bench.ends(select)).gained
        sides = ((BASE, ends.base), (TUNED, ends.tuned))
        rows = [CandidateRow(one, "search", Cost.of(found, ends)) for one, found in sides]
        told: dict[str, Any] = {
            "output": output,
            "worse": worse,
            "findings": tested,
            "learnt": gained,
            "base_loss": ends.base.loss.mean,
        }
        learns = gained.interval is not None and gained.interval[0] > 0
        if worse is False or not learns:
            evidence = Evidence({}, ends, **self.evidence)
            why = reasons(None, worse, evidence, learns=learns)
            return self._told(told, facts, rows=rows, why=why)
        # More rows cost its steps nothing, and of few it would learn what they alone have.
        rows_to_learn = self.supply.rows(self.learn.search, _ROWS * sizes.search)
        found = self._search(tried, search, Examples(rows_to_learn, search.keep))
        decision, compared, select_ends, finalists = self._select(found, select)
        random = self._random(select, select_ends)
        places = self._places(search, decision.name is not None)
        evidence = Evidence(found.line(), found.ends(), places, **self.evidence)
        rows += [
            CandidateRow(one, "select", Cost.of(compared[name], select_ends))
            if name in compared
            else CandidateRow(one, "search", Cost.of(found.measured[name], found.ends(name)))
            for name, one in found.candidates.items()
        ]
        choice = finalists.get(decision.name or "")
        report, last, last_ends = self._report(choice, self._affordable(sizes.report))
        scores = self._scores(output, choice)
        optimism = None
        if choice is not None:
            there = found.measured[choice.name], found.ends(choice.name)
            optimism = Optimism.of(there, (last[choice.name], last_ends))
        return self._told(
            told,
            facts,
            rows=rows,
            decision=decision,
            choice=choice,
            why=reasons(decision, worse, evidence),
            advice=advice(evidence),
            report=report,
            scores=scores,
            optimism=optimism,
            random=random,
            places=places,
        )

    def _told(
        self,
        told: Mapping[str, Any],
        facts: Mapping[str, Any],
        **further: Any,  # noqa: ANN401 - Mended's fields
    ) -> Mended:
        return Mended(
            **told,
            facts={**facts, "seconds": round(self.clock.spent, 1)},
            evaluations=self.bench.evaluations,
            notes=self.notes,
            **further,
        )

    # --- search ---------------------------------------------------------------------------------

    def _search(self, tried: Sequence[Candidate], examples: Examples, more: Examples) -> Found:
        third = max(4, len(examples.learn) // 3), max(4, len(examples.keep) // 3)
        rest = examples.rest(*third)
        rounds = [examples.first(*third), rest] if rest.learn and rest.keep else [examples]
        seconds, key = self.clock.share("search"), digest("cut", examples.key)
        end = self.clock.spent + seconds

        def is_time(one: Candidate) -> bool:
            needed = seconds_to_make(one, self.model.changed, is_adapter=self.is_adapter)
            return needed <= _METHOD * seconds and self.clock.spent + needed < end

        cut = self.journal.get(key)
        found = narrow(
            self.bench,
            tried,
            rounds,
            cut=cut,
            may_go_on=lambda one: cut is not None or is_time(one),
            told=lambda name, done, of: self.watch("Trying candidates", done, of),
        )
        self.journal.put(key, found.cut)
        shares = [share for one in found.best() if (share := share_of(one)) is not None]
        try:
            learnt = learnt_candidates(
                self.model,
                more,
                self.bench.ends(more),
                self.journal,
                start=shares[0] if shares else 0.5,
                seconds=self.clock.share("learn"),
                seed=self.seed,
                watch=self.watch,
            )
        except InputError as error:  # an update that is kept whole or not at all
            found.refused["learned"] = error.problem
            learnt = []
        for candidate in learnt:
            for one in rounds:
                found.take(candidate, self.bench.measure(candidate, one))
        for name, why in found.refused.items():
            self.notes.append(f"{name} was not tried: {why}")
        if never := [name for name in found.cut if name not in found.measured]:
            self.notes.append(f"There was no time for {', '.join(never)}.")
        return found

    def _places(self, examples: Examples, is_chosen: bool) -> list[Attributed]:
        """Where learning and harm lie, if there is time; where none was chosen it says why."""
        each = self.bench.seconds / max(1, self.bench.examples)
        needed = ATTRIBUTION * each
        enough = needed < (0.1 if is_chosen else 0.6) * self.clock.left
        return places_of(self.model, examples, self.journal, enough, self.watch)

    # --- choose ---------------------------------------------------------------------------------

    def _select(
        self, found: Found, examples: Examples
    ) -> tuple[Decision, dict[str, Measures], BothEnds, dict[str, Candidate]]:
        finalists = {one.name: one for one in found.finalists()}
        ends = self.bench.ends(examples)
        compared = {}
        for done, (name, one) in enumerate(finalists.items()):
            self.watch("Comparing the best", done, len(finalists))
            compared[name] = self.bench.measure(one, examples)
        self.watch("Comparing the best", len(finalists), len(finalists))
        numbers = {name: one.numbers for name, one in finalists.items()}
        return choose(compared, ends, numbers), compared, ends, finalists

    def _random(self, examples: Examples, ends: BothEnds) -> tuple[int, Cost | None]:
        """The best of random selections, as many as there were evaluations if time allows."""
        stop, key = self.clock.spent + self.clock.share("random"), digest("random", examples.key)
        known = self.journal.get(key)
        found = by_chance(
            self.bench,
            examples,
            seed=self.seed,
            wanted=known or self.bench.evaluations,
            may_go_on=lambda: known is not None or self.clock.spent < stop,
            told=lambda done, of: self.watch("Random selections, to compare with", done, of),
        )
        self.journal.put(key, len(found))
        best = best_of(found, ends)
        return len(found), None if best is None else Cost.of(best, ends)

    def _affordable(self, size: int) -> int:
        """How many examples of a size there is still time for, in four modes, by what others took.

        Half of the time is for them; the tasks' own scores have the rest.
        """
        key, each = digest("report"), 2 * self.bench.seconds / max(1, self.bench.examples)
        known: int | None = self.journal.get(key)
        if known is None:
            most = int(0.5 * self.clock.share("report") / max(1e-6, 4 * each))
            known = max(FEWEST, min(size, most))
            self.journal.put(key, known)
        return known

    # --- report ---------------------------------------------------------------------------------

    def _report(
        self, choice: Candidate | None, size: int
    ) -> tuple[dict[str, Cost], dict[str, Measures], BothEnds]:
        examples = self.supply.examples(self.learn.report.open(), self.keep.report.open(), size)
        ends = self.bench.ends(examples)
        found = {BASE.name: ends.base, TUNED.name: ends.tuned}
        for one in dict.fromkeys(filter(None, (TAIA, choice))):
            self.watch(f"Measuring {one.name} on what was kept apart", 0, None)
            with suppress(SelectionError, AdapterError):  # of a model without a feed-forward block
                found[one.name] = self.bench.measure(one, examples)
        return {name: Cost.of(one, ends) for name, one in found.items()}, found, ends

    def _scores(self, output: Path, choice: Candidate | None) -> dict[str, Any] | None:
        """The tasks' own scores of base, tuned, the choice and taia on what was kept apart."""
        modes = {}
        for one in dict.fromkeys(filter(None, (BASE, TUNED, choice, TAIA))):
            with suppress(SelectionError, AdapterError):
                self.bench.add(one)
                modes[one.name] = one.selection
                self.scoring.subject.methods |= {one.name: one.method} if one.method else {}
        items = [*self.keep.report.items, *self.learn.report.items]
        self.scoring.run(output / AFTER, modes, items, self.clock.left * 0.9)
        self.notes += self.scoring.notes("For the scores of what was kept apart")
        summary = self.scoring.summary(output / AFTER)
        return None if summary is None else summary.to_json()
